"""What a system said of one study, beside the truth: all that the metrics need, and no map.

A record comes from a model (`mdnet.evaluation.collect`) or from another system's file
(`mdnet.evaluation.predictions`); the metrics cannot tell which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.data.study import MISSING, Aspect, Study
from mdnet.inference.finding import Unusualness

__all__ = ["MapScore", "Metrics", "StudyRecord", "count_in_words", "groups_of", "is_right", "target_of"]

Metrics = dict[str, Any]


@dataclass(frozen=True)
class MapScore:
    """How one map of one study meets one mask."""

    kind: str  # "evidence" or "attention"
    aspect: str
    label: str
    hit: bool
    energy: float
    chance: float
    correct: bool  # the study's class was predicted


@dataclass(frozen=True)
class StudyRecord:
    """One study's answers and truth; a few kilobytes.

    Attributes:
        study: The truth.
        labels: Aspect name to the class, or the classes of a multi-label aspect.
        probabilities: Aspect name to (classes,), calibrated where the model is; an aspect of which the
            system names classes only has no entry.
        text: The report, "" where the system wrote an empty one; None where it writes none at all.
        sections: The same, section by section; empty where the report is undivided.
        features: C(I), pooled over positions, (D,); None without a model.
        unusualness: How far the image is from those the model knows; None where it is not calibrated.
        maps: How its maps meet the masks.
        tissue: Share of the diagnosis's contrast that lies on tissue, and tissue's share of the area.
        line: What `predictions.jsonl` holds of it.
    """

    study: Study
    labels: Mapping[str, tuple[str, ...]]
    probabilities: Mapping[str, Sequence[float]]
    text: str | None = None
    sections: Mapping[str, str] = field(default_factory=dict)
    features: npt.NDArray[np.float32] | None = None
    unusualness: Unusualness | None = None
    maps: tuple[MapScore, ...] = ()
    tissue: tuple[float, float] | None = None
    line: Mapping[str, Any] = field(default_factory=dict)


def target_of(study: Study, aspect: Aspect) -> int | list[int]:
    """Class index, or a 0/1 list (multi-label), or -100 where the label is missing or unknown."""
    label = study.labels.get(aspect.name)
    if aspect.multi_label:
        return [MISSING] * len(aspect.classes) if label is None else [int(c in label) for c in aspect.classes]
    return aspect.classes.index(str(label)) if label in aspect.classes else MISSING


def is_right(record: StudyRecord, aspect: Aspect) -> bool | None:
    """Whether the answer is the truth, all of it for a multi-label aspect; None where either is missing."""
    truth = record.study.labels.get(aspect.name)
    if truth is None or aspect.name not in record.labels:
        return None
    if aspect.multi_label:
        return set(record.labels[aspect.name]) == set(truth)
    return record.labels[aspect.name] == (truth,) if truth in aspect.classes else None


def groups_of(records: Sequence[StudyRecord]) -> list[tuple[str, str]]:
    """The patient of every record, what a bootstrap draws; a study without one is its own."""
    return [
        ("study", record.study.id) if record.study.patient is None else ("patient", record.study.patient)
        for record in records
    ]


def count_in_words(studies: int, patients: int) -> str:
    """How many studies, and of how many patients where these are fewer."""
    counted = f"{studies} {'study' if studies == 1 else 'studies'}"
    if patients == studies:
        return counted
    return f"{counted} of {patients} {'patient' if patients == 1 else 'patients'}"
