"""What is wrong with studies only beside each other: leaks between splits, classes never trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mdnet.data.study import Fault, LabelSpace, Study

__all__ = ["compare_classes", "compare_splits", "sort_faults"]


def sort_faults(faults: Iterable[Fault]) -> list[Fault]:
    """By file, then by line: the numbers in a place count as numbers."""

    def place(fault: Fault) -> list[str | int]:
        parts = re.split(r"([0-9]+)", fault.where)
        return [int(part) if position % 2 else part for position, part in enumerate(parts)]

    return sorted(faults, key=place)


def compare_splits(studies: Sequence[Study], *, patients_are_guessed: bool = False) -> list[Fault]:
    """A patient, or an image file, in two splits; one fault each.

    Args:
        studies: In file order.
        patients_are_guessed: Patients come from file names: then it is a warning.
    """
    faults = []
    patients: dict[str, Study] = {}
    images: dict[Path, Study] = {}
    told: set[str] = set()
    for study in studies:
        if study.split is None:
            continue
        if study.patient is not None:
            first = patients.setdefault(study.patient, study)
            if first.split != study.split and study.patient not in told:
                told.add(study.patient)
                faults.append(
                    Fault(
                        study.source,
                        f"patient {study.patient!r} stands in two splits: {_both(study, first)}",
                        "keep all studies of a patient in one split",
                        "warning" if patients_are_guessed else "error",
                    )
                )
        for path in study.images:
            first = images.setdefault(path, study)
            if first.split != study.split:
                problem = f"image {path} stands in two splits: {_both(study, first)}"
                faults.append(Fault(study.source, problem, "keep it in one"))
    return faults


def compare_classes(studies: Sequence[Study], label_space: LabelSpace) -> list[Fault]:
    """Classes that stand in val or test and never in train; a warning each."""
    faults: list[Fault] = []
    training = [study for study in studies if study.split == "train"]
    if not training:
        return faults
    for aspect in label_space.aspects:
        seen = {one for study in training for one in _classes(study, aspect.name)}
        for study in studies:
            for one in _classes(study, aspect.name):
                if one not in seen and study.split is not None:
                    seen.add(one)
                    problem = f"class {one!r} of aspect {aspect.name!r} is in {study.split} and not in train"
                    mend = "it cannot be learnt; move studies to train"
                    faults.append(Fault(study.source, problem, mend, "warning"))
    return faults


def _both(study: Study, first: Study) -> str:
    return f"{study.split}, and {first.split} at {first.source}"


def _classes(study: Study, aspect: str) -> tuple[str, ...]:
    label = study.labels.get(aspect, ())
    return (label,) if isinstance(label, str) else label
