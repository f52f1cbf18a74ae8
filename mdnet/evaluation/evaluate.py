"""A model against the truth: one pass over the studies, then metrics from the records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdnet.data.statements import statement_reader
from mdnet.data.study import LabelSpace, Study, StudySet
from mdnet.evaluation.baselines import Neighbours, encode_training_images, score_baselines
from mdnet.evaluation.collect import collect
from mdnet.evaluation.comparisons import compare_with_baselines
from mdnet.evaluation.dependence import ImageDependence, measure_dependence, sampled_places
from mdnet.evaluation.intervals import intervals
from mdnet.evaluation.record import Metrics, StudyRecord
from mdnet.evaluation.scores import Scored, score, study_scores
from mdnet.evaluation.verdict import verdict
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor

__all__ = ["Evaluation", "Shown", "evaluate_studies", "judge", "shown_studies"]

_log = logging.getLogger(__name__)

_EXTREMES = 10  # worst and best studies named in metrics.json
_TEXT_SCORES = ("bleu_4", "meteor", "rouge_l", "cider")  # of every study, in predictions.jsonl


@dataclass(frozen=True)
class Shown:
    """A study that a page shows.

    Attributes:
        finding: What the system said.
        study: The truth.
        score: How well it went, in [0, 1]: `study_scores`.
        worst: It is one of the worst, and not of the best.
        text_scores: Of its report, as in `predictions.jsonl`.
    """

    finding: Finding
    study: Study
    score: float
    worst: bool
    text_scores: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Evaluation:
    """Result of `evaluate_studies`.

    Attributes:
        metrics: Nested as in `metrics.json`.
        records: One a study, in order.
        predictions: A line a study, as in `predictions.jsonl`.
        shown: The worst studies, then the best ones, with their findings.
    """

    metrics: Metrics
    records: list[StudyRecord]
    predictions: list[dict[str, Any]]
    shown: list[Shown] = field(default_factory=list)


def evaluate_studies(
    predictor: Predictor,
    studies: Sequence[Study],
    data: StudySet,
    *,
    show: int = 0,
    baselines: bool = True,
    progress: bool = True,
) -> Evaluation:
    """Scores a model on studies.

    Args:
        predictor: The model.
        studies: What to score on; of their images the first `model.views` are looked at, once.
        data: The set that the model was trained on: its training split gives the baselines.
        show: How many findings to give, half of them the worst, half the best; they are computed anew,
            so that no map is kept while the images go by.
        baselines: Also the baselines, retrieval, intervals and the verdict; training leaves them out.
        progress: Show a bar where stderr is a terminal.
    """
    model, space = predictor.model, predictor.model.config.space
    sample = sampled_places(model, studies) if baselines else []
    collected = collect(predictor, studies, keep=set(sample), progress=progress)
    records = collected.records
    scored = score(records, space, statement_reader(data))
    if baselines:
        _log.info("baselines: training images, likelihoods of %d reports, resamples", len(sample))
        judge(
            scored,
            records,
            data,
            space,
            neighbours=encode_training_images(predictor, data, studies),
            dependence=measure_dependence(model, records, collected.features),
        )
    shown = shown_studies(
        scored,
        records,
        space,
        show,
        findings_of=lambda chosen: predictor.stream([record.study for record in chosen]),
    )
    return Evaluation(scored.metrics, records, prediction_lines(records, scored), shown)


def judge(
    scored: Scored,
    records: Sequence[StudyRecord],
    data: StudySet,
    space: LabelSpace,
    *,
    neighbours: Neighbours | None = None,
    dependence: ImageDependence | None = None,
) -> None:
    """Adds to a system's metrics what they must be read against, and says it in words.

    That is `retrieval` and `likelihood` (with a model), `intervals`, `baselines`, `comparisons`, `worst`
    and `best` studies, and the `verdict`.
    """
    metrics = scored.metrics
    if dependence is not None:
        metrics |= dependence.metrics
    metrics["intervals"] = intervals(records, scored, space)
    beside = score_baselines(records, scored.reported, data, space, neighbours=neighbours)
    metrics["baselines"] = beside.metrics
    metrics["comparisons"] = compare_with_baselines(records, scored, beside, space, dependence=dependence)
    worst, best = extremes(study_scores(scored, records, space), 2 * _EXTREMES)
    for name, places in (("worst", worst), ("best", best)):
        metrics[name] = [{"id": records[place].study.id, "score": value} for place, value in places]
    metrics["verdict"] = verdict(metrics)


def shown_studies(
    scored: Scored,
    records: Sequence[StudyRecord],
    space: LabelSpace,
    count: int,
    *,
    findings_of: Callable[[Sequence[StudyRecord]], Iterable[Finding]],
) -> list[Shown]:
    """The worst studies, then the best ones, `count` in sum.

    Args:
        scored: What the records score.
        records: What a system said.
        space: The aspects.
        count: How many.
        findings_of: Gives the findings of the records chosen, in their order.
    """
    worst, best = extremes(study_scores(scored, records, space), count)
    chosen, scores = [*worst, *best], text_scores(scored)
    findings = findings_of([records[place] for place, _ in chosen])
    return [
        Shown(
            finding,
            records[place].study,
            value,
            worst=rank < len(worst),
            text_scores=scores.get(records[place].study.id, {}),
        )
        for rank, ((place, value), finding) in enumerate(zip(chosen, findings, strict=True))
    ]


def extremes(scores: Sequence[float], count: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """(place, score) of the worst, rising, and of the best, falling: at most `count` in sum, none twice."""
    ranked = sorted(enumerate(scores), key=lambda pair: pair[1])
    count = min(count, len(ranked))
    low = (count + 1) // 2
    return ranked[:low], ranked[::-1][: count - low]


def prediction_lines(records: Sequence[StudyRecord], scored: Scored) -> list[dict[str, Any]]:
    """The lines of `predictions.jsonl`: what was said, what is true, and the report's own scores."""
    lines = {record.study.id: dict(record.line) for record in records}
    for name, scores in text_scores(scored).items():
        lines[name]["scores"] = scores
    return list(lines.values())


def text_scores(scored: Scored) -> dict[str, dict[str, float]]:
    """Study id to the scores of its report."""
    if scored.text is None:
        return {}
    columns = {name: scored.text.studies[name].tolist() for name in _TEXT_SCORES}
    return {
        record.study.id: {name: values[row] for name, values in columns.items()}
        for row, record in enumerate(scored.reported)
    }
