"""What an epoch is judged by: its numbers on the val split, which epoch is best, when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mdnet.data.study import Study, StudySet
from mdnet.errors import ConfigurationError
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.inference.predictor import Predictor
from mdnet.training.history import Row

__all__ = ["best_epoch", "should_stop", "validation_row"]

_SCORE = "val_score"


def validation_row(predictor: Predictor, studies: Sequence[Study], data: StudySet) -> Row:
    """The epoch's numbers on the validation split, reports generated freely.

    `val_score` is the mean of diagnosis accuracy and a tenth of CIDEr, whichever are there. Unscaled,
    CIDEr's changes from one phrase to an equal one would outweigh the diagnosis. `val_distinct_share` is
    the share of reports that differ from all others: near 0, the model writes one report for all.
    """
    metrics = evaluate_studies(predictor, studies, data, baselines=False, progress=False).metrics
    row: Row = {}
    score = []
    if (accuracy := metrics.get("diagnosis", {}).get("accuracy")) is not None:
        row["val_diagnosis_accuracy"] = accuracy
        score.append(accuracy)
    if "mean_aspect_accuracy" in metrics:
        row["val_mean_aspect_accuracy"] = metrics["mean_aspect_accuracy"]
        if not score:
            score.append(metrics["mean_aspect_accuracy"])
    if "text" in metrics:
        row["val_bleu_4"], row["val_cider"] = metrics["text"]["bleu_4"], metrics["text"]["cider"]
        row["val_distinct_share"] = metrics["text"]["distinct_share"]
        row["val_commonest_share"] = metrics["text"]["commonest_share"]
        score.append(metrics["text"]["cider"] / 10)  # CIDEr's scale ends at 10
    for aspect, kinds in metrics.get("grounding", {}).items():
        for kind, classes in kinds.items():
            if isinstance(classes, dict):
                hits = [c["pointing"] * c["studies"] for c in classes.values()]
                row[f"val_{aspect}_{kind}_pointing"] = sum(hits) / sum(c["studies"] for c in classes.values())
    if "statements" in metrics:
        row["val_statements_true"] = metrics["statements"]["true"]
    if score:
        row["val_score"] = sum(score) / len(score)
    return row


def best_epoch(history: Sequence[Row], metric: str = _SCORE) -> int:
    """Index of the epoch with the greatest `metric`, the later of two.

    Without any epoch that was validated, `val_score` chooses the last.

    Raises:
        ConfigurationError: No epoch has `metric`.
    """
    values = _values(history, metric)
    return max(range(len(values)), key=lambda index: (values[index], index))


def should_stop(history: Sequence[Row], metric: str, patience: int) -> bool:
    """Whether the last `patience` epochs were all no better than one before; never where it is 0.

    Raises:
        ConfigurationError: No epoch has `metric`.
    """
    if patience == 0 or not history:
        return False
    values = _values(history, metric)
    if not any(metric in row for row in history):
        raise ConfigurationError(
            f"patience is {patience}, but nothing was validated; give the data a val split or set it to 0"
        )
    first_best = values.index(max(values))
    return len(values) - 1 - first_best >= patience


def _values(history: Sequence[Row], metric: str) -> list[float]:
    """The metric by epoch; -inf where it is missing or no number."""
    columns = sorted({name for row in history for name in row if name.startswith("val_")})
    if metric not in columns and (columns or metric != _SCORE):
        there = ", ".join(columns) or "none, as nothing was validated"
        raise ConfigurationError(
            f"metric {metric!r} is no column of the validation; those there are: {there}"
        )
    values = [row.get(metric, -math.inf) for row in history]
    return [-math.inf if math.isnan(value) else value for value in values]
