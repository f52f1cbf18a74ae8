"""95% intervals of the headline numbers: patients are drawn anew, with replacement, 1000 times.

What is resampled, and what is not:

- accuracy, balanced accuracy and macro F1 come from the confusion matrix summed over the patients drawn;
- corpus BLEU comes from the n-gram counts summed over them, not from the studies' own scores;
- METEOR, ROUGE-L and CIDEr are means of the studies' scores; CIDEr's idf stays that of the whole split;
- pointing and the share of true statements are means over the patients drawn.

All intervals use the same draws. The model is not trained anew, so none of them holds the spread over
seeds.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from mdnet.data.study import MISSING, Aspect, LabelSpace
from mdnet.evaluation.record import StudyRecord, groups_of, target_of
from mdnet.evaluation.scores import Scored
from mdnet.metrics.bleu import bleu_of_counts
from mdnet.metrics.bootstrap import resampled_sums
from mdnet.metrics.language import LanguageScores

__all__ = ["Intervals", "bounds", "intervals"]

Floats = npt.NDArray[np.float64]
Intervals = dict[str, list[float]]
Groups = Sequence[Hashable]

_LEVEL = 0.95


def intervals(records: Sequence[StudyRecord], scored: Scored, space: LabelSpace) -> Intervals:
    """Dotted name in `metrics.json` to [low, high]; a number that cannot be bounded has none."""
    found: Intervals = {}
    for aspect in space.aspects:
        answered = [record for record in records if aspect.name in record.labels]
        bounded = aspect_intervals(aspect, answered)
        found |= {f"aspects.{aspect.name}.{name}": interval for name, interval in bounded.items()}
        if aspect.name == space.diagnosis:
            found |= {f"diagnosis.{name}": interval for name, interval in bounded.items()}
    if scored.text is not None:
        bounded = text_intervals(scored.text, groups_of(scored.reported))
        found |= {f"text.{name}": interval for name, interval in bounded.items()}
    truths = [
        [row.stated == row.truth for row in rows if row.truth is not None] for rows in scored.statements
    ]
    stating = [(record, true) for record, true in zip(records, truths, strict=True) if true]
    counts = [(float(sum(true)), float(len(true))) for _, true in stating]
    keep(found, "statements.true", mean_bounds(counts, groups_of([record for record, _ in stating])))
    hits: dict[str, list[tuple[StudyRecord, bool]]] = {}
    for record in records:
        for each in record.maps:
            hits.setdefault(f"grounding.{each.aspect}.{each.kind}.{each.label}.pointing", []).append(
                (record, each.hit)
            )
    for name, members in hits.items():
        counts = [(float(hit), 1.0) for _, hit in members]
        keep(found, name, mean_bounds(counts, groups_of([record for record, _ in members])))
    return found


def aspect_intervals(aspect: Aspect, records: Sequence[StudyRecord]) -> Intervals:
    """Accuracy of an aspect; of a single-label one balanced accuracy and macro F1 too."""
    found: Intervals = {}
    if aspect.multi_label:
        labelled = [record for record in records if aspect.name in record.study.labels]
        counts = []
        for record in labelled:
            said, true = record.labels[aspect.name], record.study.labels[aspect.name]
            right = sum((name in said) == (name in true) for name in aspect.classes)
            counts.append((float(right), float(len(aspect.classes))))
        keep(found, "accuracy", mean_bounds(counts, groups_of(labelled)))
        return found
    targets = [target_of(record.study, aspect) for record in records]
    known = [(r, t) for r, t in zip(records, targets, strict=True) if t != MISSING]
    if not known:
        return found
    size = len(aspect.classes)
    cells = [int(np.asarray(t)) * size + aspect.classes.index(r.labels[aspect.name][0]) for r, t in known]
    sums = resampled_sums(np.eye(size * size)[cells], groups=groups_of([record for record, _ in known]))
    if sums is None:
        return found
    confusion = sums.reshape(-1, size, size)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    support, positives = confusion.sum(axis=2), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):  # a class that was not drawn has no recall and no F1
        recall, f1 = hits / support, 2 * hits / (support + positives)
    keep(found, "accuracy", bounds(hits.sum(axis=1) / confusion.sum(axis=(1, 2))))
    keep(found, "balanced_accuracy", bounds(np.nanmean(recall, axis=1)))
    keep(found, "macro_f1", bounds(np.nanmean(f1, axis=1)))
    return found


def text_intervals(text: LanguageScores, groups: Groups) -> Intervals:
    """Every text metric."""
    found: Intervals = {}
    means = [name for name in text.studies if not name.startswith("bleu")]
    columns = [text.bleu_counts, np.ones((len(groups), 1)), *(text.studies[name][:, None] for name in means)]
    sums = resampled_sums(np.concatenate(columns, axis=1), groups=groups)
    if sums is None:
        return found
    width = text.bleu_counts.shape[1]
    bleu = bleu_of_counts(sums[:, :width])
    for order in range(bleu.shape[1]):
        keep(found, f"bleu_{order + 1}", bounds(bleu[:, order]))
    for place, name in enumerate(means):
        keep(found, name, bounds(sums[:, width + 1 + place] / sums[:, width]))
    return found


def mean_bounds(counts: Sequence[tuple[float, float]], groups: Groups) -> list[float] | None:
    """Bounds of a ratio of sums, from (part, whole) of every study."""
    sums = resampled_sums(np.array(counts, np.float64), groups=groups) if counts else None
    return None if sums is None else bounds(sums[:, 0] / sums[:, 1])


def bounds(values: Floats) -> list[float] | None:
    """The central 95% of resampled values; None where none is defined."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return [float(low), float(high)]


def keep(found: Intervals, name: str, interval: list[float] | None) -> None:
    """Adds an interval that there is."""
    if interval is not None:
        found[name] = interval
