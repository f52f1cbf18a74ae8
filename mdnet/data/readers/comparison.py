"""What is wrong with studies only beside each other: leaks between splits, classes never trained."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mdnet.data.study import SPLITS, Fault, LabelSpace, Study

__all__ = ["TOLD_EACH", "compare_studies", "fold_warnings", "repeated", "sort_faults"]

TOLD_EACH = 5
"""So many warnings of one kind are told each at its place; more become one that counts them."""


def sort_faults(faults: Iterable[Fault]) -> list[Fault]:
    """By file, then by line: the numbers in a place count as numbers."""

    def place(fault: Fault) -> list[str | int]:
        parts = re.split(r"([0-9]+)", fault.where)
        return [int(part) if position % 2 else part for position, part in enumerate(parts)]

    return sorted(faults, key=place)


def fold_warnings(faults: Iterable[Fault]) -> list[Fault]:
    """Warnings of the same words in more than `TOLD_EACH` places become one, at the first place."""
    places: dict[tuple[str, str], list[str]] = {}
    kept = []
    for fault in faults:
        if fault.severity == "error":
            kept.append(fault)
        else:
            places.setdefault((fault.problem, fault.mend), []).append(fault.where)
    for (problem, mend), where in places.items():
        if len(where) > TOLD_EACH:
            file = where[0].rpartition(":")[0]
            others = ", ".join(place.removeprefix(file) for place in where[1:TOLD_EACH])
            problem += f" ({len(where)} times: also at {others}, ...)"
            kept.append(Fault(where[0], problem, mend, "warning"))
        else:
            kept += [Fault(place, problem, mend, "warning") for place in where]
    return kept


def compare_studies(
    studies: Sequence[Study], label_space: LabelSpace, *, patients_are_guessed: bool = False
) -> list[Fault]:
    """What is wrong with studies beside each other.

    A patient, or an image file, in two splits; a class in val or test and never in train; no split where
    others have one. The studies are gone through once: of a large set, that is what takes time.

    Args:
        studies: In file order.
        label_space: Theirs.
        patients_are_guessed: Patients come from file names: then one in two splits is a warning.
    """
    names = _Names()
    trained: dict[str, set[str]] = {name: set() for name in label_space.names}
    elsewhere: dict[tuple[str, str], Study] = {}  # aspect and class to the first study not of train
    without: Study | None = None
    counts = Counter[str | None]()
    for study in studies:
        counts[study.split] += 1
        if study.split is None:
            without = without or study
            continue
        names.add(study)
        for name in trained:
            if study.split == "train":
                trained[name].update(_classes(study, name))
            else:
                for one in _classes(study, name):
                    elsewhere.setdefault((name, one), study)
    faults = _leaks(names.suspects(studies), patients_are_guessed=patients_are_guessed)
    for (name, one), study in elsewhere.items():
        if counts["train"] and one not in trained[name]:
            problem = f"class {one!r} of aspect {name!r} is in {study.split} and not in train"
            mend = "it cannot be learnt; move studies to train"
            faults.append(Fault(study.source, problem, mend, "warning"))
    if without is not None and counts[None] < len(studies):
        problem = f"no split, like {counts[None] - 1} more" if counts[None] > 1 else "no split"
        mend = "name one; a study without takes part in nothing"
        faults.append(Fault(without.source, problem, mend, "warning"))
    return faults


def repeated(values: array[int]) -> set[int]:
    """The numbers that stand more than once in an array of 64-bit integers."""
    found = np.sort(np.frombuffer(values, np.int64))
    return set(found[1:][found[1:] == found[:-1]].tolist())


class _Names:
    """Patients and images of many studies, by hash, with their splits: 9 bytes each."""

    def __init__(self) -> None:
        self.hashes = array("q")
        self.splits = bytearray()

    def add(self, study: Study) -> None:
        assert study.split is not None
        for name in _names(study):
            self.hashes.append(hash(name))
            self.splits.append(SPLITS.index(study.split))

    def suspects(self, studies: Sequence[Study]) -> list[Study]:
        """The studies that share a hash with one of another split, in file order."""
        keys, splits = np.frombuffer(self.hashes, np.int64), np.frombuffer(self.splits, np.uint8)
        order = np.lexsort((splits, keys))
        keys, splits = keys[order], splits[order]
        shared = set(keys[1:][(keys[1:] == keys[:-1]) & (splits[1:] != splits[:-1])].tolist())
        if not shared:
            return []
        return [
            study
            for study in studies
            if study.split is not None and any(hash(name) in shared for name in _names(study))
        ]


def _names(study: Study) -> list[tuple[str, str]]:
    """What must not stand in two splits."""
    names = [("image", str(path)) for path in study.images]
    return names if study.patient is None else [("patient", study.patient), *names]


def _leaks(studies: Iterable[Study], *, patients_are_guessed: bool) -> list[Fault]:
    """A patient, or an image file, in two splits; one fault each."""
    faults = []
    patients: dict[str, Study] = {}
    images: dict[Path, Study] = {}
    told: set[str] = set()
    for study in studies:
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


def _both(study: Study, first: Study) -> str:
    return f"{study.split}, and {first.split} at {first.source}"


def _classes(study: Study, aspect: str) -> tuple[str, ...]:
    label = study.labels.get(aspect, ())
    return (label,) if isinstance(label, str) else label
