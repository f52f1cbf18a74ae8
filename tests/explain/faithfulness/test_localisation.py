"""Rank accuracy against a plain sort, boxes against their corners."""

from __future__ import annotations

import numpy as np
import pytest

from mdnet.errors import DataError
from mdnet.explain.faithfulness.localisation import box_mask, relevance_rank_accuracy


def test_rank_accuracy_is_the_share_of_the_best_pixels_inside() -> None:
    generator = np.random.default_rng(0)
    maps, masks = generator.normal(size=(30, 6, 7)), generator.random((30, 6, 7)) < 0.3
    expected = []
    for heat, mask in zip(maps, masks, strict=True):
        best = sorted(range(42), key=lambda pixel: -heat.flat[pixel])[: mask.sum()]
        expected.append(np.mean([mask.flat[pixel] for pixel in best]))
    np.testing.assert_allclose(relevance_rank_accuracy(maps, masks), expected, rtol=1e-12)


def test_a_flat_map_ranks_by_chance_and_an_empty_mask_not_at_all() -> None:
    mask = np.zeros((1, 64, 64))
    mask[:, :16] = 1
    assert relevance_rank_accuracy(np.zeros((1, 64, 64)), mask) == pytest.approx([0.25], abs=0.05)
    assert np.isnan(relevance_rank_accuracy(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))).all()


def test_rank_accuracy_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match=r"shapes \(1, 4, 4\) and \(1, 8, 8\)"):
        relevance_rank_accuracy(np.zeros((1, 4, 4)), np.zeros((1, 8, 8)))
    with pytest.raises(DataError, match="not finite"):
        relevance_rank_accuracy(np.full((1, 4, 4), np.inf), np.ones((1, 4, 4)))


def test_boxes_become_one_mask() -> None:
    mask = box_mask([(1, 0, 3, 2), (2.6, 1, 5, 2)], (3, 5))
    np.testing.assert_array_equal(mask, [[0, 1, 1, 0, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    assert not box_mask([], (2, 2)).any()
    with pytest.raises(DataError, match="is empty"):
        box_mask([(3, 0, 1, 2)], (3, 3))
