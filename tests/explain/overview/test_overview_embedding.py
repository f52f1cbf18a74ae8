"""Embeddings beside references, and the numbers that stand beside a picture."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

import numpy as np
import pytest

from mdnet.errors import ConfigurationError, DataError, MissingExtraError
from mdnet.explain.overview.embedding import embed, label_agreement


@pytest.fixture
def vectors():
    random = np.random.default_rng(0)
    return random.normal(size=(60, 70)) * np.geomspace(5, 0.1, 70)


def test_pca_is_the_singular_value_decomposition_of_the_centred_data(vectors):
    points, parameters = embed(vectors, "pca")
    centred = vectors - vectors.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (u * s)[:, :2]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)
    assert parameters["explained_variance"] == pytest.approx((s**2 / (s**2).sum())[:2])


def test_t_sne_of_one_image_many_times_is_one_point():
    points, parameters = embed(np.ones((6, 80)), "tsne")
    assert (points == 0).all()
    assert parameters["divergence"] == 0.0


def test_pca_of_one_image_many_times_is_one_point():
    points, parameters = embed(np.ones((6, 5)), "pca")
    assert (points == 0).all()
    assert parameters["explained_variance"] == [0, 0]


def test_pca_of_a_line_has_a_second_axis_of_zeros():
    points, parameters = embed(np.arange(5.0)[:, None], "pca")
    assert points.shape == (5, 2)
    assert (points[:, 1] == 0).all()
    assert parameters["explained_variance"] == [1, 0]


def clusters() -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(1)
    centres = 20 * np.eye(3, 60)
    codes = np.arange(60) % 3
    return centres[codes] + random.normal(size=(60, 60)), [f"c{code}" for code in codes]


@pytest.mark.parametrize(
    "method",
    ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)],  # numba compiles for 15 s
)
def test_neighbours_stay_neighbours_and_a_seed_gives_the_same_points(method):
    if method == "umap":
        pytest.importorskip("umap", exc_type=ImportError)
    vectors, labels = clusters()
    points, parameters = embed(vectors, method, seed=3)
    assert points.shape == (60, 2)
    assert label_agreement(points, labels).neighbours > 0.95
    assert parameters.get("seed", 3) == 3
    np.testing.assert_array_equal(points, embed(vectors, method, seed=3)[0])


def test_perplexity_fits_few_studies():
    points, parameters = embed(clusters()[0][:4], "tsne")
    assert parameters["perplexity"] == 1
    assert np.isfinite(points).all()


def test_too_few_studies_and_an_unknown_method_are_refused():
    with pytest.raises(DataError, match="at least 4"):
        embed(np.eye(3), "pca")
    with pytest.raises(ConfigurationError, match="no method 'mds'; there are pca, tsne, umap"):
        embed(np.eye(9), "mds")


def test_umap_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    real = builtins.__import__

    def without_umap(name, *arguments, **options):
        if name == "umap":
            raise ImportError("no umap", name="umap")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_umap)
    with pytest.raises(MissingExtraError, match=r"umap is not installed: pip install 'mdnet\[umap\]'"):
        embed(np.eye(9), "umap")


@dataclass
class Naive:
    neighbours: float
    chance: float
    silhouette: float


def naive_agreement(vectors: np.ndarray, labels: list[str], k: int = 10) -> Naive:
    """From the definitions, study by study."""
    count = len(labels)
    distance = np.array([[np.linalg.norm(a - b) for b in vectors] for a in vectors])
    shares, chances, widths = [], [], []
    for i in range(count):
        others = sorted((j for j in range(count) if j != i), key=lambda j, i=i: distance[i, j])
        shares.append(np.mean([labels[j] == labels[i] for j in others[:k]]))
        chances.append(np.mean([labels[j] == labels[i] for j in others]))
        own = [distance[i, j] for j in others if labels[j] == labels[i]]
        if not own:
            widths.append(0.0)  # a class of one study
            continue
        means = [
            np.mean([distance[i, j] for j in range(count) if labels[j] == name])
            for name in set(labels) - {labels[i]}
        ]
        widths.append((min(means) - np.mean(own)) / max(min(means), np.mean(own)))
    return Naive(float(np.mean(shares)), float(np.mean(chances)), float(np.mean(widths)))


@pytest.mark.parametrize("count", [30, 8])
def test_agreement_is_that_of_the_definitions(count):
    random = np.random.default_rng(2)
    labels = [*("ab" * count)[: count - 3], "a", "a", "c"]
    vectors = random.normal(size=(count, 4)) + np.array([[label == "a"] for label in labels])
    found, expected = label_agreement(vectors, labels), naive_agreement(vectors, labels)
    assert found.studies == count
    assert found.neighbours == pytest.approx(expected.neighbours)
    assert found.chance == pytest.approx(expected.chance)
    assert found.silhouette == pytest.approx(expected.silhouette)


def test_one_class_has_no_silhouette():
    found = label_agreement(np.eye(5), ["a"] * 5)
    assert (found.neighbours, found.chance, found.silhouette) == (1, 1, None)
