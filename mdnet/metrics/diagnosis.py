"""Classification metrics of a diagnosis, ready for JSON: what is not defined is None, never NaN.

scikit-learn computes them. A metric over classes is the mean of the classes where it is defined:
recall needs a study of the class, precision a prediction of it, F1 either, AUROC and average precision
studies inside and outside it. Calibration: Guo et al., "On Calibration of Modern Neural Networks",
ICML 2017. Weighted kappa: Cohen, "Weighted kappa", Psychological Bulletin 1968.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdnet.data.study import MISSING
from mdnet.errors import DataError
from mdnet.metrics.calibration import calibration_error

__all__ = [
    "classification_metrics",
    "majority_baseline",
    "multi_label_metrics",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def classification_metrics(
    logits_or_probabilities: ArrayLike,
    targets: ArrayLike,
    classes: Sequence[str],
    *,
    ordered: bool = False,
) -> dict[str, Any]:
    """Measure a single-label aspect.

    Args:
        logits_or_probabilities: (N, K). Rows that are all non-negative and sum to 1 are taken as
            probabilities, anything else as logits.
        targets: Class index of every study, -100 where the label is missing, (N,).
        classes: The K names.
        ordered: The classes are grades: kappa is weighted by the squared distance.

    Returns:
        studies, accuracy, balanced_accuracy (mean recall), macro_f1, per_class (name -> precision,
        recall, f1, support, auroc), auroc and average_precision (means, one class against the rest),
        kappa, ece, and confusion (rows: truth, columns: prediction, in the order of `classes`).

    Raises:
        DataError: The shapes do not fit, a target is no class, or a value is not finite.
    """
    from sklearn.metrics import cohen_kappa_score

    scores, truth = _checked(logits_or_probabilities, targets, (len(classes),))
    if ((truth != MISSING) & ((truth < 0) | (truth >= len(classes)))).any():
        raise DataError(
            "targets",
            f"{truth.min()} to {truth.max()} with {len(classes)} classes",
            f"give 0 to {len(classes) - 1}, or {MISSING} for a missing label",
        )
    probabilities = _as_probabilities(scores)[truth != MISSING]
    truth = truth[truth != MISSING]
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (truth, predicted), 1)

    # Chance agreement of 1 (a single class on both sides) leaves kappa undefined.
    both = np.union1d(truth, predicted)
    kappa = None
    if len(both) > 1:
        weights = "quadratic" if ordered else None
        kappa = _number(cohen_kappa_score(truth, predicted, labels=np.arange(len(classes)), weights=weights))
    per_class = {
        name: _class_metrics(truth == index, predicted == index, probabilities[:, index])
        for index, name in enumerate(classes)
    }
    return {
        "studies": len(truth),
        "accuracy": _mean((truth == predicted).astype(float)),
        "balanced_accuracy": _mean_over(per_class, "recall"),
        "macro_f1": _mean_over(per_class, "f1"),
        "per_class": per_class,
        "auroc": _mean_over(per_class, "auroc"),
        "average_precision": _mean_over(per_class, "average_precision"),
        "kappa": kappa,
        "confusion": confusion.tolist(),
        "ece": calibration_error(probabilities.max(axis=1), truth == predicted),
    }


def multi_label_metrics(
    probabilities: ArrayLike, targets: ArrayLike, classes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Measure a multi-label aspect; a class is predicted from a probability of 0.5.

    Args:
        probabilities: Sigmoid outputs, (N, K).
        targets: 1, 0, or -100 where the label is missing, (N, K).
        classes: The K names; by default "0", "1", ...

    Returns:
        studies (with any label), accuracy (over labels), exact_match (over studies with every label),
        macro_f1, micro_f1, per_class as in `classification_metrics`, auroc and average_precision
        (means over classes).

    Raises:
        DataError: The shapes do not fit, or a value is out of range.
    """
    predicted_probabilities = np.asarray(probabilities, np.float64)
    width = predicted_probabilities.shape[1] if predicted_probabilities.ndim == 2 else 0
    names = [str(index) for index in range(width)] if classes is None else list(classes)
    scores, truth = _checked(probabilities, targets, (len(names),), width=len(names))
    if ((scores < 0) | (scores > 1)).any():
        raise DataError("probabilities", f"{scores.min():g} to {scores.max():g}", "give sigmoid outputs")
    if not np.isin(truth, (0, 1, MISSING)).all():
        raise DataError("targets", f"{truth.min()} to {truth.max()}", f"give 0, 1, or {MISSING} for missing")
    known = truth != MISSING
    predicted = scores >= 0.5
    right = predicted == (truth == 1)
    per_class = {}
    for index, name in enumerate(names):
        rows = known[:, index]
        per_class[name] = _class_metrics(truth[rows, index] == 1, predicted[rows, index], scores[rows, index])
    pooled = _class_metrics(truth[known] == 1, predicted[known], scores[known])
    return {
        "studies": int(known.any(axis=1).sum()),
        "accuracy": _mean(right[known].astype(float)),
        "exact_match": _mean(right.all(axis=1)[known.all(axis=1)].astype(float)),
        "macro_f1": _mean_over(per_class, "f1"),
        "micro_f1": pooled["f1"],
        "per_class": per_class,
        "auroc": _mean_over(per_class, "auroc"),
        "average_precision": _mean_over(per_class, "average_precision"),
    }


