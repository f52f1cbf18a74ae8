"""A validation split for data sets that are published without one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from mdnet.data.study import Study

__all__ = ["carve_validation"]

_ONE_IN = 10


def carve_validation(studies: Sequence[Study]) -> list[Study]:
    """The studies, about a tenth of those of train moved to val if there is no val.

    A patient (a study, where no patient is known) is moved whole, if SHA-256 of its name falls on 0
    modulo 10; so the choice depends on nothing else in the set. If it falls so for none, the one
    with the least hash is moved, as long as one stays in train.
    """
    groups = {_group(study) for study in studies if study.split == "train"}
    if any(study.split == "val" for study in studies) or len(groups) < 2:
        return list(studies)
    hashes = {
        group: int(hashlib.sha256(group.encode("utf-8", "replace")).hexdigest(), 16) for group in groups
    }
    chosen = {group for group, number in hashes.items() if number % _ONE_IN == 0}
    if not chosen or chosen == groups:
        chosen = {min(groups, key=hashes.__getitem__)}
    return [
        replace(study, split="val") if study.split == "train" and _group(study) in chosen else study
        for study in studies
    ]


def _group(study: Study) -> str:
    return study.patient if study.patient is not None else study.id
