"""R2Gen's layout (Chen et al., EMNLP 2020, arXiv 2010.16056): `annotation.json` and `images/`.

    {"train": [{"id": ..., "report": "...", "image_path": ["CXR1/0.png", ...], "label": ...}, ...],
     "val": [...], "test": [...]}

Images are looked for under `images/`, then beside the file. The report is one section, `report`.
`label`, where there is one, becomes the aspect `label`, which is the diagnosis; a `dataset.json`
beside the file may declare its classes, else they are those of the training entries. The patient is
the first of `patient`, `patient_id`, `subject_id`, `case_id` and `photo_group` that an entry has.
Other keys are not used. Without val entries, some of train are taken (see `carve_validation`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import Collector
from mdnet.data.readers.labels import did_you_mean
from mdnet.data.readers.validation import carve_validation
from mdnet.data.study import SPLITS, Study, StudySet

__all__ = ["ANNOTATION_FILE", "matches", "read"]

ANNOTATION_FILE = "annotation.json"
ASPECT = "label"
_PATIENT_KEYS = ("patient", "patient_id", "subject_id", "case_id", "photo_group")


def matches(root: Path) -> bool:
    """Whether the folder holds `annotation.json`."""
    return (root / ANNOTATION_FILE).is_file()


def read(root: Path) -> StudySet:
    """The studies of `root`; each entry that cannot be used is a fault."""
    collector = Collector(root, "r2gen")
    collector.load_dataset_file()
    file = root / ANNOTATION_FILE
    content = collector.load_json(file)
    if content is not None and not isinstance(content, dict):
        collector.error(file, "not an object", 'write {"train": [...], "val": [...], "test": [...]}')
        content = None
    for split, entries in (content or {}).items():
        if split not in SPLITS:
            collector.error(
                file, f"unknown split {split!r}{did_you_mean(split, SPLITS)}", f"use {', '.join(SPLITS)}"
            )
        elif not isinstance(entries, list):
            collector.error(file, f"split {split!r} is no list", "list its studies")
        else:
            for position, entry in enumerate(entries):
                _add(entry, split, f"{file} {split}[{position}]", collector)
    collector.studies = carve_validation(collector.studies)
    return collector.finish()


def _add(entry: Any, split: str, where: str, collector: Collector) -> None:
    if not isinstance(entry, dict):
        collector.error(where, "not an object", 'write {"id": ..., "report": ..., "image_path": [...]}')
        return
    errors = collector.error_count
    identifier = collector.identifier(entry.get("id"), where)
    paths = entry.get("image_path")
    paths = [paths] if isinstance(paths, str) and paths else paths
    images = collector.images(paths, where, (collector.root / "images", collector.root))
    labels = collector.labels({ASPECT: entry.get("label")}, where)
    text = entry.get("report", "")
    report = collector.report("" if text is None else text, where)
    patient = next((entry[key] for key in _PATIENT_KEYS if entry.get(key) not in (None, "")), None)
    study = Study(identifier, images, split, collector.patient(patient), labels, report, source=where)
    collector.add(study, usable=collector.error_count == errors)
