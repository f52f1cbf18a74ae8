"""Metrics from records: aspects, text, statements, grounding, calibration. Lists in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from mdnet.data.statements import StatementReader
from mdnet.data.study import Aspect, LabelSpace
from mdnet.evaluation.maps import grounding_metrics
from mdnet.evaluation.record import Metrics, StudyRecord, is_right, target_of
from mdnet.metrics.calibration import (
    brier_score,
    calibration_error,
    negative_log_likelihood,
    reliability_bins,
    risk_coverage,
)
from mdnet.metrics.diagnosis import classification_metrics, multi_label_metrics
from mdnet.metrics.diversity import diversity
from mdnet.metrics.language import LanguageScores, language_scores
from mdnet.metrics.statements import Statement, statement_metrics, statements_of

__all__ = ["Scored", "abstention", "score", "study_scores", "temperature_scaling"]

_POINTS = 50  # of a risk-coverage curve, so that metrics.json stays readable


@dataclass(frozen=True)
class Scored:
    """Metrics, and what the intervals and baselines go on from.

    Attributes:
        metrics: Nested as in `metrics.json`.
        reported: The records with a report on both sides, of which `text` has a row each.
        text: Their text scores; None where there is no such record.
        statements: What the text of every record says, a list a record.
    """

    metrics: Metrics
    reported: list[StudyRecord]
    text: LanguageScores | None
    statements: list[list[Statement]]


def score(records: Sequence[StudyRecord], space: LabelSpace, reader: StatementReader | None = None) -> Scored:
    """Scores records against their studies.

    Args:
        records: What a system said.
        space: The aspects.
        reader: Reads back what a text says; without it there are no statements.
    """
    metrics: Metrics = {"studies": len(records), "aspects": {}}
    for aspect in space.aspects:
        answered = [record for record in records if aspect.name in record.labels]
        if answered or not records:
            metrics["aspects"][aspect.name] = aspect_metrics(aspect, answered)
    accuracies = [m["accuracy"] for m in metrics["aspects"].values() if m["accuracy"] is not None]
    if accuracies:
        metrics["mean_aspect_accuracy"] = float(np.mean(accuracies))
    if space.diagnosis in metrics["aspects"]:
        metrics["diagnosis"] = metrics["aspects"][space.diagnosis]
        metrics["diagnosis_aspect"] = space.diagnosis
        if calibration := calibration_metrics(space[str(space.diagnosis)], records):
            metrics["calibration"] = calibration

    reported = [record for record in records if record.text is not None and record.study.report]
    text = None
    if reported:
        hypotheses = [str(record.text) for record in reported]
        references = [record.study.references() for record in reported]
        text = language_scores(hypotheses, references)
        metrics["text"] = text.corpus | diversity(hypotheses, references)
        longest = max(map(len, references))
        writers = [[texts[i] for texts in references if len(texts) > i] for i in range(longest)]
        metrics["text"]["reference_commonest_share"] = float(
            np.mean([diversity(texts)["commonest_share"] for texts in writers])
        )
    statements = [[] if reader is None else stated(record, space, reader) for record in records]
    rows = [row for each in statements for row in each]
    if any(row.truth is not None for row in rows):
        metrics["statements"] = statement_metrics(rows, diagnosis=space.diagnosis)
    if maps := [each for record in records for each in record.maps]:
        metrics["grounding"] = grounding_metrics(maps)
    if tissue := [record.tissue for record in records if record.tissue is not None]:
        evidence, area = np.mean(tissue, axis=0)
        metrics.setdefault("grounding", {})["tissue"] = {
            "evidence_share": float(evidence),
            "area": float(area),
        }
    return Scored(metrics, reported, text, statements)


def stated(record: StudyRecord, space: LabelSpace, reader: StatementReader) -> list[Statement]:
    """What the record's text says of every aspect; nothing where there is no text."""
    if record.text is None:
        return []
    report = record.sections or {"report": record.text}
    return statements_of(reader, space, report, labels=record.study.labels, heads=record.labels)


def aspect_metrics(aspect: Aspect, records: Sequence[StudyRecord]) -> Metrics:
    """Classification metrics of one aspect.

    The answers are the classes named, which need not be the likeliest ones. A system that names classes
    without probabilities has no AUROC, average precision or ECE.
    """
    targets = [target_of(record.study, aspect) for record in records]

    def metrics_of(rows: list[list[float]]) -> Metrics:
        if aspect.multi_label:
            return multi_label_metrics(rows, targets, aspect.classes)
        return classification_metrics(rows, targets, aspect.classes, ordered=aspect.ordered)

    metrics = metrics_of([named(record.labels[aspect.name], aspect) for record in records])
    graded: Metrics = {"per_class": {}}
    if all(aspect.name in record.probabilities for record in records):
        graded = metrics_of([list(record.probabilities[aspect.name]) for record in records])
    if not aspect.multi_label:
        graded["ece"] = calibration_error(*confidence_and_right(aspect, records))
    for name in ("auroc", "average_precision", "ece"):
        if name in metrics:
            metrics[name] = graded.get(name)
        for label, values in metrics["per_class"].items():
            if name in values:
                values[name] = graded["per_class"].get(label, {}).get(name)
    return metrics


