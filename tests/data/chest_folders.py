"""Small chest X-ray collections of the published shapes, written for tests; every sentence is made up."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from study_folders import write_image

from mdnet.data import read_studies
from mdnet.data.study import Study, StudySet

OBSERVATIONS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
    "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia",
    "Pneumothorax", "Support Devices",
)  # fmt: skip


@dataclass(frozen=True)
class Exam:
    """One Indiana examination: `views` are (series number, projection) in the order of the files."""

    number: int
    findings: str = "The lungs are clear."
    impression: str = "Nothing acute."
    problems: Sequence[str] = ("normal",)
    views: Sequence[tuple[str, str]] = (("1001", "Frontal"), ("2001", "Lateral"))
    other: dict[str, str] = field(default_factory=lambda: {"indication": "Cough.", "comparison": ""})

    def names(self) -> list[str]:
        """As Kaggle names them."""
        return [f"{self.number}_IM-{self.number:04}-{series}.dcm.png" for series, _ in self.views]


EXAMS = (
    Exam(7, "A small opacity is seen.", "Opacity, left.", ("Opacity", "Spine"),
         (("2001", "Lateral"), ("1001", "Frontal"))),
    Exam(12, "Opacity at the base.", "", ("Opacity",), (("1001", "Frontal"),)),
    Exam(30),
    Exam(31, "", "The heart is large.", ("Cardiomegaly", "Spine")),
    Exam(32, "Not seen by anybody.", "None.", ("No Indexing",)),
)  # fmt: skip


def write_csv(file: Path, rows: Iterable[Sequence[Any]]) -> Path:
    """Rows as CSV, packed where the name says so."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    content = text.getvalue().encode()
    file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)
    return file


def write_images(folder: Path, names: Iterable[str]) -> None:
    for seed, name in enumerate(names):
        if not (folder / name).exists():
            write_image(folder / name, seed=seed)


def write_indiana(root: Path, exams: Sequence[Exam] = EXAMS, *, folder: str | None = "images") -> Path:
    """Kaggle's pair of CSV files."""
    root.mkdir(parents=True, exist_ok=True)
    reports: list[Sequence[Any]] = [
        ("uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression")
    ]
    projections: list[Sequence[Any]] = [("uid", "filename", "projection")]
    for exam in exams:
        other = [exam.other.get(name, "") for name in ("indication", "comparison")]
        problems = ";".join(exam.problems)
        reports.append((exam.number, problems, problems, "Chest", *other, exam.findings, exam.impression))
        names = exam.names()
        projections += [(exam.number, name, view) for name, (_, view) in zip(names, exam.views, strict=True)]
        if folder is not None:
            write_images(root / folder, names)
    write_csv(root / "indiana_reports.csv", reports)
    write_csv(root / "indiana_projections.csv", projections)
    return root


def open_i_name(exam: Exam, name: str) -> str:
    """Open-i's name of an image, without ending."""
    return ("CXR1_" if exam.number == 1 else "CXR") + name.removesuffix(".dcm.png")


def write_openi(root: Path, exams: Sequence[Exam] = EXAMS, *, folder: str | None = "images") -> Path:
    """Open-i's XML files and PNG images."""
    (root / "ecgen-radiology").mkdir(parents=True, exist_ok=True)
    for exam in exams:
        texts = exam.other | {"findings": exam.findings, "impression": exam.impression}
        abstract = "".join(
            f"<AbstractText Label={quoteattr(name.upper())}>{escape(text)}</AbstractText>"
            for name, text in texts.items()
        )
        terms = "".join(f"<major>{escape(problem)}/base/mild</major>" for problem in exam.problems)
        names = [open_i_name(exam, name) for name in exam.names()]
        images = "".join(
            f"<parentImage id={quoteattr(name)}><figureId>F1</figureId>"
            f"<caption>Chest {'lateral' if view == 'Lateral' else 'PA'}</caption></parentImage>"
            for name, (_, view) in zip(names, exam.views, strict=True)
        )
        (root / "ecgen-radiology" / f"{exam.number}.xml").write_text(
            f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="CXR{exam.number}"/>'
            f"<MedlineCitation><Article><Abstract>{abstract}</Abstract></Article></MedlineCitation>"
            f"<MeSH>{terms}<automatic>heart</automatic></MeSH>{images}</eCitation>\n",
            encoding="utf-8",
        )
        if folder is not None:
            write_images(root / folder, [f"{name}.png" for name in names])
    return root


