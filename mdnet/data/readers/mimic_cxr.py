"""MIMIC-CXR-JPG with the reports of MIMIC-CXR, as PhysioNet publishes them.

Johnson et al., Scientific Data 2019 (doi 10.1038/s41597-019-0322-0) and arXiv 1901.07042.

    mimic-cxr-2.0.0-{split,metadata,chexpert,negbio}.csv, or .csv.gz
    files/p10/p10000032/s50414267/<dicom_id>.jpg
    files/p10/p10000032/s50414267.txt, also under mimic-cxr-reports/files/

A study is a radiologist's report with all its images; its id is the `study_id`, its patient the
`subject_id`. Frontal images come first (`ViewPosition` PA, then AP), lateral ones last. The split is the
official one (`validate` is val). Only one of split and metadata need be there.

Labels are CheXpert's, NegBio's where only those are there. An observation is an aspect with the classes
absent and present; what was not mentioned has no label, and for the uncertain (-1) see
`ReaderOptions.uncertain`. `No Finding` is 1 or blank, so it is no aspect of its own but makes the
diagnosis, the aspect `label`: normal where it is 1, abnormal where an observation other than Support
Devices is present, else not there.

The report is split by its headings (`mdnet.data.report_sections`); findings and impression are read, or
what `dataset.json` lists under `sections`. Text under no heading counts as findings where none are
headed so. Reports of studies without an image here are not opened.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from mdnet.data.readers.collector import Collector, is_file, short
from mdnet.data.readers.csv_rows import read_rows
from mdnet.data.readers.options import ABSENT, PRESENT, UNCERTAIN_CLASS, ReaderOptions
from mdnet.data.readers.validation import settle_splits, split_named
from mdnet.data.report_sections import REPORT, split_sections
from mdnet.data.study import Aspect, LabelSpace, Study, StudySet

__all__ = ["OBSERVATIONS", "SECTIONS", "matches", "read"]

OBSERVATIONS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
    "Lung Lesion", "Lung Opacity", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax",
    "Support Devices",
)  # fmt: skip
SECTIONS = ("findings", "impression")
_NO_FINDING, _DEVICES = "No Finding", "Support Devices"
_LABEL = Aspect("label", ("normal", "abnormal"), "normal")
_IDS = ("subject_id", "study_id")
_VIEWS = {"PA": 0, "AP": 1, "LATERAL": 3, "LL": 3}
_OTHER_VIEW = 2
_NUMBER = re.compile(r"\d+")
_DICOM = re.compile(r"[0-9a-f]+(?:-[0-9a-f]+)*")


@dataclass(slots=True)
class _Record:
    """What the lists say of one study.

    Attributes:
        place: Of the first image in the lists.
        images: (rank of the view, DICOM id).
    """

    subject: str
    place: str
    split: str | None = None
    images: list[tuple[int, str]] = field(default_factory=list)


def matches(root: Path) -> bool:
    """Whether the folder holds the published split or metadata file."""
    return _table(root, "metadata") is not None or _table(root, "split") is not None


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`; each row and report that cannot be used is a fault."""
    collector = Collector(root, "mimic_cxr", partial=True)
    collector.load_dataset_file()
    wanted = collector.declared.sections or SECTIONS
    space = collector.declared.label_space or _label_space(root, options)
    collector.declared = replace(collector.declared, label_space=space, sections=wanted)
    lists = _Lists(collector)
    lists.read(_table(root, "metadata"), _table(root, "split"))
    labels = _labels(_label_table(root), lists.records, collector, options)
    reports = _Reports(root, wanted, collector)
    top = root / "files" if (root / "files").is_dir() else root
    for identifier, record in lists.records.items():
        errors = collector.error_count
        images = _images(top / _folder(record.subject) / f"s{identifier}", record, collector)
        given = {name: label for name, label in labels.get(identifier, {}).items() if name in space}
        report = reports.read(record.subject, identifier) if images else {}
        study = Study(identifier, images, record.split, record.subject, given, report, source=record.place)
        collector.add(study, usable=collector.error_count == errors)
    collector.tell_unread_sections(reports.unread, root)
    settle_splits(collector, root)
    return collector.finish()


