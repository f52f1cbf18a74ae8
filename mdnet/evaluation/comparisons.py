"""Paired differences with intervals: the model less what it must beat, on the very same studies.

The studies' differences are resampled by patient; BLEU's by the counts of both systems, drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mdnet.data.study import LabelSpace
from mdnet.evaluation.baselines import Baselines
from mdnet.evaluation.dependence import ImageDependence
from mdnet.evaluation.intervals import bounds
from mdnet.evaluation.record import Metrics, StudyRecord, groups_of, is_right
from mdnet.evaluation.scores import Scored
from mdnet.metrics.bleu import bleu_of_counts
from mdnet.metrics.bootstrap import confidence_interval, resampled_sums
from mdnet.metrics.language import LanguageScores

__all__ = ["compare_with_baselines"]

_FEWEST = 6  # patients: the sign test's two-sided p, 2 / 2^n, falls below 0.05 from there on


def compare_with_baselines(
    records: Sequence[StudyRecord],
    scored: Scored,
    baselines: Baselines,
    space: LabelSpace,
    *,
    dependence: ImageDependence | None = None,
) -> Metrics:
    """The `comparisons` of `metrics.json`: each `difference`, `low`, `high` (95%), `studies` and `patients`.

    There is no interval (None) with fewer than six patients: a difference of one sign in all of them is
    not yet beyond chance, but no resample would show the other.

    - `own_minus_other_references`: CIDEr of the reports, against their own and against other studies'.
    - `own_minus_other_images`: log p(own report), on its own image and on others.
    - `report_minus_constant.bleu_4`, `.cider`: against one report for all.
    - `diagnosis_minus_majority`: accuracy, against the commonest class.
    - `evidence_minus_chance`, `attention_minus_chance`: pointing, against the mask's share of the area.
    """
    found: Metrics = {}
    if scored.text is not None:
        cider = scored.text.studies["cider"]
        if baselines.shuffled is not None:
            differences = cider - baselines.shuffled.studies["cider"]
            found["own_minus_other_references"] = difference(differences, scored.reported)
        if baselines.constant is not None:
            found["report_minus_constant"] = {
                "bleu_4": bleu_difference(scored.text, baselines.constant, scored.reported),
                "cider": difference(cider - baselines.constant.studies["cider"], scored.reported),
            }
    if dependence is not None and dependence.gains:
        found["own_minus_other_images"] = difference(dependence.gains, dependence.records)
    majority = baselines.metrics.get("majority", {}).get(space.diagnosis)
    if majority is not None:
        aspect = space[str(space.diagnosis)]
        known = [(r, right) for r in records if (right := is_right(r, aspect)) is not None]
        gains = [float(right) - (r.study.labels[aspect.name] == majority["class"]) for r, right in known]
        if known:
            found["diagnosis_minus_majority"] = difference(gains, [record for record, _ in known])
    for kind in ("evidence", "attention"):
        maps = [(r, float(m.hit) - m.chance) for r in records for m in r.maps if m.kind == kind]
        if maps:
            found[f"{kind}_minus_chance"] = difference([gain for _, gain in maps], [r for r, _ in maps])
    return found


def difference(values: Sequence[float] | np.ndarray, records: Sequence[StudyRecord]) -> Metrics:
    """Mean and interval of one difference a record."""
    interval = confidence_interval(values, groups=groups_of(records))
    bounded = None if interval.low is None or interval.high is None else [interval.low, interval.high]
    return entry_of(interval.mean, bounded, records)


def bleu_difference(ours: LanguageScores, theirs: LanguageScores, records: Sequence[StudyRecord]) -> Metrics:
    """Difference of corpus BLEU-4."""
    counts = np.concatenate([ours.bleu_counts, theirs.bleu_counts], axis=1).astype(np.float64)
    width = ours.bleu_counts.shape[1]
    sums = resampled_sums(counts, groups=groups_of(records))
    interval = None
    if sums is not None:
        interval = bounds(bleu_of_counts(sums[:, :width])[:, 3] - bleu_of_counts(sums[:, width:])[:, 3])
    return entry_of(ours.corpus["bleu_4"] - theirs.corpus["bleu_4"], interval, records)


def entry_of(value: float, interval: list[float] | None, records: Sequence[StudyRecord]) -> Metrics:
    """The entry of `comparisons`."""
    patients = len(set(groups_of(records)))
    low, high = interval if interval is not None and patients >= _FEWEST else (None, None)
    studies = len({record.study.id for record in records})
    return {"difference": value, "low": low, "high": high, "studies": studies, "patients": patients}
