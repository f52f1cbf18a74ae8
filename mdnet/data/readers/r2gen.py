"""R2Gen's layout (Chen et al., EMNLP 2020, arXiv 2010.16056): `annotation.json` and `images/`.

    {"train": [{"id": ..., "report": "...", "image_path": ["CXR1/0.png", ...], "label": ...}, ...],
     "val": [...], "test": [...]}

Images are looked for under `images/`, then beside the file; where an entry of the Indiana set names
its `projections` too, also by these names (`mdnet.data.readers.indiana_studies`). A folder may hold a
part of the images only. The report is one section, `report`; for both published sets, Indiana and
MIMIC-CXR, it is the findings of the radiologist's report. An entry is a study: Indiana's has two views,
MIMIC-CXR's one, so a radiologist's study of three images is three entries of one `study_id`.
`label`, where there is one, becomes the aspect `label`, which is the diagnosis; a `dataset.json`
beside the file may declare its classes, else they are those of the training entries. The patient is
the first of `patient`, `patient_id`, `subject_id`, `case_id` and `photo_group` that an entry has.
Other keys are not used. Without val entries, some of train are taken (see `settle_splits`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import Collector, is_file
from mdnet.data.readers.indiana_studies import ImageFinder
from mdnet.data.readers.labels import did_you_mean
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.validation import settle_splits
from mdnet.data.study import SPLITS, Study, StudySet

__all__ = ["ANNOTATION_FILE", "matches", "read"]

ANNOTATION_FILE = "annotation.json"
ASPECT = "label"
_PATIENT_KEYS = ("patient", "patient_id", "subject_id", "case_id", "photo_group")


def matches(root: Path) -> bool:
    """Whether the folder holds `annotation.json`."""
    return (root / ANNOTATION_FILE).is_file()


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`; each entry that cannot be used is a fault."""
    collector = Collector(root, "r2gen", partial=True)
    collector.load_dataset_file()
    file = root / ANNOTATION_FILE
    content = collector.load_json(file)
    if content is not None and not isinstance(content, dict):
        collector.error(file, "not an object", 'write {"train": [...], "val": [...], "test": [...]}')
        content = None
    finder = cache(lambda: ImageFinder(root))  # few sets need it
    for split, entries in (content or {}).items():
        if split not in SPLITS:
            collector.error(
                file, f"unknown split {split!r}{did_you_mean(split, SPLITS)}", f"use {', '.join(SPLITS)}"
            )
        elif not isinstance(entries, list):
            collector.error(file, f"split {split!r} is no list", "list its studies")
        else:
            for position, entry in enumerate(entries):
                _add(entry, split, f"{file} {split}[{position}]", collector, finder=finder)
    settle_splits(collector, file)
    return collector.finish()


def _add(
    entry: Any, split: str, where: str, collector: Collector, *, finder: Callable[[], ImageFinder]
) -> None:
    if not isinstance(entry, dict):
        collector.error(where, "not an object", 'write {"id": ..., "report": ..., "image_path": [...]}')
        return
    errors = collector.error_count
    identifier = collector.identifier(entry.get("id"), where)
    images = _images(entry, where, collector, finder=finder)
    labels = collector.labels({ASPECT: entry.get("label")}, where)
    text = entry.get("report", "")
    report = collector.report("" if text is None else text, where)
    patient = next((entry[key] for key in _PATIENT_KEYS if entry.get(key) not in (None, "")), None)
    study = Study(identifier, images, split, collector.patient(patient), labels, report, source=where)
    collector.add(study, usable=collector.error_count == errors)


def _images(
    entry: dict[str, Any], where: str, collector: Collector, *, finder: Callable[[], ImageFinder]
) -> tuple[Path, ...]:
    """The views, by `image_path`, or by `projections` if no file has a name that it says."""
    names = entry.get("image_path")
    names = [names] if isinstance(names, str) and names else names
    folders = (collector.root / "images", collector.root)
    others = _projections(entry.get("projections"))
    if others and isinstance(names, list) and all(isinstance(name, str) for name in names):
        found = [finder().find(name) for name in others]
        if any(found) and not any(is_file(folder / name) for name in names for folder in folders):
            for name, path in zip(others, found, strict=True):
                collector.note_image(path, finder().expected(name), where)
            return tuple(path for path in found if path is not None)
    return collector.images(names, where, folders)


def _projections(value: Any) -> list[str]:
    """Names of `[["7_IM-2263-1001.dcm.png", "Frontal"], ...]`."""
    pairs = value if isinstance(value, list) else []
    return [pair[0] for pair in pairs if isinstance(pair, list) and pair and isinstance(pair[0], str)]
