"""How far a probability can be believed: calibration, and what abstaining buys.

References:
    1. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature, ECE).
    2. Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017 (risk and
       coverage).
    3. Geifman et al., "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019
       (AURC and excess AURC).
    4. Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 1950.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdnet.data.study import MISSING
from mdnet.errors import DataError

__all__ = [
    "ReliabilityBin",
    "RiskCoverage",
    "brier_score",
    "calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "reliability_bins",
    "risk_coverage",
]

_BINS = 15
_HOTTEST = 100.0  # temperature at which any logits of a usual size say next to nothing
_HALVINGS = 60  # of an interval of at most a few powers of two: to the last bit but a few

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of like confidence, `low < confidence <= high` (the first bin holds 0 too).

    Attributes:
        count: Predictions in the bin.
        confidence: Their mean confidence; None where there is none.
        accuracy: Share of them that is right; likewise.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """What answering only from some confidence on costs and saves.

    One point for every confidence that occurs: studies of equal confidence are answered together.

    Attributes:
        threshold: (P,) the confidences that occur, descending.
        coverage: (P,) share of the studies that is answered from there on, ascending to 1.
        risk: (P,) share of the answered ones that is wrong.
        aurc: Area under risk over coverage: the mean of the risk over the first 1, 2, ..., N
            studies, those of equal confidence in random order. None without a study.
        excess_aurc: `aurc` less that of the best order, every right answer before every wrong one.
    """

    threshold: Floats
    coverage: Floats
    risk: Floats
    aurc: float | None
    excess_aurc: float | None

    def coverage_at(self, risk: float) -> float:
        """The largest coverage at which no more than `risk` of the answers is wrong; 0 if there is none."""
        return float(self.coverage[self.risk <= risk].max(initial=0.0))


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """The T whose `softmax(logits / T)` gives the targets the least negative log-likelihood [1].

    The likelihood is concave in 1/T, so its slope is followed to zero by halving. Where every study
    is right it rises without end as T falls; 1 is returned then, for nothing shows that the model
    is less sure than it should be. T is at most 100.

    Args:
        logits: (N, K).
        targets: (N,) class index; or, multi-label (sigmoid), (N, K) of 0 and 1. -100 where missing.

    Raises:
        DataError: The shapes do not fit, a target is no class, or a value is not finite.
    """
    scores, truth = _known(logits, targets)
    binary = truth.ndim == 2
    # Of the two classes of a label, "absent" has the logit 0: a softmax over both is the sigmoid.
    pairs = np.stack([np.zeros_like(scores), scores], axis=-1)[truth != MISSING] if binary else scores
    true = truth[truth != MISSING]
    at_truth = np.take_along_axis(pairs, true[:, None], axis=1)
    if (at_truth[:, 0] == pairs.max(axis=1, initial=-np.inf)).all():
        return 1.0

    def slope(inverse: float) -> float:
        """Derivative of the negative log-likelihood by 1/T; it never falls."""
        expected = (np.exp(_log_softmax(pairs * inverse)) * pairs).sum(axis=1)
        return float((expected - at_truth[:, 0]).mean())

    low, high = 1.0 / _HOTTEST, 1.0
    if slope(low) >= 0:
        return _HOTTEST
    while slope(high) < 0:
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2.0 / (low + high)


def negative_log_likelihood(logits: ArrayLike, targets: ArrayLike) -> float | None:
    """Mean of `-log p(truth)`, natural logarithm, a study or, multi-label, a label; None without one.

    Args:
        logits: (N, K); logarithms of single-label probabilities will do.
        targets: As in `fit_temperature`.
    """
    scores, truth = _known(logits, targets)
    if truth.ndim == 1:
        losses = -np.take_along_axis(_log_softmax(scores), truth[:, None], axis=1)[:, 0]
    else:  # -log sigmoid(z) of a label that is there, of -z for one that is not
        losses = np.logaddexp(0.0, np.where(truth == 1, -scores, scores))[truth != MISSING]
    return float(losses.mean()) if losses.size else None


def brier_score(probabilities: ArrayLike, targets: ArrayLike) -> float | None:
    """Mean squared difference of probability and truth [4]; None without a target.

    Single-label: summed over the classes, in 0..2. Multi-label: a label, in 0..1.

    Args:
        probabilities: (N, K).
        targets: As in `fit_temperature`.
    """
    shares, truth = _known(probabilities, targets)
    if truth.ndim == 1:
        squares = ((shares - np.eye(shares.shape[1])[truth]) ** 2).sum(axis=1)
    else:
        squares = ((shares - truth) ** 2)[truth != MISSING]
    return float(squares.mean()) if squares.size else None


def reliability_bins(confidence: ArrayLike, correct: ArrayLike) -> list[ReliabilityBin]:
    """Mean confidence beside accuracy in 15 bins of equal width, the empty ones too [1].

    Args:
        confidence: Probability of the predicted class, (N,) in [0, 1].
        correct: Whether the prediction was right, (N,).
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    # A bin is open below and closed above, as published.
    places = np.clip(np.ceil(sure * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    counts = np.bincount(places, minlength=_BINS)
    sums = np.bincount(places, sure, _BINS), np.bincount(places, right, _BINS)
    return [
        ReliabilityBin(
            low=index / _BINS,
            high=(index + 1) / _BINS,
            count=int(count),
            confidence=float(sums[0][index] / count) if count else None,
            accuracy=float(sums[1][index] / count) if count else None,
        )
        for index, count in enumerate(counts)
    ]


def calibration_error(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """Expected calibration error [1]: |accuracy - confidence| of the bins, weighted by their studies.

    Args:
        confidence: Probability of the predicted class, (N,) in [0, 1].
        correct: Whether the prediction was right, (N,).

    Returns:
        In 0..1; None without a study.
    """
    bins = reliability_bins(confidence, correct)
    count = sum(each.count for each in bins)
    if not count:
        return None
    gaps = (
        each.count * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(gaps) / count


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Risk over coverage of a model that answers where it is sure enough [2, 3].

    Args:
        confidence: How sure each answer is, (N,); only the order counts.
        correct: Whether it was right, (N,).
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    total = len(sure)
    values, group, sizes = np.unique(-sure, return_inverse=True, return_counts=True)
    wrong = np.bincount(group, ~right, len(values))  # of each confidence, the surest first
    answered, mistakes = np.cumsum(sizes), np.cumsum(wrong)
    # Inside a group of equal confidence, mistakes come evenly: their expectation in random order.
    along = np.arange(1, total + 1)
    expected = np.interp(along, np.r_[0, answered], np.r_[0.0, mistakes])
    best = np.maximum(along - right.sum(), 0)  # right answers first, then mistakes only
    aurc = float((expected / along).mean()) if total else None
    return RiskCoverage(
        threshold=-values,
        coverage=answered / max(total, 1),
        risk=mistakes / answered,
        aurc=aurc,
        excess_aurc=None if aurc is None else aurc - float((best / along).mean()),
    )


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _known(scores: ArrayLike, targets: ArrayLike) -> tuple[Floats, Integers]:
    """Scores (N, K) and targets as arrays, without the studies that have no target; or an error in words."""
    numbers, truth = np.asarray(scores, np.float64), np.asarray(targets, np.int64)
    if numbers.ndim != 2 or truth.shape not in (numbers.shape[:1], numbers.shape):
        raise DataError(
            "scores and targets",
            f"shapes {numbers.shape} and {truth.shape}",
            "give (N, K) scores and (N,) class indices, or (N, K) of 0 and 1",
        )
    if not np.isfinite(numbers).all():
        raise DataError("scores", f"{(~np.isfinite(numbers)).sum()} values not finite", "the model diverged")
    classes = 2 if truth.ndim == 2 else numbers.shape[1]
    known = truth != MISSING
    if ((truth < 0) | (truth >= classes))[known].any():
        raise DataError(
            "targets",
            f"{truth[known].min()} to {truth[known].max()}",
            f"give 0 to {classes - 1}, or {MISSING} for a missing label",
        )
    kept = known if truth.ndim == 1 else known.any(axis=1)
    return numbers[kept], truth[kept]
