"""Gradient flow equals separate backward passes, whatever the fork's scales, and warns of what is far off."""

from __future__ import annotations

import math

import pytest
import torch

from mdnet.data.loading import StudyBatch
from mdnet.errors import ConfigurationError
from mdnet.explain.gradient_flow import GradientFlow, LayerGradient, batch_gradient_flow, gradient_flow
from mdnet.models.objective import classification_loss, language_loss


def losses_apart(model, images, labels, tokens):
    """L_M and L_L, of a forward pass that scales no gradient."""
    features = model.encode(images)
    logits, _ = model.heads(features)
    begin = torch.tensor(model.config.begin_ids)[None, :, None].expand(len(tokens), -1, 1)
    prepared = model.prepare(features, model.guides(logits, labels))
    written = model.report(torch.cat([begin, tokens[:, :, :-1]], dim=2), features.grid, prepared)
    return {
        "classification": classification_loss(logits, labels, model.config.space),
        "language": language_loss(written.logits, tokens, model.config.pad_id)[0],
    }


def norms_by_backward(model, loss):
    """Layer name to the norm of its parameters' gradients, from `loss.backward()`; None where none came."""
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    norms = {}
    for name, module in model.named_modules():
        parameters = list(module.parameters(recurse=False))
        if parameters:
            squares = [(p.grad**2).sum() for p in parameters if p.grad is not None]
            norms[name] = math.sqrt(sum(float(square) for square in squares)) if squares else None
    model.zero_grad(set_to_none=True)
    return norms


@pytest.mark.parametrize(("beta", "eta"), [(0.5, 1.0), (0.3, 4.0), (0.9, 0.1)])
def test_norms_equal_separate_backward_passes_unscaled(build_model, draw_batch, beta, eta):
    model = build_model().train()
    images, labels, tokens = draw_batch(3)
    output = model(images, labels, tokens, beta=beta, eta=eta)
    flow = gradient_flow(model, output, beta=beta, eta=eta)
    for loss, value in losses_apart(model, images, labels, tokens).items():
        assert flow.losses[loss] == pytest.approx(value.item(), rel=1e-12)
        assert_norms(flow, loss, norms_by_backward(model, value), rel=1e-9)


def test_weight_norms_and_ratios_are_of_all_of_a_layers_parameters(build_model, draw_batch):
    model = build_model()
    flow = gradient_flow(model, model(*draw_batch(2), beta=0.5, eta=1.0), beta=0.5, eta=1.0)
    assert sum(layer.parameters for layer in flow.layers) == sum(p.numel() for p in model.parameters())
    for layer in flow.layers:
        own = [p.detach().flatten() for p in model.get_submodule(layer.layer).parameters(recurse=False)]
        assert layer.weight_norm == pytest.approx(float(torch.cat(own).norm()), rel=1e-12)
        norm = layer.gradient_norm["language"]
        assert layer.ratio("language") == (None if norm is None else norm / layer.weight_norm)


def test_a_loss_that_does_not_reach_a_layer_has_no_norm_there(build_model, draw_batch):
    model = build_model()
    images, labels, tokens = draw_batch(2)
    flow = gradient_flow(model, model(images, labels, tokens, beta=0.0), beta=0.0, eta=1.0)
    for layer in flow.layers:
        part = layer.layer.partition(".")[0]
        assert (layer.gradient_norm["classification"] is None) == (part == "report"), layer.layer
        assert (layer.gradient_norm["language"] is None) == (part != "report"), layer.layer


def test_one_loss_alone_is_unscaled_too(build_model, draw_batch):
    model = build_model()
    images, labels, tokens = draw_batch(2)
    apart = losses_apart(model, images, labels, tokens)
    only_labels = gradient_flow(model, model(images, labels, beta=0.5), beta=0.5, eta=1.0)
    assert list(only_labels.losses) == ["classification"]
    expected = norms_by_backward(model, apart["classification"])
    assert_norms(only_labels, "classification", expected, rel=1e-9)

    headless = build_model(label_space=None)
    flow = gradient_flow(headless, headless(images, None, tokens, beta=0.5, eta=3.0), beta=0.5, eta=3.0)
    headless.zero_grad()
    headless(images, None, tokens, beta=0.5, eta=1.0).loss.backward()  # beta becomes 1 there
    stem = next(layer for layer in flow.layers if layer.layer == "image.stem")
    expected_norm = float(headless.image.stem.weight.grad.norm())
    assert stem.gradient_norm["language"] == pytest.approx(expected_norm, rel=1e-9)


def test_a_training_step_can_go_on_behind_it(build_model, draw_batch):
    model = build_model().train()
    batch = draw_batch(2)
    output = model(*batch, beta=0.5, eta=1.0)
    gradient_flow(model, output, beta=0.5, eta=1.0)
    assert all(parameter.grad is None for parameter in model.parameters())
    output.loss.backward()
    with_record = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model(*batch, beta=0.5, eta=1.0).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(with_record[name], parameter.grad, rtol=1e-12, atol=0)