def r2gen_iu_entry(exam: Exam, split: str, **changes: Any) -> dict[str, Any]:
    """One of R2Gen's entries, Indiana flavour."""
    name = f"CXR{exam.number}_IM-{exam.number:04}"
    label = "no_indexing" if "No Indexing" in exam.problems else "abnormal"
    entry = {
        "id": name,
        "report": exam.findings,
        "image_path": [f"{name}/{number}.png" for number in range(len(exam.views))],
        "split": split,
        "label": "normal" if tuple(exam.problems) == ("normal",) else label,
    }
    return entry | changes


def write_r2gen(root: Path, content: dict[str, list[dict[str, Any]]], *, images: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotation.json").write_text(json.dumps(content))
    if images:
        write_images(
            root / "images",
            [name for part in content.values() for entry in part for name in entry["image_path"]],
        )
    return root


@dataclass(frozen=True)
class Radiograph:
    """One study of MIMIC-CXR: `images` are (DICOM id, ViewPosition)."""

    study: int
    subject: int
    images: Sequence[tuple[str, str]]
    split: str = "train"
    report: str | None = "FINDINGS: Clear.\n\n IMPRESSION: Nothing."
    labels: dict[str, str] | None = None


RADIOGRAPHS = (
    Radiograph(
        50000001, 10000032, (("0a-1", "LATERAL"), ("0b-2", "AP"), ("0c-3", "PA")), "train",
        " FINAL REPORT\n INDICATION:  Cough.\n \n FINDINGS:  A small\n effusion.\n \n IMPRESSION: Effusion.",
        {"Pleural Effusion": "1.0", "Pneumothorax": "0.0", "Edema": "-1.0", "Support Devices": "1.0"},
    ),
    Radiograph(
        50000002, 10000032, (("0d-4", "AP"),), "train",
        " FINAL REPORT\n COMPARISON:  None.\n \n Lungs are clear.\n", {"No Finding": "1.0"},
    ),
    Radiograph(
        50000003, 11000001, (("0e-5", ""), ("0f-6", "PA")), "validate",
        "Clear lungs and no headings.", {"Support Devices": "1.0", "Pneumonia": "-1.0"},
    ),
    Radiograph(50000004, 12000001, (("10-7", "PA"),), "test", "FINDINGS: Clear.", None),
)  # fmt: skip


def image_path(study: Radiograph, dicom: str) -> str:
    subject = str(study.subject)
    return f"files/p{subject[:2]}/p{subject}/s{study.study}/{dicom}.jpg"


def write_mimic(
    root: Path,
    studies: Sequence[Radiograph] = RADIOGRAPHS,
    *,
    ending: str = ".csv",
    labeller: str = "chexpert",
    reports: str = "files",
) -> Path:
    """The published CSV files, images and reports."""
    root.mkdir(parents=True, exist_ok=True)
    metadata: list[Sequence[Any]] = [("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows")]
    splits: list[Sequence[Any]] = [("dicom_id", "study_id", "subject_id", "split")]
    labels: list[Sequence[Any]] = [("subject_id", "study_id", *OBSERVATIONS)]
    for study in studies:
        for dicom, view in study.images:
            metadata.append((dicom, study.subject, study.study, view, 2000))
            splits.append((dicom, study.study, study.subject, study.split))
            if not (root / image_path(study, dicom)).exists():
                write_image(root / image_path(study, dicom), seed=study.study)
        if study.labels is not None:
            labels.append(
                (study.subject, study.study, *(study.labels.get(name, "") for name in OBSERVATIONS))
            )
        if study.report is not None:
            folder = root / reports / f"p{str(study.subject)[:2]}" / f"p{study.subject}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"s{study.study}.txt").write_text(study.report, encoding="utf-8")
    write_csv(root / f"mimic-cxr-2.0.0-metadata{ending}", metadata)
    write_csv(root / f"mimic-cxr-2.0.0-split{ending}", splits)
    write_csv(root / f"mimic-cxr-2.0.0-{labeller}{ending}", labels)
    return root


def change_cells(file: Path, *changes: tuple[int, str, str]) -> None:
    """Sets cells of a CSV file: row (0 is the header), column, value."""
    with file.open(newline="") as content:
        rows = list(csv.reader(content))
    for row, column, value in changes:
        rows[row][rows[0].index(column)] = value
    write_csv(file, rows)


def problems_of(root: Path, severity: str | None = None, **options: Any) -> list[str]:
    """What is told of a data set, all of it or of one severity."""
    faults = read_studies(root, strict=False, **options).faults
    return [fault.problem for fault in faults if severity in (None, fault.severity)]


def by_id(studies: StudySet) -> dict[str, Study]:
    return {study.id: study for study in studies.studies}
