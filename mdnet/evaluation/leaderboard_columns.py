"""The columns of the leaderboard: where a run's `metrics.json` holds each number and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["COLUMNS", "TEXT", "Column", "Value"]

Value = tuple[float, float | None]  # and half of its 95% interval over the studies; None if not known


@dataclass(frozen=True)
class Column:
    """A metric; `read` finds it in `metrics.json`, or None."""

    key: str
    title: str
    read: Callable[[Mapping[str, Any]], Value | None]


def number_at(*path: str) -> Callable[[Mapping[str, Any]], Value | None]:
    """Reads one number of `metrics.json` with the half-width of its interval."""

    def read(metrics: Mapping[str, Any]) -> Value | None:
        value: Any = metrics
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else (float(value), half_width(metrics, ".".join(path)))

    return read


def half_width(metrics: Mapping[str, Any], name: str) -> float | None:
    """Half of the 95% interval of a number; None where there is none."""
    interval = metrics["intervals"].get(name)
    return None if interval is None else (interval[1] - interval[0]) / 2


def mean_aspect_accuracy(metrics: Mapping[str, Any]) -> Value | None:
    """Mean over aspects, as wide as if they erred together: the studies are the same."""
    if "mean_aspect_accuracy" not in metrics:
        return None
    halves = [half_width(metrics, f"aspects.{name}.accuracy") for name in metrics["aspects"]]
    known = [half for half in halves if half is not None]
    return metrics["mean_aspect_accuracy"], float(np.mean(known)) if len(known) == len(halves) else None


def evidence_pointing(metrics: Mapping[str, Any]) -> Value | None:
    """Share of all evidence maps that peak on their mask; the classes are of different studies."""
    total, hits, variance, bounded = 0, 0.0, 0.0, True
    for aspect, kinds in metrics.get("grounding", {}).items():
        for label, values in kinds.get("evidence", {}).items():
            half = half_width(metrics, f"grounding.{aspect}.evidence.{label}.pointing")
            total += values["studies"]
            hits += values["studies"] * values["pointing"]
            bounded &= half is not None
            variance += (values["studies"] * (half or 0.0)) ** 2
    if not total:
        return None
    return hits / total, math.sqrt(variance) / total if bounded else None


TEXT = {"bleu_4": "BLEU-4", "rouge_l": "ROUGE-L", "cider": "CIDEr"}
COLUMNS = (
    Column("diagnosis_accuracy", "Diagnosis accuracy", number_at("diagnosis", "accuracy")),
    Column("mean_aspect_accuracy", "Mean aspect accuracy", mean_aspect_accuracy),
    *(Column(name, title, number_at("text", name)) for name, title in TEXT.items()),
    Column("statements_true", "Statements true", number_at("statements", "true")),
    Column("evidence_pointing", "Evidence on mask", evidence_pointing),
)
