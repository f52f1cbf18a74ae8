"""Does a text find the image that it was written of? Ranks from a score matrix.

Hodosh, Young and Hockenmaier, "Framing Image Description as a Ranking Task", JAIR 2013 (recall at k,
median rank). The reciprocal rank: Voorhees, "The TREC-8 Question Answering Track Report", 1999.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdnet.errors import DataError

__all__ = ["first_ranks", "retrieval_metrics"]

_DEPTHS = (1, 5, 10)

Floats = NDArray[np.float64]


def retrieval_metrics(scores: ArrayLike, relevant: ArrayLike) -> dict[str, Any]:
    """Measure how high each text ranks the first image that it is true of.

    Args:
        scores: (texts, images), the higher the better.
        relevant: Which images a text is true of, (texts, images) of booleans, at least one a text.
            Images whose reports are word for word the same are all relevant to that text, so that
            a model is not asked to tell apart what the report does not.

    Returns:
        texts, images, recall_at_1, recall_at_5, recall_at_10, median_rank, mean_reciprocal_rank, and
        `chance`: the same five, as scores drawn at random give them on average.

    Raises:
        DataError: The shapes do not fit, a score is not finite, or a text has no relevant image.
    """
    ranks = first_ranks(scores, relevant)
    truth = np.asarray(relevant, bool)
    images = truth.shape[1]
    counts = truth.sum(axis=1)
    # P(rank > k) = prod_{i < k} (N - r - i) / (N - i): the first k places hold none of the r relevant.
    place = np.arange(images)
    missed = np.cumprod(np.maximum(images - counts[:, None] - place, 0) / (images - place), axis=1)
    at = np.diff(1 - missed, axis=1, prepend=0)  # P(rank = k), (texts, images)
    spread = at.mean(axis=0)
    return {
        "texts": len(ranks),
        "images": images,
        **{f"recall_at_{depth}": float((ranks <= depth).mean()) for depth in _DEPTHS},
        "median_rank": float(np.median(ranks)),
        "mean_reciprocal_rank": float((1 / ranks).mean()),
        "chance": {
            **{f"recall_at_{depth}": float(spread[:depth].sum()) for depth in _DEPTHS},
            "median_rank": float(np.searchsorted(np.cumsum(spread), 0.5 - 1e-12) + 1),
            "mean_reciprocal_rank": float((spread / (place + 1)).sum()),
        },
    }


def first_ranks(scores: ArrayLike, relevant: ArrayLike) -> Floats:
    """Rank of the best relevant image of every text, 1 is first: (texts,).

    Among equal scores the order is open: the rank is the mean over all orders, so that a model that
    gives every image the same score ranks in the middle. Arguments and errors: `retrieval_metrics`.
    """
    numbers, truth = np.asarray(scores, np.float64), np.asarray(relevant, bool)
    if numbers.ndim != 2 or numbers.shape != truth.shape or not numbers.size:
        raise DataError(
            "scores and relevance",
            f"shapes {numbers.shape} and {truth.shape}",
            "give (texts, images) of each",
        )
    if not np.isfinite(numbers).all():
        raise DataError("scores", f"{(~np.isfinite(numbers)).sum()} not finite", "the model diverged")
    if not truth.any(axis=1).all():
        raise DataError(
            "relevance", f"{(~truth.any(axis=1)).sum()} texts without an image", "leave these texts out"
        )
    best = np.where(truth, numbers, -np.inf).max(axis=1, keepdims=True)
    above = ((numbers > best) & ~truth).sum(axis=1)
    tied = ((numbers == best) & ~truth).sum(axis=1)
    sharing = ((numbers == best) & truth).sum(axis=1)
    # Of t others and s relevant in random order, t / (s + 1) others come before the first relevant.
    ranks: Floats = 1 + above + tied / (sharing + 1)
    return ranks