def named(labels: Sequence[str], aspect: Aspect) -> list[float]:
    """1 for the classes named, 0 for the others."""
    return [float(name in labels) for name in aspect.classes]


def confidence_and_right(aspect: Aspect, records: Sequence[StudyRecord]) -> tuple[list[float], list[bool]]:
    """Probability of each answer to a single-label aspect, and whether it is right, where both are known."""
    pairs = [
        (record.probabilities[aspect.name][aspect.index(record.labels[aspect.name][0])], right)
        for record in records
        if aspect.name in record.probabilities and (right := is_right(record, aspect)) is not None
    ]
    return [sure for sure, _ in pairs], [right for _, right in pairs]


def calibration_metrics(aspect: Aspect, records: Sequence[StudyRecord]) -> Metrics:
    """Whether the diagnosis's probabilities can be believed; empty where there are none."""
    confidence, right = ([], []) if aspect.multi_label else confidence_and_right(aspect, records)
    if not confidence:
        return {}
    known = [record for record in records if aspect.name in record.probabilities]
    probabilities = np.array([record.probabilities[aspect.name] for record in known])
    targets = [target_of(record.study, aspect) for record in known]
    curve = risk_coverage(confidence, right)
    shown = np.unique(np.linspace(0, len(curve.coverage) - 1, _POINTS).round().astype(int))
    return {
        "negative_log_likelihood": negative_log_likelihood(
            np.log(np.maximum(probabilities, np.finfo(float).tiny)), targets
        ),
        "brier": brier_score(probabilities, targets),
        "aurc": curve.aurc,
        "excess_aurc": curve.excess_aurc,
        "reliability": [asdict(each) for each in reliability_bins(confidence, right)],
        "risk_coverage": {
            "threshold": curve.threshold[shown].tolist(),
            "coverage": curve.coverage[shown].tolist(),
            "risk": curve.risk[shown].tolist(),
        },
    }


def temperature_scaling(aspect: Aspect, records: Sequence[StudyRecord], temperature: float) -> Metrics:
    """The diagnosis's `temperature` T, and `before` it ECE, negative log-likelihood and reliability.

    softmax(z) is softmax(z / T) to the power T, normalised, so the records' own probabilities tell.
    Empty where `calibration_metrics` is.
    """
    before = []
    for record in records:
        if aspect.name in record.probabilities:
            shares = np.asarray(record.probabilities[aspect.name])
            powers = (shares / shares.max()) ** temperature
            before.append(replace(record, probabilities={aspect.name: (powers / powers.sum()).tolist()}))
    metrics = calibration_metrics(aspect, before)
    if not metrics:
        return {}
    kept = {name: metrics[name] for name in ("negative_log_likelihood", "reliability")}
    error = calibration_error(*confidence_and_right(aspect, before))
    return {"temperature": temperature, "before": {"ece": error} | kept}


def abstention(records: Sequence[StudyRecord], space: LabelSpace, below: float) -> Metrics:
    """Coverage and accuracy where only answers of a probability of at least `below` are given.

    Returns:
        `below`, and under `aspects` by name (and `diagnosis`): `answered`, `coverage` (of the studies
        with a label), `accuracy` of the answers given (None where there are none), `accuracy_of_all`.
    """
    result: Metrics = {"below": below, "aspects": {}}
    for aspect in space.aspects:
        confidence, right = ([], []) if aspect.multi_label else confidence_and_right(aspect, records)
        if not right:
            continue
        given = [correct for sure, correct in zip(confidence, right, strict=True) if sure >= below]
        result["aspects"][aspect.name] = {
            "answered": len(given),
            "coverage": len(given) / len(right),
            "accuracy": float(np.mean(given)) if given else None,
            "accuracy_of_all": float(np.mean(right)),
        }
    if space.diagnosis in result["aspects"]:
        result["diagnosis"] = result["aspects"][space.diagnosis]
    return result


def study_scores(scored: Scored, records: Sequence[StudyRecord], space: LabelSpace) -> list[float]:
    """How well each study went, in [0, 1]: the mean of the share of its aspects that is right and ROUGE-L.

    It sorts the studies of a page and is no metric. A study without any truth has 0.5.
    """
    rouge = (
        {}
        if scored.text is None
        else dict(
            zip(
                (record.study.id for record in scored.reported),
                scored.text.studies["rouge_l"].tolist(),
                strict=True,
            )
        )
    )
    scores = []
    for record in records:
        known = [r for aspect in space.aspects if (r := is_right(record, aspect)) is not None]
        parts = [float(np.mean(known))] if known else []
        if record.study.id in rouge:
            parts.append(rouge[record.study.id])
        scores.append(float(np.mean(parts)) if parts else 0.5)
    return scores
