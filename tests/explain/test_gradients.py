"""Gradient methods equal the formulas of their papers, written out with torch alone in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mdnet.errors import ConfigurationError
from mdnet.explain.baselines import BASELINES, baseline_images
from mdnet.explain.batching import IMAGES_AT_ONCE
from mdnet.explain.gradients import (
    gradient_shap,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from mdnet.explain.targets import ClassTarget, Scorer, WordTarget

TARGETS = [
    ClassTarget("conclusion", "high grade"),
    ClassTarget("mitosis", "frequent", "absent"),
    ClassTarget("findings", "nodule"),
    WordTarget("mitosis", ("mitotic", "figures", "are")),
]
every_target = pytest.mark.parametrize("target", TARGETS, ids=str)


def gradient(scorer: nn.Module, images: Tensor) -> Tensor:
    """d score / d image, image by image."""
    rows = []
    for image in images.split(1):
        leaf = image.clone().requires_grad_()
        rows.append(torch.autograd.grad(scorer(leaf).squeeze(), leaf)[0])
    return torch.cat(rows)


@pytest.fixture
def images(draw_batch) -> Tensor:
    return draw_batch(3).pixel_values


@every_target
def test_saliency_is_the_largest_absolute_gradient_over_the_channels(build_model, images, target):
    scorer = Scorer(build_model(), target)
    torch.testing.assert_close(saliency(scorer, images), gradient(scorer, images).abs().max(dim=1).values)


@every_target
def test_input_x_gradient_is_the_sum_over_the_channels(build_model, images, target):
    scorer = Scorer(build_model(), target)
    expected = (gradient(scorer, images) * images).sum(dim=1)
    torch.testing.assert_close(input_x_gradient(scorer, images), expected)


@every_target
def test_integrated_gradients_equal_the_quadrature_written_out(build_model, images, target):
    scorer, steps = Scorer(build_model(), target), 7
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    expected = torch.zeros_like(images)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        expected += weight * gradient(scorer, node * images) * images  # the baseline is 0
    drawn = integrated_gradients(scorer, images, steps=steps)
    # captum rounds the quadrature's weights to float32
    torch.testing.assert_close(drawn.maps, expected.sum(dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("target", TARGETS[1::2], ids=str)
def test_integrated_gradients_and_the_score_at_the_baseline_sum_to_the_score(
    build_model, images, target, baseline
):
    scorer = Scorer(build_model(), target)
    score = scorer(images).detach()
    start = scorer(baseline_images(baseline, scorer.model, images)).detach()
    residuals = []
    for steps in (4, 128):
        drawn = integrated_gradients(scorer, images, baseline=baseline, steps=steps)
        torch.testing.assert_close(drawn.offset, start)
        residuals.append(float((score - drawn.offset - drawn.maps.sum(dim=(1, 2))).abs().max()))
    assert residuals[1] < residuals[0]
    # the kinks of ReLU keep the quadrature from being exact
    assert residuals[1] < 0.1 * float((score - start).abs().max())


@every_target
def test_smooth_grad_is_the_mean_gradient_over_noisy_copies(build_model, images, target):
    scorer, samples = Scorer(build_model(), target), IMAGES_AT_ONCE + 3  # two passes
    torch.manual_seed(5)
    drawn = smooth_grad(scorer, images, noise=0.2, samples=samples)
    for image, smooth in zip(images, drawn, strict=True):
        torch.manual_seed(5)
        deviation = 0.2 * float(image.max() - image.min())
        total = torch.zeros_like(image)
        for count in (IMAGES_AT_ONCE, 3):
            noise = torch.normal(0, torch.full((count, *image.shape), deviation))
            total += gradient(scorer, image + noise).sum(dim=0)
        torch.testing.assert_close(smooth, (total / samples).abs().max(dim=0).values)


def test_smooth_grad_without_noise_is_saliency(build_model, images):
    scorer = Scorer(build_model(), TARGETS[0])
    smooth = smooth_grad(scorer, images, noise=0.0, samples=3)
    torch.testing.assert_close(smooth, saliency(scorer, images))


class GuidedReLU(nn.Module):
    """ReLU whose backward pass keeps the positive part of what comes from above."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clamp_min(0)
        if y.requires_grad:
            y.register_hook(lambda above: above.clamp_min(0))
        return y


def with_guided_relus(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, GuidedReLU())
    return module


@every_target
def test_guided_backprop_lets_no_negative_gradient_through_a_relu(build_model, images, target):
    model = build_model()
    guided = gradient(Scorer(with_guided_relus(model), target), images)
    drawn = guided_backprop(Scorer(model, target), images)
    torch.testing.assert_close(drawn, guided.abs().max(dim=1).values)
    assert not drawn.allclose(saliency(Scorer(model, target), images))


class Quadratic(Scorer):
    """sum of a x^2, whose expected gradients are a (x^2 - b^2) for a baseline b."""

    def __init__(self, scorer: Scorer, a: Tensor) -> None:
        super().__init__(scorer.model, scorer.target)
        self.a = a

    def forward(self, pixel_values: Tensor) -> Tensor:
        return (self.a * pixel_values**2).flatten(1).sum(dim=1)


def test_gradient_shap_has_the_expectation_of_the_formula(build_model, images):
    images = images[:, :, :4, :4]
    scorer = Quadratic(Scorer(build_model(), TARGETS[0]), torch.randn(3, 4, 4, dtype=torch.float64))
    baselines = [baseline_images(name, scorer.model, images) for name in ("mean", "black")]
    expected = torch.stack([scorer.a * (images**2 - b**2) for b in baselines]).mean(dim=0).sum(dim=1)
    torch.manual_seed(0)
    drawn = gradient_shap(scorer, images, baselines=("mean", "black"), samples=4000)
    # a draw's standard deviation is |2 a (x - b)^2| / sqrt(12) a channel
    deviation = sum((2 * scorer.a * (images - b) ** 2).abs().sum(dim=1) for b in baselines) / 48000**0.5 / 2
    assert bool(((drawn.maps - expected).abs() < 4 * deviation).all())
    torch.testing.assert_close(drawn.offset, torch.stack([scorer(b) for b in baselines]).mean(dim=0))


@pytest.mark.parametrize(
    ("draw", "settings", "message"),
    [
        (integrated_gradients, {"steps": 0}, "steps is 0: give at least 1"),
        (integrated_gradients, {"baseline": "white"}, "no baseline 'white'; there are mean, blur, black"),
        (smooth_grad, {"samples": 0}, "samples is 0: give at least 1"),
        (smooth_grad, {"noise": -1.0}, "noise is -1.0: give at least 0"),
        (gradient_shap, {"samples": 0}, "samples is 0: give at least 1"),
        (gradient_shap, {"baselines": ()}, "baselines is 0: give at least 1"),
    ],
)
def test_a_setting_out_of_range_is_named(build_model, images, draw, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        draw(Scorer(build_model(), TARGETS[0]), images, **settings)