def majority_baseline(train_targets: ArrayLike, targets: ArrayLike) -> dict[str, Any]:
    """Score the most frequent class of train, the first of equals, given to every study.

    Args:
        train_targets: Class indices of the training studies, -100 where missing.
        targets: Those of the studies to score on.

    Returns:
        class (its index), studies, accuracy, balanced_accuracy and macro_f1, as a model's.

    Raises:
        DataError: No label in train.
    """
    train, truth = np.asarray(train_targets, np.int64).ravel(), np.asarray(targets, np.int64).ravel()
    train, truth = train[train != MISSING], truth[truth != MISSING]
    if not len(train):
        raise DataError("train_targets", "no label", "a majority class needs labelled training studies")
    majority = int(np.bincount(train).argmax())
    count = int(max(train.max(), truth.max(initial=0))) + 1
    metrics = classification_metrics(
        np.tile(np.eye(count)[majority], (len(truth), 1)), truth, [str(index) for index in range(count)]
    )
    kept = ("studies", "accuracy", "balanced_accuracy", "macro_f1")
    return {"class": majority, **{name: metrics[name] for name in kept}}


def _class_metrics(truth: NDArray[np.bool_], predicted: NDArray[np.bool_], score: Floats) -> dict[str, Any]:
    """One class against the rest, over the studies given."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    hits, support, positives = int((truth & predicted).sum()), int(truth.sum()), int(predicted.sum())
    two_sided = 0 < support < len(truth)
    return {
        "precision": hits / positives if positives else None,
        "recall": hits / support if support else None,
        "f1": 2 * hits / (support + positives) if support + positives else None,
        "support": support,
        "auroc": float(roc_auc_score(truth, score)) if two_sided else None,
        "average_precision": float(average_precision_score(truth, score)) if two_sided else None,
    }


def _checked(
    scores: ArrayLike, targets: ArrayLike, row: tuple[int, ...], *, width: int | None = None
) -> tuple[Floats, Integers]:
    """Scores (N, *row) and targets, (N,) or (N, width), as arrays; or an error in words."""
    numbers, truth = np.asarray(scores, np.float64), np.asarray(targets, np.int64)
    due = (len(numbers),) if width is None else (len(numbers), width)
    if numbers.shape[1:] != row or truth.shape != due:
        raise DataError(
            "scores and targets",
            f"shapes {numbers.shape} and {truth.shape} with {row[0]} classes",
            "give a row of scores, one a class, for every target",
        )
    if not np.isfinite(numbers).all():
        raise DataError("scores", f"{(~np.isfinite(numbers)).sum()} values not finite", "the model diverged")
    return numbers, truth


def _as_probabilities(scores: Floats) -> Floats:
    """Softmax of logits; probabilities as they are, to the rounding of half precision."""
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, rtol=0, atol=1e-2):
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _mean_over(per_class: dict[str, dict[str, Any]], metric: str) -> float | None:
    """Mean of a metric over the classes where it is defined."""
    return _mean(np.array([row[metric] for row in per_class.values() if row[metric] is not None], np.float64))


def _number(value: float) -> float | None:
    """A float, or None for NaN."""
    return float(value) if np.isfinite(value) else None