def _table(root: Path, kind: str) -> Path | None:
    """The CSV file of that kind, whatever the version in its name."""
    if not root.is_dir():
        return None
    found = sorted(root.glob(f"mimic-cxr-*-{kind}.csv")) + sorted(root.glob(f"mimic-cxr-*-{kind}.csv.gz"))
    return found[0] if found else None


def _label_space(root: Path, options: ReaderOptions) -> LabelSpace:
    if _label_table(root) is None:
        return LabelSpace()
    classes = (ABSENT, PRESENT, UNCERTAIN_CLASS) if options.uncertain == "class" else (ABSENT, PRESENT)
    return LabelSpace((_LABEL, *(Aspect(name, classes, ABSENT) for name in OBSERVATIONS)), _LABEL.name)


def _label_table(root: Path) -> Path | None:
    return _table(root, "chexpert") or _table(root, "negbio")


class _Lists:
    """Reads the metadata and split files.

    Attributes:
        records: The studies, by id.
    """

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.records: dict[str, _Record] = {}
        self._study_of: dict[str, str] = {}  # by DICOM id

    def read(self, metadata: Path | None, splits: Path | None) -> None:
        """Studies are those of the metadata, or, where there are none, of the split file."""
        if metadata is not None:
            for where, row in read_rows(metadata, ("dicom_id", *_IDS, "ViewPosition"), self.collector):
                self._add_image(row, where, rank=_VIEWS.get(row["ViewPosition"].strip().upper(), _OTHER_VIEW))
        else:
            mend = "fetch it: views stand in the order of the split file"
            self.collector.warning(self.collector.root, "no metadata file", mend)
        if splits is not None:
            for where, row in read_rows(splits, ("dicom_id", *_IDS, "split"), self.collector):
                if metadata is None:
                    self._add_image(row, where, rank=_OTHER_VIEW)
                self._set_split(row, where)

    def _add_image(self, row: dict[str, str], where: str, *, rank: int) -> None:
        image, subject, study = row["dicom_id"], row["subject_id"], row["study_id"]
        for name, form in (("dicom_id", _DICOM), ("subject_id", _NUMBER), ("study_id", _NUMBER)):
            if not form.fullmatch(row[name]):
                self.collector.error(where, f"{name} is {short(row[name])}", "write it as PhysioNet does")
                return
        record = self.records.setdefault(study, _Record(subject, where))
        if record.subject != subject:
            problem = (
                f"study {study!r} is of patient {subject!r}, and of {record.subject!r} at {record.place}"
            )
            self.collector.error(where, problem, "a study is of one patient")
        elif image in self._study_of:
            self.collector.error(where, f"image {image!r} stands twice", "name each image once")
        else:
            self._study_of[image] = study
            record.images.append((rank, image))

    def _set_split(self, row: dict[str, str], where: str) -> None:
        study, record = row["study_id"], self.records.get(row["study_id"])
        if (
            record is None
            or record.subject != row["subject_id"]
            or self._study_of.get(row["dicom_id"]) != study
        ):
            self.collector.warning(where, "an image that the metadata do not know so", "it is not used")
            return
        split = self.collector.split(split_named(row["split"]) or row["split"], where)
        if record.split not in (None, split):
            problem = f"study {study!r} stands in two splits: {split}, and {record.split}"
            self.collector.error(where, problem, "keep it in one")
        record.split = split


def _images(folder: Path, record: _Record, collector: Collector) -> tuple[Path, ...]:
    """The images of one study, frontal first."""
    there = folder.is_dir()
    images = []
    for _, name in sorted(record.images, key=lambda image: image[0]):
        path = folder / f"{name}.jpg"
        found = there and is_file(path)
        collector.note_image(path if found else None, path, record.place)
        if found:
            images.append(path)
    return tuple(images)


