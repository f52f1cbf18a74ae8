"""Features at any layer: the right tensor, nothing left behind, and errors that name the mend."""

from __future__ import annotations

import gc

import mdnet.torchvision_compat  # noqa: F401

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, vgg16

from mdnet.errors import ConfigurationError
from mdnet.explain.features import extract_features
from mdnet.explain.layers import by_channel, describe_layers, evaluation_mode, list_layers, watching


@pytest.fixture(scope="module")
def vgg() -> nn.Module:
    torch.manual_seed(0)
    return vgg16(weights=None, init_weights=False).eval()


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def live_tensors() -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter))


@torch.no_grad()
def test_vgg16_layers_equal_the_prefix_run_by_hand_although_its_relus_work_in_place(vgg):
    images = torch.randn(2, 3, 32, 32)
    names = [f"features.{index}" for index in range(len(vgg.features))]
    found = extract_features(vgg, images, [*names, "classifier.0"])
    for index, name in enumerate(names):
        expected = images
        for module in vgg.features[: index + 1]:
            expected = nn.functional.relu(expected) if isinstance(module, nn.ReLU) else module(expected)
        assert torch.equal(found[name], expected), name
    assert (found["features.0"] < 0).any()  # not what the ReLU behind it made of it
    assert torch.equal(found["classifier.0"], vgg.classifier[0](vgg.avgpool(expected).flatten(1)))


def test_layers_of_mdnet_are_its_own_features(build_model, draw_batch):
    model = build_model()
    images, _, tokens = draw_batch(2)
    found = extract_features(model, images, ["image.activations.0", "image.activations.2"])
    blocks = model.encode(images).blocks
    assert torch.equal(found["image.activations.0"], blocks[0])
    assert torch.equal(found["image.activations.2"], blocks[2])
    words = extract_features(model, images, "report.output", tokens=tokens)["report.output"]
    assert torch.equal(words, model(images, tokens=tokens).report_logits)


def test_a_layer_that_runs_twice_is_named_by_its_call():
    torch.manual_seed(0)
    model = resnet18(weights=None).eval()
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(ConfigurationError, match=r"name the call, layer1\.0\.relu:0, layer1"):
        extract_features(model, images, "layer1.0.relu")
    found = extract_features(model, images, ["maxpool", "layer1.0.relu:0", "layer1.0.relu:1", "layer1.0"])
    block = model.layer1[0]
    assert torch.equal(found["layer1.0.relu:0"], block.bn1(block.conv1(found["maxpool"])).relu())
    assert torch.equal(found["layer1.0.relu:1"], found["layer1.0"])
    with pytest.raises(ConfigurationError, match=r"layer1.0.relu:2' was not reached, its module ran 2 times"):
        extract_features(model, images, "layer1.0.relu:2")


def test_of_a_layer_that_gives_a_tuple_the_first_tensor_is_taken(build_model, draw_batch):
    model = build_model()
    images, _, tokens = draw_batch(2)
    hidden = extract_features(model, images, "report.lstm:0", tokens=tokens)["report.lstm:0"]
    assert hidden.shape == (2 * tokens.shape[1], model.config.hidden_size)
    assert hidden.abs().max() < 1  # h, not the cell


def test_errors_name_the_nearest_layers_and_the_mend(build_model, draw_batch):
    model = build_model()
    images = draw_batch(1).pixel_values
    with pytest.raises(
        ConfigurationError, match=r"no layer 'image.activation.1'; near it: image.activations.1"
    ):
        extract_features(model, images, "image.activation.1")
    with pytest.raises(ConfigurationError, match=r"'report\.lstm' was not reached.*need tokens"):
        extract_features(model, images, "report.lstm")
    with pytest.raises(
        ConfigurationError, match="layer 'image' gives no tensor but ImageFeatures; name one of"
    ):
        extract_features(model, images, "image")
    with pytest.raises(ConfigurationError, match="no layer ''"):
        extract_features(model, images, "")
    assert hooks_of(model) == 0


def test_hooks_and_modes_are_restored_when_the_forward_pass_fails(build_model, draw_batch):
    model = build_model().train()
    model.image.stem.eval()  # a frozen layer
    before = {name: module.training for name, module in model.named_modules()}
    with pytest.raises(RuntimeError):
        extract_features(model, torch.randn(1, 7, 8, 8, dtype=torch.float64), "image.activations.0")
    assert hooks_of(model) == 0
    assert {name: module.training for name, module in model.named_modules()} == before

    def refuse(name, output):
        raise KeyError(name)

    with pytest.raises(KeyError), watching(model, ["image.stem", "image.activations.0"], refuse):
        model(draw_batch(2).pixel_values)
    assert hooks_of(model) == 0


def test_evaluation_mode_is_on_inside_so_that_running_statistics_stay(build_model, draw_batch):
    model = build_model().train()
    images = draw_batch(3).pixel_values
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    alone = extract_features(model, images[:1], "image.activations.2")["image.activations.2"]
    together = extract_features(model, images, "image.activations.2")["image.activations.2"]
    torch.testing.assert_close(alone[0], together[0], rtol=1e-12, atol=1e-12)  # no batch statistics
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert model.training


def test_many_calls_leave_hooks_and_memory_flat(build_model, draw_batch):
    model = build_model()
    images = draw_batch(1).pixel_values
    extract_features(model, images, list_layers(model)[1])
    before = live_tensors()
    for _ in range(50):
        extract_features(model, images, ["image.stem", "image.activations.2"])
    assert hooks_of(model) == 0
    assert live_tensors() == before


def test_layers_are_listed_with_what_they_give(build_model, draw_batch):
    model = build_model()
    names = list_layers(model)
    assert "image.stages" not in names  # a list of modules computes nothing
    assert names.index("image.stem") < names.index("image.activations.2") < names.index("report.output")
    layers = {layer.name: layer for layer in describe_layers(model, draw_batch(1).pixel_values)}
    assert list(layers) == names
    stem = layers["image.stem"]
    assert (stem.kind, stem.parameters, stem.calls, stem.shape) == ("Conv2d", 4 * 3 * 9, 1, (1, 4, 16, 16))
    assert layers["image"].shape is None  # a record
    assert layers["report.lstm"].calls == 0


def test_channels_are_where_convolutions_linear_layers_and_transformers_have_them():
    maps, tokens, vector = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 3), torch.randn(2, 3)
    for output, channel in ((maps, maps[:, 1]), (tokens, tokens[..., 1]), (vector, vector[:, 1])):
        assert by_channel(output).shape == (3, output.numel() // 3)
        assert torch.equal(by_channel(output)[1], channel.flatten())


def test_evaluation_mode_restores_every_module_by_itself(build_model):
    model = build_model().train()
    model.report.eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert model.image.training
    assert not model.report.training
