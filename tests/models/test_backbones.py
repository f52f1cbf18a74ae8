"""A torchvision network as image module: exact evidence, and every tool that looks inside works on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.explain.activation_maps import grad_cam
from mdnet.explain.faithfulness.randomisation import cascade
from mdnet.explain.gradients import guided_backprop, saliency
from mdnet.explain.layers import describe_layers
from mdnet.explain.registry import explain
from mdnet.explain.targets import ClassTarget, Scorer, WordTarget
from mdnet.export.drawing import draw
from mdnet.inference.predictor import Predictor
from mdnet.models.backbones.shapes import BACKBONES
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model

LANGUAGE = {"embedding_size": 5, "hidden_size": 7, "attention_size": 6, "dropout": 0.0}
every_backbone = pytest.mark.parametrize("name", BACKBONES)


@pytest.fixture(scope="module")
def build(build_model) -> Callable[..., MDNet]:
    """A small-language model on a backbone, every number random; float64."""

    def make(name: str = "resnet18", **options: Any) -> MDNet:
        return build_model(f"mdnet_{name}", **LANGUAGE | {"image_size": 64} | options)

    return make


@pytest.fixture(scope="module")
def resnet18(build) -> MDNet:
    """Shared; no test may change it."""
    return build()


def new_model(name: str, **options: Any) -> MDNet:
    space = LabelSpace((Aspect("conclusion", ("normal", "tumor")),), "conclusion")
    return create_model(name, label_space=space, **options)


@every_backbone
@pytest.mark.parametrize("size", [(64, 64), (47, 70)])
@torch.no_grad()
def test_evidence_and_bias_give_the_logits(build, draw_batch, name, size):
    model = build(name)
    output = model(draw_batch(2, size=size).pixel_values)
    for aspect, blocks in model.evidence(output.features).items():
        logits = output.logits[aspect]
        total = sum(maps.sum(dim=(2, 3)) for maps in blocks) + model.heads[aspect].bias
        torch.testing.assert_close(total, logits, rtol=1e-10, atol=1e-10 * float(logits.abs().max()))
        assert len(blocks) == 3


@every_backbone
@torch.no_grad()
def test_sizes_of_the_configuration_are_those_of_the_features(build, name):
    model = build(name, dtype=torch.float32)
    for size in (32, 65, 100, 127):
        model.config.image_size = size
        features = model.encode(torch.zeros(1, 3, size, size))
        assert [tuple(block.shape[2:]) for block in features.blocks] == [
            (cells, cells) for cells in model.config.block_sizes
        ]
        assert features.grid.shape == (1, model.config.positions, sum(model.config.widths))


@every_backbone
def test_no_rectifier_works_in_place_or_serves_twice(build, name):
    model = build(name, dtype=torch.float32)
    rectifiers = [module for module in model.image.modules() if isinstance(module, nn.ReLU)]
    calls: Counter[nn.Module] = Counter()
    for module in rectifiers:
        module.register_forward_hook(lambda module, inputs, output: calls.update([module]))
    model.encode(torch.zeros(1, 3, 32, 32))
    assert len(rectifiers) > 10
    assert not any(module.inplace for module in rectifiers)
    assert calls == Counter(rectifiers)


@every_backbone
@torch.no_grad()
def test_features_of_a_new_backbone_are_in_range_before_its_statistics_are(name):
    torch.manual_seed(0)
    grid = new_model(f"mdnet_{name}", image_size=64).eval().encode(torch.randn(2, 3, 64, 64)).grid
    assert 0.01 < grid.mean() < 100.0


@every_backbone
def test_a_training_step_reaches_every_weight(build, draw_batch, name):
    model = build(name).train()
    images, labels, tokens = draw_batch(3, size=(64, 64))
    model(images, labels, tokens).loss.backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("attention", ["mdnet", "additive"])
def test_a_study_with_one_image_of_two_gets_the_logits_of_that_image(build, draw_batch, attention):
    model = build(views=2, attention=attention)
    assert model.config.positions == 2 * 2 * 2
    images = draw_batch(2, size=(64, 128)).pixel_values
    present = torch.tensor([[True, False], [True, False]])
    with torch.no_grad():
        logits = model(images, present=present).logits
        alone = model.with_views(1)(images[..., :64]).logits
    for aspect, expected in alone.items():
        torch.testing.assert_close(logits[aspect], expected, rtol=1e-10, atol=1e-10)


def test_grayscale_images_have_a_stem_of_one_channel(build, draw_batch):
    model = build("densenet121", image_channels=1)
    assert model.image.stem.conv0.in_channels == 1
    assert model(draw_batch(1, size=(64, 64), channels=1).pixel_values).logits


def test_the_model_says_from_which_stage_it_is_decoupled(resnet18, build_model):
    assert resnet18.config.decoupled_from == "layer2"
    assert build_model().config.decoupled_from == "stage1"
    assert BACKBONES["densenet121"].decoupled_from == "denseblock2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [1, 2, 3]}, r"widths \[1, 2, 3\]: that of backbone resnet18 is \[128, 256, 512\]"),
        ({"stem_stride": 2}, "stem_stride 2: that of backbone resnet18 is 8; leave it out"),
        ({"backbone": "vgg16"}, "backbone 'vgg16' is none of resnet18, resnet50, densenet121"),
        ({"backbone_weights": "IMAGENET1K_V1", "image_channels": 1}, "set image_channels to 3, not 1"),
        ({"backbone": None, "backbone_weights": "IMAGENET1K_V1"}, "the model has no backbone"),
    ],
)
def test_what_does_not_fit_the_backbone_is_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        new_model("mdnet_resnet18", **options)


def test_an_image_too_small_for_the_poolings_is_named():
    with pytest.raises(ConfigurationError, match="image_size 24: nothing is left behind densenet121"):
        new_model("mdnet_densenet121", image_size=24)


# Tools that look inside


def test_grad_cam_is_the_evidence_of_the_last_block_and_has_later_stages_in_it_before(resnet18, draw_batch):
    images = draw_batch(2, size=(64, 64)).pixel_values
    scorer = Scorer(resnet18, ClassTarget("conclusion", "high grade"))
    features = resnet18.encode(images)
    evidence = resnet18.evidence(features)["conclusion"]
    last = grad_cam(scorer, images)
    torch.testing.assert_close(last, evidence[2][:, 2].clamp_min(0).detach(), rtol=1e-8, atol=1e-12)
    logit = resnet18.heads(features)[0]["conclusion"][:, 2].sum()
    gradient = torch.autograd.grad(logit, features.blocks[1])[0].mean(dim=(2, 3), keepdim=True)
    expected = (gradient * features.blocks[1]).sum(dim=1).clamp_min(0).detach()
    torch.testing.assert_close(grad_cam(scorer, images, block="block2"), expected, rtol=1e-8, atol=1e-12)
    assert not torch.allclose(expected, evidence[1][:, 2].clamp_min(0), rtol=1e-2)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
@pytest.mark.parametrize(
    "target",
    [ClassTarget("mitosis", "rare", "absent"), WordTarget("mitosis", ("mitotic", "figures"))],
    ids=str,
)
def test_gradient_methods_give_maps_and_leave_no_hook(build, draw_batch, name, target):
    model = build(name)
    images = draw_batch(1, size=(64, 64)).pixel_values
    scorer = Scorer(model, target)
    plain, guided = saliency(scorer, images), guided_backprop(scorer, images)
    leaf = images.clone().requires_grad_()
    gradient = torch.autograd.grad(scorer(leaf).squeeze(), leaf)[0]
    torch.testing.assert_close(plain, gradient.abs().amax(dim=1))
    assert guided.isfinite().all()
    assert not torch.allclose(guided, plain)
    assert not any(module._backward_hooks or module._forward_hooks for module in model.modules())


def test_a_predictor_explains_and_writes(build):
    model = build(dtype=torch.float32, maximum_words=4)
    predictor = Predictor(model, name="small", device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    finding = predictor(picture)
    contrast = finding.evidence("mitosis", "frequent", against="absent")
    logits = finding.aspects["mitosis"].logits
    assert contrast.total == pytest.approx(logits["frequent"] - logits["absent"], rel=1e-4)
    assert [(block.name, block.shape) for block in contrast.blocks] == [
        ("block1", (8, 8)),
        ("block2", (4, 4)),
        ("block3", (2, 2)),
    ]
    assert finding.attention("mitosis").shape[1:] == (2, 2)
    (explanation,) = explain(predictor, [picture], method="cam", target=ClassTarget("conclusion", "normal"))
    assert explanation.map.shape == (2, 2)  # of the last block


def test_every_layer_runs_and_is_listed_once(resnet18):
    layers = describe_layers(resnet18.image, torch.zeros(1, 3, 64, 64, dtype=torch.float64))
    assert {layer.calls for layer in layers} == {1}
    named = {layer.name: layer for layer in layers}
    assert named["stem.layer1.0.conv1"].shape == (1, 64, 16, 16)
    assert named["stages.2.1.relu1"].kind == "ReLU"


def test_a_drawing_holds_every_parameter_and_names_the_backbone(resnet18):
    drawing = draw(resnet18)
    assert sum(node.parameters for node in drawing.nodes) == sum(p.numel() for p in resnet18.parameters())
    lines = {node.name: node.text for node in drawing.nodes}
    assert "resnet18 before layer2" in lines["stem"]
    assert {(edge.source, edge.target) for edge in drawing.edges} >= {
        ("block1", "stage2"),
        ("block2", "stage3"),
    }
    assert ("stage1", "stage2") not in {(edge.source, edge.target) for edge in drawing.edges}


def test_randomisation_reaches_every_layer(resnet18):
    *_, (name, randomised) = cascade(resnet18)
    assert name == "stem"
    before = dict(resnet18.named_parameters())
    assert [key for key, p in randomised.named_parameters() if torch.equal(p, before[key])] == []
