"""Sensitivity-n, infidelity and maximum sensitivity against plain loops and captum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.explain.faithfulness.sensitivity import (
    attributed,
    infidelity,
    maximum_sensitivity,
    random_parts,
    score_drops,
    sensitivity_n,
)


def score(images: Tensor) -> Tensor:
    return images.flatten(1).cumsum(dim=1).sin().sum(dim=1)


def draw(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, a baseline, maps and parts."""
    random = torch.Generator().manual_seed(seed)
    images, baseline = torch.randn(2, 3, 2, 8, 8, generator=random, dtype=torch.float64)
    maps = torch.randn(3, 8, 8, generator=random, dtype=torch.float64)
    return images, baseline, maps, random_parts((8, 8), parts=11, share=0.3, cell=2, seed=seed)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_sums_and_drops_are_those_of_a_plain_loop(batch_size: int) -> None:
    images, baseline, maps, parts = draw()
    drops = score_drops(score, images, parts, baseline=baseline, batch_size=batch_size)
    sums = attributed(maps, images, parts)
    for row in range(3):
        for column, part in enumerate(parts):
            image, total = images[row].clone(), 0.0
            for i in range(8):
                for j in range(8):
                    if part[i, j]:
                        image[:, i, j] = baseline[row, :, i, j]
                        total += float(maps[row, i, j])
            assert float(sums[row, column]) == pytest.approx(total)
            assert float(drops[row, column]) == pytest.approx(
                float(score(images)[row] - score(image[None])[0])
            )


def test_correlation_and_error_by_formula() -> None:
    generator = np.random.default_rng(1)
    sums, drops = generator.normal(size=(2, 5, 20))
    correlations = sensitivity_n(torch.tensor(sums), torch.tensor(drops))
    errors = infidelity(torch.tensor(sums), torch.tensor(drops), scaled=False)
    shares = infidelity(torch.tensor(sums), torch.tensor(drops))
    for row, (a, d) in enumerate(zip(sums, drops, strict=True)):
        assert float(correlations[row]) == pytest.approx(np.corrcoef(a, d)[0, 1])
        assert float(errors[row]) == pytest.approx(np.mean((a - d) ** 2))
        factor = np.linalg.lstsq(a[:, None], d, rcond=None)[0]
        assert float(shares[row]) == pytest.approx(np.mean((a * factor - d) ** 2) / np.mean(d**2))


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_is_captums(scaled: bool) -> None:
    images, baseline, maps, parts = draw(2)
    drops = score_drops(score, images, parts, baseline=baseline)
    ours = infidelity(attributed(maps, images, parts), drops, scaled=scaled)

    def perturb(inputs: Tensor, baselines: Tensor) -> tuple[Tensor, Tensor]:
        masks = parts.repeat(len(images), 1, 1)[:, None].expand_as(inputs)
        return masks.double() / 2, torch.where(masks, baselines, inputs)  # over 2 channels

    theirs = captum_infidelity(
        score,
        perturb,
        images,
        maps[:, None].expand_as(images),
        baselines=baseline,
        n_perturb_samples=len(parts),
        normalize=scaled,
    )
    unit = drops.square().mean(dim=1) if scaled else 1.0
    torch.testing.assert_close(ours * unit, theirs, rtol=1e-9, atol=1e-12)


def test_a_true_map_is_perfect_and_a_flat_one_says_nothing() -> None:
    images, baseline, _, parts = draw(3)
    weight = torch.randn(2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def additive(pixel_values: Tensor) -> Tensor:
        return (pixel_values * weight).sum(dim=(1, 2, 3))

    true = ((images - baseline) * weight).sum(dim=1)
    drops = score_drops(additive, images, parts, baseline=baseline)
    sums = attributed(true, images, parts)
    torch.testing.assert_close(sensitivity_n(sums, drops), torch.ones(3).double())
    torch.testing.assert_close(sensitivity_n(-sums, drops), -torch.ones(3).double())
    assert infidelity(sums, drops, scaled=False).max() < 1e-20
    assert infidelity(1000 * sums, drops).max() < 1e-20
    zeros = torch.zeros_like(sums)
    assert sensitivity_n(zeros, drops).tolist() == [0, 0, 0]
    assert infidelity(zeros, drops).tolist() == pytest.approx([1, 1, 1])


def test_parts_are_whole_cells_of_one_number() -> None:
    parts = random_parts((10, 12), parts=50, share=0.25, cell=4, seed=1)
    cells = parts[:, ::4, ::4]
    assert parts.shape == (50, 10, 12)
    assert cells.sum(dim=(1, 2)).tolist() == [round(0.25 * 9)] * 50
    assert torch.equal(cells.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :10], parts)
    assert len({part.numpy().tobytes() for part in parts}) > 20
    with pytest.raises(ConfigurationError, match="at least one goes and one stays"):
        random_parts((8, 8), share=0.001)


def test_maximum_sensitivity_is_the_largest_of_the_relative_changes() -> None:
    images, _, maps, _ = draw(5)
    seen = []

    def draw_maps(pixel_values: Tensor) -> Tensor:
        seen.append(pixel_values)
        return pixel_values.sum(dim=1) ** 2 + maps

    state = torch.get_rng_state()
    worst = maximum_sensitivity(draw_maps, images, radius=0.1, samples=4)
    assert torch.equal(state, torch.get_rng_state())
    original = draw_maps(images)
    changed = torch.stack(seen[1:-1], dim=1)  # the first and the last are the images
    assert changed.shape == (3, 4, 2, 8, 8)
    assert (changed - images[:, None]).abs().max() <= 0.1
    moved = (changed.sum(dim=2) ** 2 + maps[:, None] - original[:, None]).flatten(2).norm(dim=2)
    torch.testing.assert_close(worst, moved.amax(dim=1) / original.flatten(1).norm(dim=1))


def test_a_map_that_does_not_look_at_the_image_never_moves() -> None:
    images, _, maps, _ = draw(6)
    assert maximum_sensitivity(lambda _: maps, images).tolist() == [0, 0, 0]
