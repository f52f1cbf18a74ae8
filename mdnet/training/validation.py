"""What an epoch is judged by: its numbers on the val split, which epoch is best, when to stop."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from mdnet.data.statements import statement_reader
from mdnet.data.study import Study, StudySet
from mdnet.errors import ConfigurationError
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet
from mdnet.training.history import Row

__all__ = ["best_epoch", "check_metric", "should_stop", "validation_row"]

_SCORE = "val_score"
_TEXT = ("val_bleu_4", "val_cider", "val_distinct_share", "val_commonest_share")


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


def check_metric(metric: str, patience: int, studies: Sequence[Study], data: StudySet, model: MDNet) -> None:
    """Refuses, before anything is trained, a metric that no epoch is going to have.

    Args:
        metric: `TrainingConfig.metric`.
        patience: `TrainingConfig.patience`, for which there must be something to wait for.
        studies: Those that are validated.
        data: Their data set.
        model: What is trained.

    Raises:
        ConfigurationError: There is no such column, or the studies or the model lack what it is made of.
    """
    needs = _needs(studies, data, model)
    there = [name for name, need in needs.items() if need is None]
    listed = ", ".join(there) or "none"
    if metric not in needs:
        near = difflib.get_close_matches(metric, there or needs, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigurationError(
            f"metric {metric!r} is no column of the validation; {hint}those there will be: {listed}"
        )
    if metric in there or (metric == _SCORE and patience == 0):  # without any score the last epoch is best
        return
    lacking = f"needs {needs[metric]}" if studies else "needs a val split, which the data has not"
    what = f"metric {metric!r}" if patience == 0 else f"patience {patience} with metric {metric!r}"
    raise ConfigurationError(f"{data.root}: {what} {lacking}; columns that there will be: {listed}")


def _needs(studies: Sequence[Study], data: StudySet, model: MDNet) -> dict[str, str | None]:
    """Every column that a validation may have, to what is lacking for it; None where nothing is."""
    space, writes = model.config.space, model.report is not None
    labelled = {name for study in studies for name in study.labels if name in space}
    masked = {
        aspect.name
        for aspect in space.aspects
        for study in studies
        if aspect.name in study.masks and study.labels.get(aspect.name) not in (None, aspect.reference)
    }
    told = writes and any(study.report for study in studies)
    read = writes and labelled and statement_reader(data) is not None
    needs = {
        _SCORE: None if labelled or told else "labels, or reports and a model that writes some",
        "val_diagnosis_accuracy": None if space.diagnosis in labelled else "labels of the diagnosis",
        "val_mean_aspect_accuracy": None if labelled else "labels",
        **dict.fromkeys(_TEXT, None if told else "reports, and a model that writes some"),
        "val_statements_true": None if read else "labels, and phrases.yaml by which reports are read",
    }
    for aspect in space.aspects:
        if not aspect.multi_label:
            lacking = None if aspect.name in masked else f"masks of {aspect.name}"
            needs[f"val_{aspect.name}_evidence_pointing"] = lacking
            if aspect.name in model.config.sections:
                needs[f"val_{aspect.name}_attention_pointing"] = lacking
    return needs


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
