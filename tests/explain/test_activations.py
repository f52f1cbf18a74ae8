"""Statistics and best studies equal what is found with every activation kept in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mdnet.errors import ConfigurationError
from mdnet.explain.activations import activation_statistics, top_studies
from mdnet.explain.features import extract_features

LAYERS = ["image.stem", "image.activations.0", "image.activations.2"]


@pytest.fixture(scope="module")
def model(build_model):
    return build_model()


@pytest.fixture(scope="module")
def images(draw_batch):
    return draw_batch(11).pixel_values


def in_batches(images: torch.Tensor):
    return iter(images.split(4))  # 4, 4, 3


def test_statistics_equal_those_of_all_activations_at_once(model, images):
    found = activation_statistics(model, in_batches(images), LAYERS)
    everything = extract_features(model, images, LAYERS)
    for layer in LAYERS:
        values = everything[layer].transpose(0, 1).flatten(1).numpy()  # (C, N)
        statistics = found[layer]
        assert (statistics.studies, statistics.positions) == (11, values.shape[1])
        np.testing.assert_array_equal(statistics.minimum, values.min(axis=1))
        np.testing.assert_array_equal(statistics.maximum, values.max(axis=1))
        np.testing.assert_allclose(statistics.mean, values.mean(axis=1), rtol=1e-12)
        np.testing.assert_allclose(statistics.sparsity, (values == 0).mean(axis=1), rtol=1e-12)
        assert statistics.saturation is None
        record = statistics.to_dict()
        np.testing.assert_allclose(record["mean"], values.mean(), rtol=1e-12)
        np.testing.assert_allclose(record["sparsity"], (values == 0).mean(), rtol=1e-12)
        assert (record["minimum"], record["maximum"]) == (values.min(), values.max())
    assert found["image.activations.0"].sparsity.mean() > 0.1


def test_dead_units_are_those_never_above_zero_in_any_batch(build_model, images):
    model = build_model()
    norm = model.image.activations[2][0]
    with torch.no_grad():
        norm.weight[3], norm.bias[3] = 0.0, -1.0  # dead
        norm.weight[5], norm.bias[5] = 0.0, 1.0  # always on
    found = activation_statistics(model, in_batches(images), ["image.activations.2"])["image.activations.2"]
    assert found.dead[3]
    assert found.sparsity[3] == 1.0
    assert not found.dead[5]
    assert 3 in found.to_dict()["dead"]


def test_saturation_is_counted_for_bounded_activations_only():
    model = nn.Sequential(nn.Linear(1, 4), nn.Sigmoid(), nn.Tanh(), nn.ReLU6(), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight[:, 0] = torch.tensor([0.0, 0.0, 1000.0, 0.0])
        model[0].bias[:] = torch.tensor([0.0, 9.0, 0.0, -9.0])
    inputs = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    found = activation_statistics(model, inputs.split(30), ["0", "1", "2", "3", "4"])
    np.testing.assert_allclose(found["1"].saturation, [0, 1, 1, 1])
    assert found["1"].saturated.tolist() == [False, True, True, True]
    values = model[1](model[0](inputs)).tanh()
    np.testing.assert_allclose(found["2"].saturation, (values.abs() >= 0.9).double().mean(dim=0))
    assert not found["3"].saturated.any()  # 0 is off, not saturated
    assert found["0"].saturation is None
    assert found["4"].saturated is None


def test_no_image_is_an_error(model):
    with pytest.raises(ConfigurationError, match="give at least one batch"):
        activation_statistics(model, [], LAYERS)


@pytest.mark.parametrize("count", [1, 4, 30])
def test_best_studies_equal_a_sort_of_all(model, images, count):
    layer, channels = "image.activations.2", [0, 2, 6]
    found = top_studies(model, in_batches(images), layer=layer, channels=channels, count=count)
    maps = extract_features(model, images, layer)[layer].float().numpy()
    assert list(found) == channels
    for channel in channels:
        best = sorted(range(len(maps)), key=lambda study: (-maps[study, channel].max(), study))[:count]
        assert [hit.study for hit in found[channel]] == best
        for hit in found[channel]:
            np.testing.assert_array_equal(hit.map, maps[hit.study, channel])
            assert hit.value == pytest.approx(maps[hit.study, channel].max(), rel=1e-6)
            assert maps[hit.study, channel][hit.peak] == maps[hit.study, channel].max()


def test_of_equal_studies_the_earlier_is_first(model, images):
    same = images[:1].expand(6, -1, -1, -1)
    found = top_studies(model, same.split(4), layer="image.stem", channels=[1], count=3)
    assert [hit.study for hit in found[1]] == [0, 1, 2]


def test_a_channel_that_there_is_not_is_an_error(model, images):
    with pytest.raises(ConfigurationError, match=r"layer 'image.activations.2' has channels 0 to 7, not 8"):
        top_studies(model, in_batches(images), layer="image.activations.2", channels=[8])
    with pytest.raises(ConfigurationError, match="not -1"):
        top_studies(model, in_batches(images), layer="image.activations.2", channels=[-1])
