"""Deletion and insertion against a plain loop, and on a model that only adds up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mdnet.errors import DataError
from mdnet.explain.faithfulness.curves import Curve, deletion, insertion
from mdnet.explain.faithfulness.scoring import pixel_ranks


def draw(studies: int = 3, side: int = 6, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images, a baseline and maps, all random."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(studies, 2, side, side, generator=random, dtype=torch.float64)
    baseline = torch.randn(studies, 2, side, side, generator=random, dtype=torch.float64)
    return images, baseline, torch.randn(studies, side, side, generator=random, dtype=torch.float64)


def curved(images: Tensor) -> Tensor:
    """A score in which pixels work together."""
    return images.flatten(1).cumsum(dim=1).sin().sum(dim=1)


@pytest.mark.parametrize("steps", [1, 4, 7, 36])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_scores_are_those_of_a_plain_loop(steps: int, batch_size: int) -> None:
    images, baseline, maps = draw()
    curve = deletion(curved, images, maps, baseline=baseline, steps=steps, batch_size=batch_size)
    for row in range(len(images)):
        order = sorted(range(36), key=lambda p: -maps[row].flatten()[p].item())
        for step in range(steps + 1):
            image = images[row].clone()
            for pixel in order[: round(step * 36 / steps)]:
                image[:, pixel // 6, pixel % 6] = baseline[row, :, pixel // 6, pixel % 6]
            torch.testing.assert_close(curve.scores[row, step], curved(image[None])[0], rtol=0, atol=1e-12)


def test_area_by_hand() -> None:
    curve = Curve(torch.tensor([[4.0, 2.0, 0.0, 1.0]]), torch.tensor([4.0]), torch.tensor([1.0]))
    area = (4 / 2 + 2 + 0 + 1 / 2) / 3
    assert curve.area.tolist() == pytest.approx([area])
    assert curve.relative_area.tolist() == pytest.approx([(area - 1) / 3])


def test_an_image_below_its_baseline_has_no_relative_area() -> None:
    curve = Curve(torch.tensor([[1.0, 2.0], [2.0, 2.0]]), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0]))
    assert curve.relative_area.isnan().all()


def test_insertion_is_deletion_of_the_least_relevant_backwards() -> None:
    images, baseline, maps = draw(seed=1)
    inserted = insertion(curved, images, maps, baseline=baseline, steps=6)
    least_first = deletion(curved, images, -maps, baseline=baseline, steps=6)
    torch.testing.assert_close(inserted.scores, least_first.scores.flip(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(inserted.original, curved(images))
    torch.testing.assert_close(inserted.emptied, curved(baseline))


def test_a_true_map_beats_random_beats_reversed() -> None:
    images, baseline, _ = draw(40, 8, seed=2)
    weight = torch.randn(2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def additive(pixel_values: Tensor) -> Tensor:
        return (pixel_values * weight).sum(dim=(1, 2, 3))

    true = ((images - baseline) * weight).sum(dim=1)
    random = draw(40, 8, seed=4)[2]
    areas = [deletion(additive, images, m, baseline=baseline).area for m in (true, random, -true)]
    assert (areas[0] < areas[1]).all()
    assert (areas[1] < areas[2]).all()
    areas = [insertion(additive, images, m, baseline=baseline).area for m in (true, random, -true)]
    assert (areas[0] > areas[1]).all()
    assert (areas[1] > areas[2]).all()


def test_a_coarse_map_is_enlarged_and_keeps_its_order() -> None:
    images, baseline, _ = draw(1, 8)
    coarse = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    curve = deletion(
        lambda x: x[:, 0, :4, 4:].sum(dim=(1, 2)), images, coarse, baseline=baseline * 0, steps=4
    )
    assert curve.scores[0, 2:].tolist() == pytest.approx([0, 0, 0], abs=1e-12)  # the corner is gone by half


def test_equal_pixels_go_in_random_order_and_not_in_reading_order() -> None:
    ranks = pixel_ranks(torch.zeros(2, 16, 16), seed=5)
    assert sorted(ranks[0].flatten().tolist()) == list(range(256))
    first_half = ranks[0].flatten() < 128
    assert 40 < first_half[:128].sum() < 88  # in reading order all 128
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks, pixel_ranks(torch.zeros(2, 16, 16), seed=5))
    assert not torch.equal(ranks, pixel_ranks(torch.zeros(2, 16, 16), seed=6))


def test_ranks_follow_values() -> None:
    values = torch.tensor([[[3.0, -1.0], [7.0, 0.0]]])
    assert pixel_ranks(values).tolist() == [[[1, 3], [0, 2]]]


def test_maps_that_do_not_fit_are_refused_in_words() -> None:
    images, baseline, maps = draw()
    with pytest.raises(DataError, match=r"shape \(2, 6, 6\) for 3 images"):
        deletion(curved, images, maps[:2], baseline=baseline)
    with pytest.raises(DataError, match="not finite"):
        deletion(curved, images, maps * torch.nan, baseline=baseline)