def test_a_batch_is_seen_as_in_training_and_the_model_left_as_it_was(build_model, draw_batch):
    model = build_model(dtype=torch.float32, dropout=0.5)
    _, labels, tokens = draw_batch(3)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=random)
    batch = StudyBatch(("a", "b", "c"), images, labels, tokens)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flow = batch_gradient_flow(model, batch)
    assert flow.to_dict() == batch_gradient_flow(model, batch).to_dict()  # no dropout
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    undropped = build_model(dtype=torch.float32, dropout=0.0).train()
    pixel_values = undropped.preprocessing.normalise(images)
    apart = losses_apart(undropped, pixel_values, labels, tokens)
    assert flow.losses["language"] == pytest.approx(apart["language"].item(), rel=1e-5)
    expected = norms_by_backward(undropped, apart["classification"])
    assert_norms(flow, "classification", expected, rel=1e-3)


def test_a_frozen_batch_norm_keeps_its_own_statistics(build_model, draw_batch):
    model = build_model(dtype=torch.float32, dropout=0.0).eval()
    model.image.requires_grad_(False)
    _, labels, tokens = draw_batch(3)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    losses = losses_apart(model, model.preprocessing.normalise(images), labels, tokens)
    flow = batch_gradient_flow(model, StudyBatch(("a", "b", "c"), images, labels, tokens))
    assert flow.losses["classification"] == pytest.approx(losses["classification"].item(), rel=1e-6)


def test_no_loss_is_an_error(build_model, draw_batch):
    model = build_model()
    with pytest.raises(ConfigurationError, match="give the forward pass labels or tokens"):
        gradient_flow(model, model(draw_batch(1).pixel_values), beta=0.5, eta=1.0)


def assert_norms(flow, loss, expected, *, rel):
    """The flow's norms of a loss equal the expected ones, layer for layer."""
    assert [layer.layer for layer in flow.layers] == list(expected)
    for layer in flow.layers:
        norm = expected[layer.layer]
        found = layer.gradient_norm[loss]
        assert found is norm is None or found == pytest.approx(norm, rel=rel), layer.layer


def flow_of(*norms: float | None) -> GradientFlow:
    layers = [LayerGradient(f"layer{i}", 1, 1.0, {"language": norm}) for i, norm in enumerate(norms)]
    return GradientFlow({"language": 1.0}, tuple(layers))


def test_layers_far_from_the_others_are_warned_of():
    assert flow_of(0.1, 1.0, 10.0, None).warnings == []
    (tiny,) = flow_of(1e-5, 1.0, 1.0, 2.0).warnings
    assert tiny.startswith("layer0: vanishing: the gradient of language is 1.0e-05 of the weights")
    (huge,) = flow_of(1.0, 1.0, 5e3, None).warnings
    assert huge.startswith("layer2: exploding")
    assert flow_of(1.0, 0.0, 1.0).warnings[0].startswith("layer1: vanishing")
    assert "layer2: exploding: the gradient of language is nan" in flow_of(1.0, 1.0, math.nan).warnings
    assert len(flow_of(0.0, 0.0).warnings) == 2


def test_small_weights_do_not_make_a_usual_gradient_an_exploding_one():
    def flow(norm: float, weights: float) -> GradientFlow:
        layers = [LayerGradient(f"layer{i}", 100, 10.0, {"language": 0.01}) for i in range(4)]
        layers.append(LayerGradient("head", 100, weights, {"language": norm}))
        return GradientFlow({"language": 1.0}, tuple(layers))

    assert flow(0.1, 0.01).warnings == []  # ten times its weights, and ten times the others' gradient
    (line,) = flow(20.0, 0.01).warnings
    assert line.startswith("head: exploding")
    assert len(flow(20.0, 10.0).warnings) == 1


def test_a_new_model_does_not_seem_to_explode(build_model, draw_batch):
    model = build_model()
    flow = gradient_flow(model, model(*draw_batch(4), beta=0.5, eta=1.0), beta=0.5, eta=1.0)
    assert [line for line in flow.warnings if "exploding" in line] == []


def test_a_layer_starved_in_a_real_model_is_warned_of(build_model, draw_batch):
    model = build_model()
    batch = draw_batch(2)
    with torch.no_grad():
        model.image.stages[2].residual[0].layers[-1].weight *= 1e-6  # the function ends in next to nothing
    flow = gradient_flow(model, model(*batch, beta=0.5, eta=1.0), beta=0.5, eta=1.0)
    warned = [text.split(": ")[0] for text in flow.warnings if "vanishing" in text]
    assert "image.stages.2.residual.0.layers.2" in warned  # what feeds it gets no gradient
