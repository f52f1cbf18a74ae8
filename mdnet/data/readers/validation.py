"""Splits by the names that they go by, and for data sets that are published without."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mdnet.data.study import SPLITS, Study
from mdnet.data.study_list import StudyList

if TYPE_CHECKING:
    from mdnet.data.readers.collector import Collector

__all__ = ["carve_splits", "carve_validation", "settle_splits", "split_named"]

_ONE_IN = 10
_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing"),
}
_BY_NAME = {name: split for split, names in _NAMES.items() for name in names}


def split_named(name: str) -> str | None:
    """The split that goes by this name (validation, Dev, ...), or None."""
    return _BY_NAME.get(name.strip().casefold())


def carve_validation(studies: Sequence[Study]) -> Sequence[Study]:
    """The studies, about a tenth of those of train moved to val if there is no val.

    A patient (a study, where no patient is known) is moved whole, if SHA-256 of its name falls on 0
    modulo 10; so the choice depends on nothing else in the set. If it falls so for none, the one
    with the least hash is moved, as long as one stays in train.
    """
    if any(study.split == "val" for study in studies):
        return studies
    chosen = _chosen({_group(study) for study in studies if study.split == "train"}, remainder=0)
    return StudyList(
        replace(study, split="val") if study.split == "train" and _group(study) in chosen else study
        for study in studies
    )


def carve_splits(studies: Sequence[Study]) -> Sequence[Study]:
    """The studies, all in train but for a tenth in val, as `carve_validation` chooses it, and one in test.

    Test is what falls on 1 modulo 10.
    """
    groups = set(map(_group, studies))
    split_of = dict.fromkeys(_chosen(groups, remainder=0), "val")
    split_of |= dict.fromkeys(_chosen(groups - split_of.keys(), remainder=1), "test")
    return StudyList(replace(study, split=split_of.get(_group(study), "train")) for study in studies)


def settle_splits(collector: Collector, where: str | Path) -> None:
    """Gives the studies read so far the splits that they lack: val, or all where none has any."""
    listed = {study.split for part in (collector.studies, collector.without_images) for study in part}
    if listed - {None}:
        if "val" not in listed:
            collector.studies = carve_validation(collector.studies)
            collector.without_images = carve_validation(collector.without_images)
            collector.carved = ("val",)
        return
    collector.carved = ("val", "test")
    collector.studies = carve_splits(collector.studies)
    collector.without_images = carve_splits(collector.without_images)
    if not collector.studies:
        return
    counts = Counter(study.split for study in collector.studies)
    numbers = ", ".join(f"{counts[split]} {split}" for split in SPLITS)
    known = any(study.patient is not None for study in collector.studies)
    by = "patient" if known else "study, as no patient is known"
    collector.warning(where, f"no split; by a hash of the {by}: {numbers}", "name the split of each study")


def _chosen(groups: Collection[str], *, remainder: int) -> set[str]:
    """Those of the groups whose hash leaves `remainder`; not all, and of more than one at least one."""
    if len(groups) < 2:
        return set()
    hashes = {
        group: int(hashlib.sha256(group.encode("utf-8", "replace")).hexdigest(), 16) for group in groups
    }
    chosen = {group for group, number in hashes.items() if number % _ONE_IN == remainder}
    return chosen if 0 < len(chosen) < len(groups) else {min(groups, key=hashes.__getitem__)}


def _group(study: Study) -> str:
    return study.patient if study.patient is not None else study.id
