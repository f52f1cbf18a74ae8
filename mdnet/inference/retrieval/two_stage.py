"""The images that answer a query best, and those most like another image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdnet.errors import ConfigurationError
from mdnet.inference.retrieval.candidates import CandidateIndex
from mdnet.inference.retrieval.exact import score_query_parts
from mdnet.inference.retrieval.query import Query
from mdnet.inference.retrieval.store import FeatureStore
from mdnet.models.mdnet import MDNet

__all__ = ["EXACT_BELOW", "Hit", "find_rows", "search", "similar_images"]

EXACT_BELOW = 5000
"""Images of a store, below which an exact ranking takes about a second."""

_ROWS_AT_ONCE = 65_536
_LEAST_STD = 1e-6


@dataclass(frozen=True)
class Hit:
    """One image that was found.

    Attributes:
        source: As in `FeatureStore.sources`.
        row: Its place there.
        score: Log p(query | image), or the likeness to another image, a cosine.
    """

    source: str
    row: int
    score: float


def search(
    model: MDNet, store: FeatureStore, query: Query, *, top: int = 10, two_stage: bool | None = None
) -> list[Hit]:
    """The images with the greatest log p(query | image), best first; of equal ones the first in the store.

    Args:
        model: In evaluation mode.
        store: The images.
        query: Its parts' likelihoods multiply.
        top: How many.
        two_stage: Score candidates alone (`mdnet.inference.retrieval.candidates`), whose embeddings are
            made at the first search; or every image. None: candidates of a store of `EXACT_BELOW` or more.

    Raises:
        ConfigurationError: As `score_query_parts`; or `top` is below 1.
    """
    rows, scores = find_rows(
        store,
        lambda some: score_query_parts(model, store, query.parts, rows=some),
        [part.sections for part in query.parts],
        top=top,
        two_stage=two_stage,
    )
    return _hits(store, rows, scores.sum(axis=0))


def find_rows(
    store: FeatureStore,
    score: Callable[[npt.NDArray[np.int64] | None], npt.NDArray[np.float64]],
    sections: Sequence[Sequence[str]],
    *,
    top: int,
    two_stage: bool | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The rows whose parts' scores sum to most, best first, and their scores (parts, rows).

    Args:
        store: The images.
        score: From some rows (n,), or None for all, to exact scores (parts, n).
        sections: Of every part those that may say it.
        top: How many.
        two_stage: As `search` has it.

    Raises:
        ConfigurationError: `top` is below 1.
    """
    if top < 1:
        raise ConfigurationError(f"top is {top}: ask for 1 image or more")
    if two_stage is None:
        two_stage = len(store) >= EXACT_BELOW
    if two_stage:
        return CandidateIndex.of_store(store).find_best(score, sections, top=top)
    scores = score(None)
    rows = np.argsort(-scores.sum(axis=0), kind="stable")[:top]
    return rows, scores[:, rows]


def similar_images(store: FeatureStore, image: int | npt.NDArray[np.float32], *, top: int = 10) -> list[Hit]:
    """The images most like another: by the cosine of pooled C(I), standardised over the store.

    Args:
        store: The images.
        image: A row of the store, which is left out of what is found; or pooled C(I) of any image, (D,).
        top: How many.
    """
    pooled = store.pooled
    mean = pooled.mean(axis=0, dtype=np.float64)
    std = np.maximum(pooled.std(axis=0, dtype=np.float64, mean=mean[None]), _LEAST_STD)
    asked = (pooled[image] if isinstance(image, int | np.integer) else image) - mean
    asked /= std
    cosines = np.empty(len(store))
    for start in range(0, len(store), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        standard = (pooled[rows] - mean) / std
        lengths = np.linalg.norm(standard, axis=1) * np.linalg.norm(asked)
        cosines[rows] = standard @ asked / np.maximum(lengths, _LEAST_STD)
    if isinstance(image, int | np.integer):
        cosines[image] = -np.inf
        top = min(top, len(store) - 1)
    best = np.argsort(-cosines, kind="stable")[:top]
    return _hits(store, best, cosines[best])


def _hits(store: FeatureStore, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> list[Hit]:
    return [
        Hit(store.sources[row], row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]
