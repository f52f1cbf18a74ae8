"""What is taken for what: the confusion matrix of every aspect as a table, the diagnosis first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdnet.report.digest import Measured, measured

__all__ = ["ClassScores", "ConfusionCell", "ConfusionRow", "ConfusionTable", "Mistake", "confusion_tables"]

MOST_CLASSES = 16  # a larger matrix is no picture: its commonest mistakes are listed instead
MOST_MISTAKES, MOST_SCORED = 20, 100  # rows of the lists of an aspect with many classes
_FEW_MISTAKES = 3  # named beside a matrix
SHADES = 10  # steps of the shade, as the style sheet has them

_SCORES = ("precision", "recall", "f1", "auroc", "average_precision")

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class ConfusionCell:
    """Studies of one true class that got one answer.

    Attributes:
        share: Of the studies of the true class; None where there are none.
        shade: The share in tenths, 0 only where there is no study.
    """

    count: int
    share: float | None
    shade: int
    right: bool


@dataclass(frozen=True)
class ConfusionRow:
    """One true class."""

    truth: str
    studies: int
    cells: tuple[ConfusionCell, ...]


@dataclass(frozen=True)
class Mistake:
    """`count` of the `studies` of class `truth` got the answer `answer`."""

    truth: str
    answer: str
    count: int
    studies: int


@dataclass(frozen=True)
class ClassScores:
    """One class against the rest; `values` are precision, recall, F1, AUROC, average precision."""

    name: str
    studies: int
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class ConfusionTable:
    """One aspect.

    Attributes:
        classes: In the order of `rows` and of their cells.
        rows: Empty for a multi-label aspect, and for one of more than `MOST_CLASSES` classes.
        mistakes: The commonest ones, by falling count.
        scores: By class; of more than `MOST_SCORED` classes those with the most studies.
    """

    aspect: str
    diagnosis: bool
    studies: int
    accuracy: Measured | None
    classes: tuple[str, ...]
    rows: tuple[ConfusionRow, ...]
    mistakes: tuple[Mistake, ...]
    scores: tuple[ClassScores, ...]


def confusion_tables(metrics: Metrics) -> list[ConfusionTable]:
    """One table an aspect that was measured, the diagnosis first.

    Args:
        metrics: As in `metrics.json`.
    """
    diagnosis = metrics.get("diagnosis_aspect")
    tables = [
        _table(name, values, metrics, diagnosis=name == diagnosis)
        for name, values in metrics.get("aspects", {}).items()
        if values["studies"]
    ]
    return sorted(tables, key=lambda table: not table.diagnosis)


def _table(name: str, values: Metrics, metrics: Metrics, *, diagnosis: bool) -> ConfusionTable:
    classes = tuple(values["per_class"])
    confusion: Sequence[Sequence[int]] = values.get("confusion") or ()  # none of a multi-label aspect
    drawn = len(classes) <= MOST_CLASSES
    scores = [
        ClassScores(label, each["support"], tuple(each.get(score) for score in _SCORES))
        for label, each in values["per_class"].items()
    ]
    if len(scores) > MOST_SCORED:
        scores = sorted(scores, key=lambda each: -each.studies)[:MOST_SCORED]
    return ConfusionTable(
        aspect=name,
        diagnosis=diagnosis,
        studies=values["studies"],
        accuracy=measured(metrics, f"aspects.{name}.accuracy", values["accuracy"]),
        classes=classes,
        rows=_rows(confusion, classes) if drawn and confusion else (),
        mistakes=_mistakes(confusion, classes)[: _FEW_MISTAKES if drawn else MOST_MISTAKES],
        scores=tuple(scores),
    )


def _rows(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[ConfusionRow, ...]:
    rows = []
    for place, (truth, counts) in enumerate(zip(classes, confusion, strict=True)):
        studies = sum(counts)
        cells = []
        for column, count in enumerate(counts):
            share = count / studies if studies else None
            shade = max(round(SHADES * (share or 0.0)), int(count > 0))
            cells.append(ConfusionCell(count, share, shade, right=place == column))
        rows.append(ConfusionRow(truth, studies, tuple(cells)))
    return tuple(rows)


def _mistakes(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[Mistake, ...]:
    found = [
        Mistake(classes[row], classes[column], count, sum(counts))
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return tuple(sorted(found, key=lambda each: -each.count))
