"""Maps against masks by hand and against plain enlargement."""

from __future__ import annotations

import numpy as np
import pytest

from mdnet.errors import DataError
from mdnet.metrics.grounding import best_iou, chance, energy_in_mask, pointing_game, pointing_hit


def test_the_peak_is_the_centre_of_its_cell() -> None:
    heat = np.zeros((2, 2))
    heat[0, 1] = 1  # rows 0-3, columns 4-7 of the image; its centre is (2, 6)
    mask = np.zeros((8, 8))
    mask[2, 6] = 1
    assert pointing_hit(heat, mask)
    mask[2, 6], mask[1, 6] = 0, 1
    assert not pointing_hit(heat, mask)


def test_an_enlarged_map_points_where_the_coarse_one_does() -> None:
    generator = np.random.default_rng(0)
    coarse = generator.normal(size=(200, 4, 4))
    masks = generator.random((200, 32, 32)) < 0.3
    fine = np.kron(coarse, np.ones((1, 8, 8)))
    np.testing.assert_array_equal(pointing_game(coarse, masks), pointing_game(fine, masks))


def test_the_game_is_the_mask_at_the_peak() -> None:
    generator = np.random.default_rng(1)
    maps, masks = generator.normal(size=(300, 5, 7)), generator.random((300, 33, 20)) < 0.4
    expected = []
    for heat, mask in zip(maps, masks, strict=True):
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        expected.append(mask[int((row + 0.5) * 33 / 5), int((column + 0.5) * 20 / 7)])
    np.testing.assert_array_equal(pointing_game(maps, masks), expected)


def test_maps_that_do_not_decide_never_hit() -> None:
    mask = np.ones((4, 4))
    assert not pointing_hit(np.zeros((4, 4)), mask)
    assert not pointing_hit(np.full((2, 2), -3.0), mask)
    assert not pointing_hit([[1.0, 0, 1]], mask)  # two peaks: their middle is none
    assert not pointing_hit([[2.0]], mask)
    assert pointing_hit([[1.0, 1, 0]], mask)


def test_energy_by_hand() -> None:
    heat = [[[3.0, 1.0], [-5.0, 0.0]]]
    mask = np.zeros((1, 4, 4))
    mask[0, :2, :2] = 1  # the cell of 3
    mask[0, 0, 2] = 1  # a quarter of the cell of 1
    mask[0, 2:, :2] = 1  # the negative cell brings nothing
    assert energy_in_mask(heat, mask) == pytest.approx([(3 + 1 / 4) / 4])


def test_pixels_cut_by_a_cell_count_in_part() -> None:
    # Three pixels, two cells: the middle pixel belongs to both by half.
    assert energy_in_mask([[[1.0, 0.0]]], [[[0, 1, 0]]]) == pytest.approx([(1 / 2) / (3 / 2)])


def test_energy_is_that_of_the_enlarged_map() -> None:
    generator = np.random.default_rng(2)
    maps, masks = generator.normal(size=(20, 4, 6)), generator.random((20, 12, 12)) < 0.3
    fine = np.maximum(maps.repeat(3, axis=1).repeat(2, axis=2), 0)
    expected = (fine * masks).sum((1, 2)) / fine.sum((1, 2))
    np.testing.assert_allclose(energy_in_mask(maps, masks), expected, rtol=1e-12)
    np.testing.assert_allclose(energy_in_mask(maps * 1e-300, masks), expected, rtol=1e-12)


def test_no_energy_scores_nothing_and_flat_energy_scores_chance() -> None:
    mask = np.random.default_rng(3).random((1, 9, 9)) < 0.3
    assert energy_in_mask(-np.ones((1, 3, 3)), mask) == pytest.approx([0])
    assert energy_in_mask(np.ones((1, 4, 4)), mask) == pytest.approx(chance(mask))
    assert chance(mask) == pytest.approx([mask.mean()])


def test_best_overlap_by_hand() -> None:
    heat = [[[4.0, 3.0, 2.0, 1.0]]]
    assert best_iou(heat, [[[1, 1, 0, 0]]]) == pytest.approx([1])
    assert best_iou(heat, [[[0, 1, 1, 0]]]) == pytest.approx([2 / 3])
    assert best_iou([[[4.0, 4.0, 2.0, 1.0]]], [[[1, 0, 0, 0]]]) == pytest.approx([1 / 2])  # a tie is one set
    assert best_iou(heat, [[[0, 0, 0, 0]]]) == pytest.approx([0])


def test_best_overlap_tries_every_threshold() -> None:
    generator = np.random.default_rng(4)
    maps = generator.integers(0, 6, (30, 4, 4)).astype(float)
    masks = generator.random((30, 8, 8)) < 0.4
    expected = []
    for heat, mask in zip(maps.repeat(2, 1).repeat(2, 2), masks, strict=True):
        sets = [heat >= threshold for threshold in np.unique(heat)]
        expected.append(max((taken & mask).sum() / (taken | mask).sum() for taken in sets))
    np.testing.assert_allclose(best_iou(maps, masks), expected, rtol=1e-12)


def test_maps_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(DataError, match="a mask for every map"):
        pointing_game(np.zeros((2, 3, 3)), np.zeros((1, 3, 3)))
    with pytest.raises(DataError, match="1 values not finite"):
        energy_in_mask([[[np.nan]]], [[[1]]])
    with pytest.raises(DataError, match=r"shape \(3, 3\)"):
        chance(np.zeros((3, 3)))
