"""Baselines are what their names say, in the model's own colours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdnet.errors import ConfigurationError
from mdnet.explain.baselines import BASELINES, baseline_images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_the_images_shape_and_type(build_model, draw_batch, name, channels):
    images = draw_batch(2, size=(20, 33), channels=channels).pixel_values
    drawn = baseline_images(name, build_model(image_channels=channels), images)
    assert (drawn.shape, drawn.dtype) == (images.shape, images.dtype)


def test_black_and_mean_are_the_colours_before_normalisation(build_model, draw_batch):
    model, images = build_model(), draw_batch(1).pixel_values
    std, mean = model.preprocessing.std[0], model.preprocessing.mean[0]
    assert float((baseline_images("black", model, images) * std + mean).abs().max()) < 1e-6
    assert float((baseline_images("mean", model, images) * std + mean).mean()) == pytest.approx(mean)
    black = model.preprocessing(np.zeros((32, 32, 3), np.uint8))
    torch.testing.assert_close(baseline_images("black", model, images)[0].float(), black)


def test_blur_keeps_a_flat_image_and_erases_a_dot(build_model):
    model = build_model()
    flat = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(baseline_images("blur", model, flat), flat)
    dot = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    dot[..., 16, 16] = 1.0
    drawn = baseline_images("blur", model, dot)
    deviation = 2.0
    assert float(drawn.max()) == pytest.approx(1 / (2 * np.pi * deviation**2), rel=0.02)
    assert drawn.sum() == pytest.approx(3.0, rel=1e-3)


def test_an_unknown_baseline_is_named(build_model, draw_batch):
    with pytest.raises(ConfigurationError, match="no baseline 'white'; there are mean, blur, black"):
        baseline_images("white", build_model(), draw_batch(1).pixel_values)
