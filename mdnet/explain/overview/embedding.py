"""A data set in the plane: what lies near what among pixels, features and words, and how much that says.

A picture of clusters proves little, and t-SNE and UMAP draw clusters where there are none, so every
embedding comes with numbers: how often neighbours share a label, in the picture and in the space
that it was made of.

References:
    1. van der Maaten & Hinton, "Visualizing Data using t-SNE", JMLR 2008 (after PCA to tens of dimensions).
    2. McInnes, Healy & Melville, "UMAP", arXiv 1802.03426.
    3. Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 1987.
    4. Wattenberg, Viegas & Johnson, "How to Use t-SNE Effectively", Distill 2016.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.data.study import LabelSpace
from mdnet.errors import ConfigurationError, DataError, MissingExtraError
from mdnet.explain.overview.observations import Observation
from mdnet.inference.finding import FloatArray

__all__ = [
    "METHODS",
    "Agreement",
    "Embedding",
    "embed",
    "label_agreement",
    "label_agreements",
    "space_vectors",
]

METHODS = ("pca", "tsne", "umap")
NEIGHBOURS = 10  # whose labels are compared

_FEWEST = 4  # studies
_PRINCIPAL = 50  # dimensions that t-SNE and UMAP are given [1]
_PERPLEXITY, _UMAP_NEIGHBOURS, _UMAP_DISTANCE = 30.0, 15, 0.1  # the libraries' own values


@dataclass(frozen=True)
class Agreement:
    """How well places tell the true classes of one aspect.

    Attributes:
        studies: With a label of it.
        neighbours: Mean share of a study's nearest neighbours, itself left out, that have its label.
        chance: The same for neighbours drawn at random.
        silhouette: Mean silhouette of the classes, -1 to 1; None unless there are two at least.
    """

    studies: int
    neighbours: float
    chance: float
    silhouette: float | None


@dataclass(frozen=True)
class Embedding:
    """One space in the plane.

    Attributes:
        space: `pixels`, `features` or `sections`.
        method: A name of `METHODS`.
        dimensions: Of the space.
        points: (N, 2), a row a study.
        parameters: What it was made with; of PCA the share of the variance that each axis explains.
        in_space: Aspect to agreement in the whole space.
        in_plane: The same between the points drawn.
    """

    space: str
    method: str
    dimensions: int
    points: FloatArray
    parameters: Mapping[str, Any]
    in_space: Mapping[str, Agreement]
    in_plane: Mapping[str, Agreement]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"points": self.points.tolist()}


def space_vectors(observations: Sequence[Observation]) -> dict[str, FloatArray]:
    """The spaces there are, (N, dimensions) each.

    `pixels` are the downsized image in 0..1; `features` C(I), pooled; `sections` the report LSTM's mean
    hidden states of all sections side by side. Channels and units have no common scale, so of these
    two every column is divided by its standard deviation.
    """
    spaces = {
        "pixels": np.stack([each.pixels.ravel() / 255.0 for each in observations]),
        "features": _standardised([each.record.features for each in observations]),
    }
    states = [each.states for each in observations]
    if states[0] is not None:
        spaces["sections"] = _standardised([None if each is None else each.ravel() for each in states])
    return spaces


def embed(vectors: FloatArray, method: str, *, seed: int = 0) -> tuple[FloatArray, dict[str, Any]]:
    """Points (N, 2) of vectors (N, D), the same ones for the same seed; and what they were made with.

    Raises:
        ConfigurationError: No such method.
        DataError: Fewer than four studies.
        MissingExtraError: UMAP without umap-learn.
    """
    if method not in METHODS:
        raise ConfigurationError(f"no method {method!r}; there are {', '.join(METHODS)}")
    if len(vectors) < _FEWEST:
        raise DataError("studies", f"{len(vectors)}", f"a picture of neighbours needs at least {_FEWEST}")
    if method == "pca":
        points, explained = _principal(vectors, 2)
        return points, {"explained_variance": explained.tolist()}
    reduced = _principal(vectors, _PRINCIPAL)[0] if vectors.shape[1] > _PRINCIPAL else vectors
    return (_tsne if method == "tsne" else _umap)(reduced, seed)


def label_agreements(
    vectors: FloatArray, observations: Sequence[Observation], space: LabelSpace
) -> dict[str, Agreement]:
    """`label_agreement` for the true label of every aspect that three studies or more have."""
    found = {}
    for aspect in space.aspects:
        labels = [each.record.study.labels.get(aspect.name) for each in observations]
        known = [row for row, label in enumerate(labels) if label is not None]
        if len(known) > 2:
            found[aspect.name] = label_agreement(vectors[known], [str(labels[row]) for row in known])
    return found


def label_agreement(vectors: FloatArray, labels: Sequence[str]) -> Agreement:
    """Agreement of vectors (N, D) with N labels; N is 2 or more, below 11 all others are near."""
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    counts = np.bincount(codes)
    studies = len(codes)
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, studies - 1), algorithm="brute").fit(vectors)
    near = search.kneighbors(return_distance=False)  # without the study itself
    apart = 1 < len(counts) < studies
    return Agreement(
        studies=studies,
        neighbours=float((codes[near] == codes[:, None]).mean()),
        chance=float((counts * (counts - 1)).sum() / (studies * (studies - 1))),
        silhouette=float(silhouette_score(vectors, codes)) if apart else None,
    )


def _standardised(rows: Sequence[npt.NDArray[np.float32] | None]) -> FloatArray:
    vectors = np.stack([row for row in rows if row is not None]).astype(np.float64)
    spread = vectors.std(axis=0)
    return (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _principal(vectors: FloatArray, dimensions: int) -> tuple[FloatArray, FloatArray]:
    """Coordinates on the first axes, and the share of the variance each explains; 0 where there is none."""
    from sklearn.decomposition import PCA

    if not np.ptp(vectors, axis=0).any():  # one image many times
        return np.zeros((len(vectors), dimensions)), np.zeros(dimensions)
    pca = PCA(n_components=min(dimensions, *vectors.shape), svd_solver="full").fit(vectors)
    points = pca.transform(vectors)
    missing = dimensions - points.shape[1]
    return np.pad(points, ((0, 0), (0, missing))), np.pad(pca.explained_variance_ratio_, (0, missing))


def _tsne(vectors: FloatArray, seed: int) -> tuple[FloatArray, dict[str, Any]]:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    if not np.ptp(vectors, axis=0).any():  # one image many times: PCA has no direction to begin with
        return np.zeros((len(vectors), 2)), {"perplexity": perplexity, "seed": seed, "divergence": 0.0}
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    points = tsne.fit_transform(vectors).astype(np.float64)
    return points, {"perplexity": perplexity, "seed": seed, "divergence": float(tsne.kl_divergence_)}


def _umap(vectors: FloatArray, seed: int) -> tuple[FloatArray, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of its own extras, not used here
        try:
            from umap import UMAP
        except ImportError as error:
            raise MissingExtraError(error.name or "umap", "umap") from error

    neighbours = min(_UMAP_NEIGHBOURS, len(vectors) - 1)
    # Its spectral start fails on a handful of points.
    start = "spectral" if len(vectors) > 2 * _UMAP_NEIGHBOURS else "random"
    umap = UMAP(n_neighbors=neighbours, min_dist=_UMAP_DISTANCE, init=start, random_state=seed, n_jobs=1)
    points = umap.fit_transform(vectors).astype(np.float64)
    return points, {"neighbours": neighbours, "minimum_distance": _UMAP_DISTANCE, "seed": seed}
