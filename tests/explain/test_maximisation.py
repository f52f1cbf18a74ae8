"""Activation maximisation: it rises, it is what it says, it repeats, and it leaves the model alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdnet.data.preprocessing import Preprocessing
from mdnet.errors import ConfigurationError
from mdnet.explain.features import extract_features
from mdnet.explain.maximisation import UnitScorer, _leaking_relus, _Painter, maximise, measure_sample
from mdnet.explain.targets import ClassTarget, Scorer

LAYER = "image.activations.2"


@pytest.fixture(scope="module")
def model(build_model):
    return build_model(dtype=torch.float32)


@pytest.fixture(scope="module")
def images(draw_batch):
    return draw_batch(12).pixel_values.float()


@pytest.fixture(scope="module")
def scorers(model):
    return {
        "unit": UnitScorer(model, LAYER, 0),
        "class": Scorer(model, ClassTarget("conclusion", "high grade", "normal")),
    }


def search(scorer, images, model, **options):
    sample = measure_sample(scorer, images.split(5), model.preprocessing)
    return maximise(scorer, sample, model.preprocessing, **{"target": "x", "steps": 60} | options)


@pytest.mark.parametrize("kind", ["unit", "class"])
def test_it_rises_well_above_its_start_and_above_the_sample(scorers, images, model, kind):
    result = search(scorers[kind], images, model)
    spread = result.sample.std()
    assert result.activation > result.history[0] + 3 * spread
    assert result.activation > result.sample.mean() + 3 * spread
    assert result.history[-10:].mean() > result.history[:10].mean()
    record = result.to_dict()
    assert record["sample"]["maximum"] == result.sample.max()
    assert record["start"] == result.history[0]


def test_the_activation_reached_is_that_of_the_image_as_saved(scorers, images, model):
    result = search(scorers["unit"], images, model, steps=10)
    assert result.image.shape == (32, 32, 3)
    assert result.image.dtype == np.uint8
    again = extract_features(model, model.preprocessing(result.image)[None], LAYER)[LAYER]
    assert result.activation == pytest.approx(float(again[0, 0].mean()), rel=1e-6)


def test_a_seed_decides(scorers, images, model):
    first, second, other = (search(scorers["class"], images, model, steps=8, seed=s) for s in (3, 3, 4))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.history, second.history)
    assert not np.array_equal(first.image, other.image)


def test_a_unit_that_is_off_at_the_start_is_found_too(model, images):
    result = search(UnitScorer(model, LAYER, 7), images, model)
    assert not result.history[:3].any()  # no gradient would come through its ReLU
    assert result.activation > result.sample.max() > 0


def test_the_model_is_left_as_it_was(scorers, images, build_model):
    model = build_model(dtype=torch.float32).train()
    relus = [module for module in model.modules() if isinstance(module, torch.nn.ReLU)]
    relus[0].inplace = True
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    search(UnitScorer(model, LAYER, 0), images, model, steps=3)
    with _leaking_relus(model):
        assert not relus[0].inplace
    assert relus[0].inplace
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_leaking_relus_change_gradients_and_no_value():
    relu = torch.nn.Sequential(torch.nn.ReLU(inplace=True))
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    with _leaking_relus(relu):
        y = relu(x * 1.0)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.tolist() == [0.0, 3.0]
    assert gradient.tolist() == pytest.approx([0.1, 1.0])


def test_scores_and_colours_of_a_sample_are_those_of_all_images_at_once(scorers, model, draw_batch):
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
    pictures[:, 1] = pictures[:, 0] // 2 + 60  # correlated colours
    images = model.preprocessing.normalise(torch.from_numpy(pictures))
    sample = measure_sample(scorers["unit"], images.split(4), model.preprocessing)
    with torch.no_grad():
        expected = extract_features(model, images, LAYER)[LAYER][:, 0].mean(dim=(1, 2))
    np.testing.assert_allclose(sample.scores, expected, rtol=1e-5, atol=1e-7)
    pixels = pictures.transpose(1, 0, 2, 3).reshape(3, -1) / 255.0
    np.testing.assert_allclose(sample.colour_mean, pixels.mean(axis=1), rtol=1e-5)
    covariance = sample.colour_root @ sample.colour_root.T
    np.testing.assert_allclose(covariance, np.cov(pixels, bias=True), rtol=1e-3, atol=1e-6)


def test_an_empty_spectrum_is_the_mean_colour_and_blur_is_a_gaussian(scorers, images, model):
    sample = measure_sample(scorers["unit"], images.split(5), model.preprocessing)
    painter = _Painter(sample, Preprocessing((20, 33)), torch.device("cpu"))  # odd and not square
    spectrum = painter.start(torch.Generator().manual_seed(0))
    even = painter.image(torch.zeros_like(spectrum))
    assert even.shape == (1, 3, 20, 33)
    np.testing.assert_allclose(even[0, :, 4, 7], np.clip(sample.colour_mean, 1e-3, 1 - 1e-3), rtol=1e-5)

    def logits(values):
        return painter.image(values).double().logit()[0]

    sigma = 1.5
    x = torch.arange(-12, 13)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2).double()
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    padded = torch.nn.functional.pad(logits(10 * spectrum)[:, None], (12, 12, 12, 12), mode="circular")
    by_hand = torch.nn.functional.conv2d(padded, kernel[None, None])[:, 0]
    torch.testing.assert_close(logits(10 * spectrum * painter.gaussian(sigma)), by_hand, rtol=0, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"jitter": -1}, {"blur_every": 0}, {"learning_rate": 0.0}])
def test_a_number_out_of_range_is_named(scorers, images, model, wrong):
    with pytest.raises(ConfigurationError, match="must be at least 1"):
        search(scorers["unit"], images, model, **wrong)


def test_no_sample_is_an_error(scorers, model):
    with pytest.raises(ConfigurationError, match="give at least one batch"):
        measure_sample(scorers["unit"], [], model.preprocessing)
