"""Our own layout: `studies.jsonl`, a study a line, beside `dataset.json` (docs/data.md).

`dataset.json` may be absent: the label space is then that of the training studies, and the sections
are those of the reports, in the order of their first appearance. Paths are relative to the folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import DATASET_FILE, Collector
from mdnet.data.readers.json_lines import read_json_lines
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.study import Study, StudySet

__all__ = [
    "STUDIES_FILE", "add_entry", "dataset_to_dict", "matches", "read", "study_to_dict", "write_studies",
]  # fmt: skip

STUDIES_FILE = "studies.jsonl"
_KEYS = ("id", "images", "split", "patient", "labels", "report", "masks")


def matches(root: Path) -> bool:
    """Whether the folder holds `studies.jsonl`."""
    return (root / STUDIES_FILE).is_file()


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`; each line that cannot be used is a fault."""
    collector = Collector(root, "studies")
    collector.load_dataset_file()
    file = root / STUDIES_FILE
    for where, entry in read_json_lines(file, collector):
        add_entry(entry, where, collector)
    return collector.finish()


def add_entry(entry: dict[str, Any], where: str, collector: Collector) -> None:
    """Checks every field, so that all faults of a line are told at once; then takes the study in."""
    errors = collector.error_count
    collector.note_unknown_keys(entry, where, _KEYS)
    identifier = collector.identifier(entry.get("id"), where)
    images = collector.images(entry.get("images"), where, (collector.root,))
    split = collector.split(entry.get("split"), where)
    labels = collector.labels(entry.get("labels"), where)
    report = collector.report(entry.get("report"), where)
    masks = collector.masks(entry.get("masks"), where)
    patient = collector.patient(entry.get("patient"))
    study = Study(identifier, images, split, patient, labels, report, masks, where)
    collector.add(study, usable=collector.error_count == errors)


def study_to_dict(study: Study, root: Path) -> dict[str, Any]:
    """The study as its line of `studies.jsonl` says it, paths relative to `root`."""

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path, root)).as_posix()

    entry = {
        "id": study.id,
        "images": [relative(path) for path in study.images],
        "split": study.split,
        "patient": study.patient,
        "labels": {
            name: label if isinstance(label, str) else list(label) for name, label in study.labels.items()
        },
        "report": {section: list(texts) for section, texts in study.report.items()},
        "masks": {name: relative(path) for name, path in study.masks.items()},
    }
    return {key: value for key, value in entry.items() if value not in (None, {})}


def dataset_to_dict(studies: StudySet) -> dict[str, Any]:
    """The content of `dataset.json`."""
    return studies.label_space.to_dict() | {
        "sections": list(studies.sections),
        "provenance": studies.provenance,
    }


def write_studies(studies: StudySet, folder: Path) -> None:
    """Writes `studies.jsonl` and `dataset.json` into `folder`; images and masks stay where they are."""
    record = dataset_to_dict(studies)
    (folder / DATASET_FILE).write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = [json.dumps(study_to_dict(study, folder), ensure_ascii=False) for study in studies.studies]
    (folder / STUDIES_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
