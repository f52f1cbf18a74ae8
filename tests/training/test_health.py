"""What an examination finds is what a naive reference finds; what is made sick is warned of."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from mdnet.data.loading import StudyBatch
from mdnet.data.study import MISSING
from mdnet.explain.attention_use import UniformAttention, attention_replaced
from mdnet.explain.gradient_flow import batch_gradient_flow
from mdnet.training.health import (
    DEAD_SHARE,
    attention_focus,
    collapse_warning,
    examine,
    gradients_kept,
    uncompiled,
)

REPORTS = [f"report {number}" for number in range(40)]


class Waiting(nn.BatchNorm2d):
    """Stands for a BatchNorm that sums over processes, of which the others do not answer."""

    def forward(self, input):
        if self.training:
            raise AssertionError("waits for ever")
        return super().forward(input)


@pytest.fixture
def model(build_model):
    return build_model(dtype=torch.float32)


@pytest.fixture
def batch(draw_batch):
    _, labels, tokens = draw_batch(4)
    images = torch.randint(
        0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return StudyBatch(("a", "b", "c", "d"), images, labels, tokens)


def relus(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.ReLU)}


def test_a_unit_is_dead_when_its_channel_is_0_everywhere_in_the_batch(model, batch):
    with torch.no_grad():
        model.image.stages[1].opening[0].layers[0].bias[1] = -1e3
        model.image.activations[2][0].bias[:3] = -1e3
    expected, handles = {}, []
    for name, module in relus(model).items():

        def count(module, inputs, output, name=name):
            expected[name] = sum(bool((output[:, c] == 0).all()) for c in range(output.shape[1]))

        handles.append(module.register_forward_hook(count))
    with torch.no_grad():
        model(model.preprocessing.normalise(batch.images))
    for handle in handles:
        handle.remove()
    health = examine(model, batch)
    assert {layer.layer: layer.dead for layer in health.units} == expected
    assert expected["image.stages.1.opening.0.layers.1"] >= 1
    assert expected["image.activations.2.1"] >= 3
    assert health.dead_share == sum(expected.values()) / sum(layer.units for layer in health.units)


def test_a_dead_layer_is_warned_of_and_a_living_one_is_not(model, batch):
    assert not any("dead" in line for line in examine(model, batch).warnings)
    layer = model.image.activations[1]
    with torch.no_grad():
        layer[0].bias.fill_(-1e3)
    (line,) = [line for line in examine(model, batch).warnings if "dead" in line]
    assert line.startswith("image.activations.1.1: dead: 6 of 6 units are 0 everywhere")
    with torch.no_grad():
        layer[0].bias[: round((1 - DEAD_SHARE) * 6) + 1] = 1.0
    assert not any("dead" in line for line in examine(model, batch).warnings)


def test_calls_of_one_relu_that_is_used_twice_are_counted_apart(model, batch):
    model.image.activations[1][1] = model.image.activations[0][1]
    layers = {layer.layer: layer.units for layer in examine(model, batch).units}
    assert layers["image.activations.0.1"] == 4
    assert layers["image.activations.0.1:1"] == 6


@pytest.mark.parametrize("missing", [False, True])
def test_entropy_and_sharpness_equal_a_naive_reference(missing):
    random = np.random.default_rng(3)
    studies, sections, words, positions = 3, 2, 5, 8
    attention = random.dirichlet(np.full(positions, 0.4), (studies, sections, words))
    there = np.ones((studies, positions), bool)
    if missing:
        there[1, 4:] = False
        attention[1, ..., 4:] = 0.0
        attention[1] /= attention[1].sum(axis=-1, keepdims=True)
    written = random.random((studies, sections, words)) < 0.7
    found = attention_focus(
        torch.from_numpy(attention),
        torch.from_numpy(written),
        ["one", "two"],
        there=torch.from_numpy(there) if missing else None,
    )
    for column, focus in enumerate(found):
        entropies, shares = [], []
        for study, word in zip(*np.nonzero(written[:, column]), strict=True):
            weights = [p for p in attention[study, column, word] if p > 0]
            entropies.append(-sum(p * np.log(p) for p in weights))
            shares.append(entropies[-1] / np.log(there[study].sum()))
        greatest = attention[:, column].max(axis=-1)[written[:, column]]
        assert focus.words == len(entropies)
        assert focus.entropy == pytest.approx(np.mean(entropies), rel=1e-12)
        assert focus.share == pytest.approx(np.mean(shares), rel=1e-12)
        assert focus.positions == pytest.approx(np.mean(np.exp(entropies)), rel=1e-12)
        assert focus.maximum == pytest.approx(greatest.mean(), rel=1e-12)


def test_uniform_attention_is_warned_of_in_one_line_for_all_its_sections(model, batch):
    assert not any("uniform" in line for line in examine(model, batch).warnings)
    with attention_replaced(model, UniformAttention):
        health = examine(model, batch)
    assert health.entropy_share == pytest.approx(1.0)
    (line,) = [line for line in health.warnings if "uniform" in line]
    assert line.startswith(
        f"attention of {', '.join(model.config.sections)}: uniform: entropy at least 100.0%"
    )


def test_one_position_alone_is_sharp_and_no_division_by_zero():
    (focus,) = attention_focus(torch.ones(2, 1, 3, 1), torch.ones(2, 1, 3, dtype=torch.bool), ["s"])
    assert (focus.entropy, focus.share, focus.positions, focus.maximum) == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(("scale", "word"), [(1e6, "vanishing"), (1e-6, "exploding")])
def test_a_layer_whose_gradient_vanishes_or_explodes_is_named(model, batch, scale, word):
    name = (
        "image.stages.1.residual.0.layers.2"  # BatchNorm behind it undoes the scale, but not in its gradient
    )
    assert not any(name in line for line in examine(model, batch).warnings)
    with torch.no_grad():
        model.get_submodule(name).weight.mul_(scale)
    model.get_submodule("image.stages.1.residual.0.layers.3").eps = 1e-30  # as small as the weights
    lines = [line for line in examine(model, batch).warnings if line.startswith(f"{name}: {word}")]
    assert any("the gradient of classification" in line for line in lines)
    assert any("the gradient of language" in line for line in lines)


def test_weights_that_are_no_number_are_said_and_still_make_json(model, batch):
    with torch.no_grad():
        model.image.stem.weight[0, 0, 0, 0] = torch.nan
    health = examine(model, batch)
    assert any("exploding: the gradient of classification is nan" in line for line in health.warnings)
    assert any("the attention is no number" in line for line in health.warnings)
    json.dumps(health.to_dict(), allow_nan=False)


def test_a_loss_without_truth_is_not_said_to_vanish(model, batch):
    unlabelled = {name: torch.full_like(label, MISSING) for name, label in batch.labels.items()}
    health = examine(model, StudyBatch(batch.ids, batch.images, unlabelled, batch.tokens))
    assert list(health.flow.losses) == ["language"]
    nothing = StudyBatch(
        batch.ids, batch.images, unlabelled, torch.full_like(batch.tokens, model.config.pad_id)
    )
    health = examine(model, nothing)
    assert health.flow is None
    assert health.attention == ()
    assert health.warnings == []
    assert health.units
    assert health.to_dict()["gradient_flow"] is None


def test_a_model_without_report_or_without_heads_is_examined(build_model, batch):
    silent = build_model(dtype=torch.float32, sections=(), tokenizer=None)
    health = examine(silent, StudyBatch(batch.ids, batch.images, batch.labels, None))
    assert (list(health.flow.losses), health.attention) == (["classification"], ())
    assert health.entropy_share is None
    headless = build_model(dtype=torch.float32, label_space=None)
    health = examine(headless, StudyBatch(batch.ids, batch.images, {}, batch.tokens))
    assert list(health.flow.losses) == ["language"]
    assert len(health.attention) == 4


def test_a_model_is_left_as_it_was(build_model, batch):
    model = build_model(dtype=torch.float32, dropout=0.5).train()
    model.image.stages[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with gradients_kept(model):
        first = examine(model, batch)
    assert first.to_dict() == examine(model, batch).to_dict()
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for module in model.modules():
        assert not module._forward_hooks
        assert "forward" not in vars(module)
    for parameter in model.parameters():
        assert parameter.grad is None
        assert not parameter._backward_hooks


def test_gradients_kept_are_those_of_the_joint_objective(model, batch):
    with gradients_kept(model) as kept:
        batch_gradient_flow(model, batch)
    pixel_values = model.preprocessing.normalise(batch.images)
    model.train()(pixel_values, batch.labels, batch.tokens, beta=0.5, eta=1.0).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(kept[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_batch_norms_of_several_processes_do_not_wait_for_the_others(model, batch):
    alone = examine(model, batch)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = Waiting
    with pytest.raises(AssertionError, match="waits"):
        batch_gradient_flow(model, batch)
    assert examine(model, batch).to_dict() == alone.to_dict()
    assert examine(nn.SyncBatchNorm.convert_sync_batchnorm(model), batch).to_dict() == alone.to_dict()


def test_a_compiled_part_is_seen_into(model, batch):
    plain = examine(model, batch)
    torch.compiler.reset()
    model.image.compile(backend="eager")
    with torch.no_grad():
        model(model.preprocessing.normalise(batch.images))
    with uncompiled(model):
        seen = examine(model, batch)
    assert seen.to_dict() == plain.to_dict()
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("distinct", "commonest", "references", "alarm"),
    [
        (1, 1.0, REPORTS, "1 distinct report for 40 studies, where the references have 40"),
        (2, 0.6, REPORTS, "2 distinct reports"),
        (3, 0.5, REPORTS, None),
        (6, 0.9, REPORTS, "6 distinct reports"),  # all but a few alike
        (1, 1.0, REPORTS[:1] * 40, None),  # the truth is one report
        (4, 0.4, REPORTS[:4] * 10, None),
        (1, 1.0, REPORTS[:4] * 10, "1 distinct report"),
        (2, 0.95, ["normal"] * 30 + REPORTS[:10], None),  # most true ones are alike, too
        (1, 1.0, REPORTS[:1], None),
    ],
)
def test_a_collapse_is_said_unless_the_references_are_as_much_alike(distinct, commonest, references, alarm):
    row = {"val_distinct_share": distinct / len(references), "val_commonest_share": commonest}
    said = collapse_warning(row, references)
    assert said is None if alarm is None else alarm in said
    assert collapse_warning({}, references) is None