def _folder(subject: str) -> Path:
    return Path(f"p{subject[:2]}", f"p{subject}")


def _labels(
    table: Path | None, records: dict[str, _Record], collector: Collector, options: ReaderOptions
) -> dict[str, dict[str, str]]:
    """Study id to labels."""
    found: dict[str, dict[str, str]] = {}
    if table is None:
        return found
    uncertain = 0
    for where, row in read_rows(table, (*_IDS, _NO_FINDING, *OBSERVATIONS), collector):
        study, record = row["study_id"], records.get(row["study_id"])
        if record is None or record.subject != row["subject_id"]:
            collector.warning(where, "labels of a study that is not listed", "they are left out")
        elif study in found:
            collector.error(where, f"labels of study {study!r} stand twice", "keep one row a study")
        else:
            values = {
                name: _value(row[name], name, where, collector) for name in (_NO_FINDING, *OBSERVATIONS)
            }
            uncertain += list(values.values()).count(-1)
            found[study] = _labels_of(values, options)
    if uncertain:
        problem = f"{uncertain} uncertain labels (-1) count as {options.uncertain}"
        collector.warning(table, problem, "--uncertain says what they count as")
    return found


def _value(cell: str, name: str, where: str, collector: Collector) -> int | None:
    """1, 0 or -1, which are written as `1.0` too; None for a blank, and after noting an error."""
    values = {"": None, "1": 1, "0": 0, "-1": -1}
    plain = cell.strip().removesuffix(".0")
    if plain not in values:
        collector.error(where, f"label of {name!r} is {short(cell)}", "use 1.0, 0.0, -1.0 or nothing")
    return values.get(plain)


def _labels_of(values: dict[str, int | None], options: ReaderOptions) -> dict[str, str]:
    labels = {}
    for name in OBSERVATIONS:
        value = values[name]
        label = None if value is None else options.observation(value)
        if label is not None:
            labels[name] = label
    if values[_NO_FINDING] == 1:
        labels[_LABEL.name] = "normal"
    elif any(label == PRESENT and name != _DEVICES for name, label in labels.items()):
        labels[_LABEL.name] = "abnormal"
    return labels


class _Reports:
    """Reads the reports' texts.

    Attributes:
        unread: Sections that were not asked for, and in how many reports each stands.
    """

    def __init__(self, root: Path, wanted: tuple[str, ...], collector: Collector) -> None:
        self.wanted = wanted
        self.collector = collector
        self.unread: Counter[str] = Counter()
        tops = [root / "mimic-cxr-reports" / "files", root / "mimic-cxr-reports", root / "files", root]
        self._tops = [top for top in tops if top.is_dir()]

    def read(self, subject: str, study: str) -> dict[str, tuple[str, ...]]:
        """The sections of one report; what keeps it from being read is a fault."""
        name = _folder(subject) / f"s{study}.txt"
        file = next((top / name for top in self._tops if is_file(top / name)), None)
        if file is None:
            self.collector.warning(name.as_posix(), "no report", "the study trains without")
            return {}
        try:
            sections = split_sections(file.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            self.collector.error(file, f"byte {error.start} is not UTF-8", "fetch it again")
            return {}
        except OSError as error:
            self.collector.error(file, f"cannot be read ({error.strerror})", "check path and permissions")
            return {}
        if REPORT in sections and "findings" not in sections and REPORT not in self.wanted:
            sections["findings"] = sections.pop(REPORT)
        self.unread.update(section for section in sections if section not in self.wanted)
        found = {section: sections[section] for section in self.wanted if section in sections}
        if not found:
            problem = f"no text in {' or '.join(self.wanted)}"
            self.collector.warning(file, problem, "the study trains without")
            return {}
        return self.collector.report(found, str(file))
