"""Which images a query ranks highest, found without scoring all of them, and without a text encoder.

A score log p(query | image) costs a pass of the LSTM; a dot product with an embedding of the image costs a
thousandth of that. After [1], a vector for the query is fitted to its exact scores on a few hundred anchor
images, drawn once; after [2], the images that it then ranks highest are scored too and the fit is repeated,
with weight on what ranks high, some rounds long. The best of all that were scored are the answer: only
exact scores leave this module.

In [1] an image's embedding is its scores by a few hundred texts. Here it is what such scores are sums of,
log-probabilities of words (`mdnet.inference.retrieval.probes`). With those of a section's own words, recall
of the ten best is 0.99; with log-posteriors of the classes and pooled C(I) in their place, 0.54; with both,
no better than with the first alone (12,000 images of `benchmarks/retrieval_scale.py`, 640 to 768 scored).

The dot products are taken with every image: 4 ms a round for 100,000 images and one section, of some 300 ms
that a search takes. An inverted file (FAISS) would take 0.1 ms, but one for every set of sections; it pays
from some millions of images on.

References:
    1. Yadav et al., "Efficient Nearest Neighbor Search for Cross-Encoder Models using Matrix
       Factorization", EMNLP 2022, arXiv 2210.12579.
    2. Yadav et al., "Efficient k-NN Search with Cross-Encoders using Adaptive Multi-Round CUR
       Decomposition", Findings of EMNLP 2023, arXiv 2305.02996.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.inference.retrieval.embeddings import Embeddings
from mdnet.inference.retrieval.store import FeatureStore

__all__ = ["CandidateIndex", "fit_scores"]

ROUNDS = 8
PER_ROUND = 112  # images scored
_SPREAD = 0.5  # of the weights of a fit over the scores, from the best (1) to the middle (e^-2)
_LEAST_WEIGHT = 1e-4
_RIDGE = 1e-4
_ROWS_AT_ONCE = 8192

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


class CandidateIndex:
    """Finds the images of a store that a query ranks highest.

    Args:
        embeddings: Of the store's images.
        sections: The model's.
    """

    def __init__(self, embeddings: Embeddings, sections: Sequence[str]) -> None:
        self._embeddings, self._sections = embeddings, list(sections)

    @classmethod
    def of_store(cls, store: FeatureStore) -> CandidateIndex:
        """The index of a store; made where it is missing.

        That takes as long as an exact ranking by as many sentences as the model has sections.
        """
        return cls(Embeddings.of_store(store), store.model.config.sections)

    def find_best(
        self, score: Callable[[Places], Floats], sections: Sequence[Sequence[str]], *, top: int
    ) -> tuple[Places, Floats]:
        """The rows whose parts' scores sum to most, best first, and their scores (parts, top).

        Args:
            score: From rows (n,) to exact scores (parts, n); an image's score is the sum over parts.
            sections: Of every part those that may say it.
            top: How many.
        """
        own = [[self._sections.index(section) for section in named] for named in sections]
        rows = self._embeddings.anchors
        scores = score(rows)  # (parts, n)
        embedded = [self._embedded(rows, places) for places in own]  # (n, E) each
        for _ in range(ROUNDS):
            vectors: dict[int, Tensor] = {}
            for part, places in enumerate(own):
                vector = fit_scores(embedded[part], scores[part], scores.sum(axis=0))
                sizes = [self._embeddings.sections[place].shape[1] for place in places]
                for place, piece in zip(places, torch.from_numpy(vector).split(sizes), strict=True):
                    vectors[place] = vectors.get(place, 0) + piece
            found = self._highest(vectors, max(PER_ROUND, top), but=rows)
            rows, scores = np.concatenate([rows, found]), np.concatenate([scores, score(found)], axis=1)
            embedded = [
                np.concatenate([before, self._embedded(found, places)])
                for before, places in zip(embedded, own, strict=True)
            ]
        best = np.lexsort((rows, -scores.sum(axis=0)))[:top]
        return rows[best], scores[:, best]

    def _embedded(self, rows: Places, sections: Sequence[int]) -> npt.NDArray[np.float32]:
        """(n, E) of some images, the sections side by side."""
        chosen = torch.from_numpy(rows)
        parts = [self._embeddings.sections[section][chosen] for section in sections]
        return torch.cat(parts, dim=1).float().numpy()

    def _highest(self, vectors: dict[int, Tensor], count: int, *, but: Places) -> Places:
        """Rows with the greatest sum of dot products over the sections, `but` apart; in no order."""
        images = len(self._embeddings.sections[0])
        products = torch.zeros(images)
        for section, vector in vectors.items():
            embedded = self._embeddings.sections[section]
            for start in range(0, images, _ROWS_AT_ONCE):
                rows = slice(start, start + _ROWS_AT_ONCE)
                products[rows] += embedded[rows].float() @ vector
        products[torch.from_numpy(but)] = -torch.inf
        found: Places = products.topk(min(count, images - len(but)), sorted=False).indices.numpy()
        return found


def fit_scores(embedded: npt.NDArray[np.float32], scores: Floats, total: Floats) -> npt.NDArray[np.float32]:
    """The vector (E,) whose dot products with embeddings (n, E) come nearest to scores, up to a constant.

    Ridge regression, weighted by `exp((total - max) / spread)`: images that rank low may be ranked anyhow.

    Args:
        embedded: Of n images.
        scores: Of these by a part of a query, (n,).
        total: Of these by the whole of it, (n,).
    """
    spread = max(_SPREAD * (total.max() - np.median(total)), 1e-9)
    weights = np.exp((total - total.max()) / spread).clip(_LEAST_WEIGHT)
    weights /= weights.sum()
    root = np.sqrt(weights)
    inputs = (embedded - weights @ embedded) * root[:, None]
    targets = (scores - weights @ scores) * root
    gram = inputs.T @ inputs + _RIDGE * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ targets).astype(np.float32)
