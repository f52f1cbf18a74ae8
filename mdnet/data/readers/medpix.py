"""MedPix 2.0's layout (Siragusa et al., Data Science and Engineering 2025, arXiv 2407.02994).

    images/<name>.png
    {Descriptions.jsonl, Descriptions.json, or descriptions_{train,dev,test}.jsonl}, maybe in
    splitted_dataset/: an object an image
    {"image": "<name>", "Type": "CT", "U_id": "<case>", "Location Category": "Head", "Location": ...,
     "Description": {"Caption": "...", "Plane": "Axial", ...}}

A study is one image; its case is the patient. The body region (`Location Category`) is the aspect
`location`, which is the diagnosis; `Type` is `modality`; `plane` is axial, coronal, sagittal or other,
and missing where it is not specified. The caption is the one section, `caption`. The texts of
`Case_topic` are not used: they tell of the case, not of what the image shows. The parts of the training
split (`train_1`, `train_2`) are not read, as they stand in it too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import Collector
from mdnet.data.readers.image_names import ImageNames
from mdnet.data.readers.json_lines import read_json_lines
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.validation import settle_splits, split_named
from mdnet.data.study import Study, StudySet

__all__ = ["matches", "read"]

_WHOLE = ("Descriptions.jsonl", "Descriptions.json")
_SPLIT_FOLDER = "splitted_dataset"
_PLANES = {"axial": "axial", "transverse": "axial", "coronal": "coronal", "sagittal": "sagittal"}


def matches(root: Path) -> bool:
    """Whether the folder holds descriptions of images."""
    return bool(_files(root))


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`; each entry that cannot be used is a fault."""
    collector = Collector(root, "medpix")
    collector.load_dataset_file()
    declared = collector.declared
    collector.declared = replace(
        declared, diagnosis=declared.diagnosis or "location", sections=declared.sections or ("caption",)
    )
    files = _files(root)
    images = ImageNames(collector, (root / "images", root.parent / "images", root))
    for split, file in files:
        for where, entry in _entries(file, collector):
            _add(entry, split, where, images, collector)
    settle_splits(collector, files[0][1])
    return collector.finish()


def _files(root: Path) -> list[tuple[str | None, Path]]:
    """The descriptions, a file a split; or else the one with all of them."""
    for folder in (root, root / _SPLIT_FOLDER):
        named = sorted(folder.glob("descriptions_*.jsonl"))
        splits = [(split_named(file.stem.partition("_")[2]), file) for file in named]
        if found := [(split, file) for split, file in splits if split is not None]:
            return [*found]
    whole = next((root / name for name in _WHOLE if (root / name).is_file()), None)
    return [] if whole is None else [(None, whole)]


def _entries(file: Path, collector: Collector) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".jsonl":
        yield from read_json_lines(file, collector)
        return
    content = collector.load_json(file)
    if content is not None and not isinstance(content, list):
        collector.error(file, "not a list", "write a list of the images' descriptions")
        return
    yield from ((f"{file} [{place}]", entry) for place, entry in enumerate(content or []))


def _add(entry: Any, split: str | None, where: str, images: ImageNames, collector: Collector) -> None:
    about = entry.get("Description") if isinstance(entry, dict) else None
    if not isinstance(about, dict):
        collector.error(where, "no description", 'write {"image": ..., "Description": {"Caption": ...}}')
        return
    errors = collector.error_count
    name = collector.identifier(entry.get("image"), where)
    labels = {"location": entry.get("Location Category"), "modality": entry.get("Type")}
    study = Study(
        name,
        images.find([name] if name else [], where),
        split,
        collector.patient(entry.get("U_id")),
        collector.labels(labels | {"plane": _plane(about.get("Plane"))}, where),
        collector.report(about.get("Caption") or "", where),
        source=where,
    )
    collector.add(study, usable=collector.error_count == errors)


def _plane(value: Any) -> Any:
    """One of the three planes, or `other`; None where it is not specified."""
    if not isinstance(value, str) or not value.strip() or value.startswith("NOS"):
        return None
    return _PLANES.get(value.strip().casefold(), "other")
