"""One backward pass gives the gradients of formula 6; the losses are their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mdnet.data.study import MISSING
from mdnet.models.configuration import ATTENTION_NAMES
from mdnet.models.objective import classification_loss, language_loss, scale_gradient


def gradients_of(loss: torch.Tensor, module: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients by parameter name; zero where the loss does not reach, as for an untouched parameter."""
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(module.named_parameters(), found, strict=True)
    }


def take_some_labels(labels, tokens):
    labels["mitosis"][0] = MISSING
    labels["conclusion"][:] = MISSING
    labels["findings"][1] = MISSING  # a study
    labels["findings"][2, 0] = MISSING  # one class of a study


def take_an_aspect(labels, tokens):
    del labels["cell.type"]


def take_some_sections(labels, tokens):
    tokens[0, 1] = 0
    tokens[:, 2] = 0


def take_all_labels(labels, tokens):
    for label in labels.values():
        label[:] = MISSING


def take_all_words(labels, tokens):
    tokens[:] = 0


def take_nothing(labels, tokens):
    pass


TAKEN = [take_nothing, take_some_labels, take_an_aspect, take_some_sections, take_all_labels, take_all_words]


@pytest.mark.parametrize("take", TAKEN)
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@pytest.mark.parametrize(("beta", "eta"), [(0.0, 1.0), (0.3, 1.0), (0.5, 4.0), (0.9, 0.1), (1.0, 1.0)])
def test_one_backward_pass_equals_two_combined_by_hand(build_model, draw_batch, attention, beta, eta, take):
    model = build_model(attention=attention).train()
    images, labels, tokens = draw_batch(3)
    take(labels, tokens)

    features = model.encode(images)  # no gradient is scaled from here on
    logits, _ = model.heads(features.blocks)
    classification = classification_loss(logits, labels, model.config.space)
    begin = torch.tensor(model.config.begin_ids)[None, :, None].expand(3, -1, 1)
    prepared = model.prepare(features, model.guides(logits, labels))
    written = model.report(torch.cat([begin, tokens[:, :, :-1]], dim=2), features.grid, prepared)
    language, _ = language_loss(written.logits, tokens, model.config.pad_id)

    output = model(images, labels, tokens, beta=beta, eta=eta)
    torch.testing.assert_close(output.loss, classification + language, rtol=1e-12, atol=0)
    joint = gradients_of(output.loss, model)
    of_classification = gradients_of(classification, model)
    of_language = gradients_of(language, model)
    for name, gradient in joint.items():
        module = name.partition(".")[0]
        if module == "image":  # theta_D
            expected = (1 - beta) * of_classification[name] + beta * eta * of_language[name]
        elif module == "heads":  # theta_M
            assert not of_language[name].any(), name
            expected = of_classification[name]
        else:  # theta_L
            assert module == "report"
            assert not of_classification[name].any(), name
            expected = of_language[name]
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("without", ["tokens", "sections"])
def test_without_language_the_gradient_of_the_labels_is_not_scaled(build_model, draw_batch, without):
    model = build_model(sections=()) if without == "sections" else build_model()
    images, labels, tokens = draw_batch(3)
    output = model(images, labels, None if without == "tokens" else tokens, beta=0.7)
    logits, _ = model.heads(model.encode(images).blocks)
    expected = gradients_of(classification_loss(logits, labels, model.config.space), model.image)
    for name, gradient in gradients_of(output.loss, model.image).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10)


def test_without_labels_the_gradient_of_the_words_is_not_scaled(build_model, draw_batch):
    model = build_model(label_space=None)
    images, _, tokens = draw_batch(3)
    half, other = (model(images, None, tokens, beta=beta, eta=1.0).loss for beta in (0.2, 0.8))
    features = model.encode(images)
    begin = torch.tensor(model.config.begin_ids)[None, :, None].expand(3, -1, 1)
    written = model.report(
        torch.cat([begin, tokens[:, :, :-1]], dim=2), features.grid, model.prepare(features, {})
    )
    expected = gradients_of(language_loss(written.logits, tokens, 0)[0], model.image)
    for loss in (half, other):
        for name, gradient in gradients_of(loss, model.image).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10)


def test_logits_alone_have_their_plain_gradient_for_methods_that_look_inside(build_model, draw_batch):
    model = build_model()
    images = draw_batch(1).pixel_values.requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).logits["mitosis"][0, 2], images)
    logits, _ = model.heads(model.encode(images).blocks)
    (expected,) = torch.autograd.grad(logits["mitosis"][0, 2], images)
    torch.testing.assert_close(gradient, expected)


def test_classification_loss_is_the_mean_over_all_labels_that_are_there(space, draw_batch):
    _, labels, _ = draw_batch(4)
    take_some_labels(labels, None)
    del labels["cell.type"]
    random = torch.Generator().manual_seed(1)
    logits = {
        a.name: torch.randn(4, len(a.classes), generator=random, dtype=torch.float64) for a in space.aspects
    }
    costs = []
    for study in range(4):
        if labels["mitosis"][study] != MISSING:
            p = logits["mitosis"][study].exp() / logits["mitosis"][study].exp().sum()
            costs.append(-math.log(p[labels["mitosis"][study]]))
        for c in range(3):
            if labels["findings"][study, c] != MISSING:
                p = 1 / (1 + math.exp(-logits["findings"][study, c]))
                costs.append(-math.log(p if labels["findings"][study, c] else 1 - p))
    assert len(costs) == 3 + 8
    found = classification_loss(logits, labels, space)
    assert float(found) == pytest.approx(sum(costs) / len(costs), rel=1e-12)


def test_language_loss_is_the_mean_over_words_and_leaves_padding_out(draw_batch):
    tokens = draw_batch(2).tokens
    tokens[1, 3] = 0
    logits = torch.randn(*tokens.shape, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    loss, log_likelihood = language_loss(logits, tokens, 0)
    expected = torch.zeros(2, 4, dtype=torch.float64)
    words = 0
    for place in torch.nonzero(tokens).tolist():
        scores = logits[tuple(place)]
        expected[place[0], place[1]] += scores[tokens[tuple(place)]] - scores.exp().sum().log()
        words += 1
    torch.testing.assert_close(log_likelihood, expected)
    torch.testing.assert_close(loss, -expected.sum() / words)
    assert log_likelihood[1, 3] == 0


def test_losses_of_nothing_are_zero_and_still_have_a_gradient(space):
    logits = {a.name: torch.zeros(2, len(a.classes), requires_grad=True) for a in space.aspects}
    loss = classification_loss(logits, {"mitosis": torch.full((2,), MISSING)}, space)
    loss.backward()
    assert loss == 0
    assert not logits["mitosis"].grad.any()
    scores = torch.zeros(1, 1, 3, 5, requires_grad=True)
    loss, _ = language_loss(scores, torch.zeros(1, 1, 3, dtype=torch.long), 0)
    loss.backward()
    assert loss == 0
    assert not scores.grad.any()


def test_scale_gradient_keeps_the_bits_and_scales_the_gradient():
    x = torch.randn(5, requires_grad=True)
    y = scale_gradient(x, 0.25)
    y.sum().backward()
    assert torch.equal(x, y)
    assert x.grad.tolist() == [0.25] * 5
