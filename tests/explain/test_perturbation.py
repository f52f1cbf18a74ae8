"""Perturbation methods equal naive loops and, where the Shapley values are known, give those."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.explain.baselines import BASELINES, baseline_images
from mdnet.explain.batching import IMAGES_AT_ONCE
from mdnet.explain.perturbation import feature_ablation, kernel_shap, lime, occlusion
from mdnet.explain.superpixels import superpixels_of
from mdnet.explain.targets import ClassTarget, Scorer, WordTarget

CONTRAST = ClassTarget("mitosis", "frequent", "absent")
WORD = WordTarget("mitosis", ("mitotic", "figures", "are"))
every_target = pytest.mark.parametrize("target", [CONTRAST, WORD], ids=str)


@pytest.fixture
def images(draw_batch) -> Tensor:
    return draw_batch(3).pixel_values


@torch.no_grad()
def score_with(scorer: Scorer, image: Tensor, covered: Tensor, baseline: str = "mean") -> float:
    """Score of one image (channels, H, W) with the pixels where `covered` (H, W) taken from its baseline."""
    instead = baseline_images(baseline, scorer.model, image[None])[0]
    return float(scorer(torch.where(covered, instead, image)[None]))


@pytest.mark.parametrize(
    ("target", "size", "baseline"),
    [(CONTRAST, (32, 32), "mean"), (CONTRAST, (20, 33), "blur"), (WORD, (32, 32), "black")],
)
def test_occlusion_equals_a_loop_over_squares(build_model, draw_batch, target, size, baseline):
    scorer, window, stride = Scorer(build_model(), target), 9, 7  # the last squares stick out
    images = draw_batch(2, size=size).pixel_values
    drawn = occlusion(scorer, images, window=window, stride=stride, baseline=baseline)
    for image, found in zip(images, drawn, strict=True):
        whole = score_with(scorer, image, torch.zeros(size, dtype=torch.bool))
        lost, times = torch.zeros(size, dtype=torch.float64), torch.zeros(size)
        tops, lefts = (range(0, stride * math.ceil((n - window) / stride) + 1, stride) for n in size)
        for top, left in itertools.product(tops, lefts):
            square = torch.zeros(size, dtype=torch.bool)
            square[top : top + window, left : left + window] = True
            lost[square] += whole - score_with(scorer, image, square, baseline)
            times[square] += 1
        torch.testing.assert_close(found.double(), lost / times, rtol=1e-5, atol=1e-6)  # captum: float32


@pytest.mark.parametrize("superpixels", ["grid", "slic"])
@every_target
def test_feature_ablation_equals_a_loop_over_superpixels(build_model, images, target, superpixels):
    scorer = Scorer(build_model(), target)
    drawn = feature_ablation(scorer, images, superpixels=superpixels, parts=16, baseline="black")
    segments = superpixels_of(superpixels, scorer.model, images, parts=16)
    expected = torch.zeros_like(drawn)
    for row, image in enumerate(images):
        whole = score_with(scorer, image, torch.zeros_like(segments[0], dtype=torch.bool))
        for number in segments[row].unique():
            part = segments[row] == number
            expected[row][part] = whole - score_with(scorer, image, part, "black")
    torch.testing.assert_close(drawn, expected)


@every_target
def test_lime_is_weighted_ridge_regression_on_what_is_shown(build_model, images, target):
    scorer, image, samples = Scorer(build_model(), target), images[:1], 40
    torch.manual_seed(3)
    drawn = lime(scorer, image, parts=9, samples=samples)
    segments = superpixels_of("grid", scorer.model, image, parts=9)[0]
    torch.manual_seed(3)
    shown = torch.cat([torch.bernoulli(torch.full((1, 9), 0.5)) for _ in range(samples)])
    scores = [score_with(scorer, image[0], row[segments] == 0) for row in shown]
    z, y = shown.double().numpy(), np.array(scores)
    cosine = z.sum(axis=1) / np.sqrt(9 * np.maximum(z.sum(axis=1), 1))
    weight = np.exp(-((1 - cosine) ** 2) / (2 * 0.25**2))
    z, y = z - np.average(z, axis=0, weights=weight), y - np.average(y, weights=weight)
    weighted = z * weight[:, None]
    solution = np.linalg.solve(weighted.T @ z + np.eye(9), weighted.T @ y)
    expected = torch.from_numpy(solution)[segments]
    torch.testing.assert_close(drawn[0].double(), expected, rtol=1e-3, atol=1e-4)


class Additive(Scorer):
    """Sum over the grid's superpixels of a weight times the sum of the superpixel's pixels."""

    def __init__(self, scorer: Scorer, weights: Tensor, segments: Tensor) -> None:
        super().__init__(scorer.model, scorer.target)
        self.weights, self.segments = weights, segments
        self.batches: list[int] = []

    def forward(self, pixel_values: Tensor) -> Tensor:
        self.batches.append(len(pixel_values))
        return (self.weights[self.segments] * pixel_values.sum(dim=1)).flatten(1).sum(dim=1)


@pytest.fixture
def additive(build_model, images) -> Additive:
    scorer = Scorer(build_model(), CONTRAST)
    segments = superpixels_of("grid", scorer.model, images, parts=9)[0]
    return Additive(scorer, torch.linspace(-1, 1, 9, dtype=torch.float64), segments)


def test_kernel_shap_finds_the_shapley_values_of_an_additive_score(additive, images):
    drawn = kernel_shap(additive, images, parts=9, samples=60)
    for image, found in zip(images, drawn.maps, strict=True):
        for number, weight in enumerate(additive.weights):
            part = additive.segments == number
            assert float(found[part].sum()) == pytest.approx(float(weight * image[:, part].sum()), abs=1e-3)


def test_lime_finds_the_weights_of_an_additive_score_but_for_its_shrinkage(additive, images):
    drawn = lime(additive, images, parts=9, samples=400)
    for image, found in zip(images, drawn, strict=True):
        parts = [additive.segments == number for number in range(9)]
        values = [float(w * image[:, part].sum()) for w, part in zip(additive.weights, parts, strict=True)]
        weights = [float(found[part][0]) for part in parts]
        assert weights == pytest.approx(values, abs=0.03 * max(map(abs, values)))


@every_target
def test_kernel_shap_comes_close_to_the_shapley_values_of_a_model(build_model, images, target):
    scorer, image = Scorer(build_model(), target), images[0]
    segments = superpixels_of("grid", scorer.model, images, parts=4)[0]
    worth = {
        shown: score_with(scorer, image, ~torch.isin(segments, torch.tensor(shown)))
        for size in range(5)
        for shown in itertools.combinations(range(4), size)
    }
    shapley = torch.zeros(4, dtype=torch.float64)
    for order in itertools.permutations(range(4)):
        for place, part in enumerate(order):
            before = tuple(sorted(order[:place]))
            shapley[part] += (worth[tuple(sorted((*before, part)))] - worth[before]) / 24
    drawn = kernel_shap(scorer, images[:1], parts=4, samples=600)
    found = torch.stack([drawn.maps[0][segments == part].sum() for part in range(4)]).double()
    tolerance = 0.1 * float(shapley.abs().max())  # coalitions are drawn
    torch.testing.assert_close(found, shapley, rtol=0, atol=tolerance)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("superpixels", ["grid", "slic"])
@every_target
@torch.no_grad()
def test_kernel_shap_and_the_score_of_the_covered_image_sum_to_the_score(
    build_model, images, target, superpixels, baseline
):
    scorer = Scorer(build_model(), target)
    drawn = kernel_shap(scorer, images, superpixels=superpixels, parts=9, baseline=baseline, samples=40)
    torch.testing.assert_close(drawn.offset, scorer(baseline_images(baseline, scorer.model, images)))
    total = drawn.maps.sum(dim=(1, 2)).double() + drawn.offset
    torch.testing.assert_close(total, scorer(images), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("draw", "settings", "passes"),
    [(occlusion, {"window": 8, "stride": 8}, 16), (feature_ablation, {"parts": 9}, 9)],
)
def test_changed_copies_go_through_the_model_together(additive, images, draw, settings, passes):
    for studies in (1, 3):
        additive.batches.clear()
        draw(additive, images[:studies], **settings)
        first, *others = additive.batches  # the images as they are
        assert first == studies
        assert sum(others) == passes * studies
        assert max(others) <= max(IMAGES_AT_ONCE, studies)
        assert len(others) == math.ceil(passes / (IMAGES_AT_ONCE // studies))


@pytest.mark.parametrize(
    ("draw", "settings", "message"),
    [
        (occlusion, {"window": 33}, "window 33, stride 8: 1 <= stride <= window <= 32"),
        (occlusion, {"window": 4, "stride": 5}, "window 4, stride 5"),
        (occlusion, {"stride": 0}, "window 16, stride 0"),
        (occlusion, {"baseline": "white"}, "no baseline 'white'"),
        (feature_ablation, {"superpixels": "hexagon"}, "no superpixels 'hexagon'; there are grid, slic"),
        (feature_ablation, {"parts": 3}, "parts is 3: 32 x 32 pixels are cut into 4 to 1024"),
        (lime, {"samples": 64}, "samples is 64: give at least 65"),
        (kernel_shap, {"parts": 9, "samples": 9}, "samples is 9: give at least 10"),
    ],
)
def test_a_setting_out_of_range_is_named(build_model, images, draw, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        draw(Scorer(build_model(), CONTRAST), images, **settings)
