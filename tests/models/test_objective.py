"""One backward pass gives the gradients of formula 6; the losses are their formulas, in parts too."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from mdnet.data.study import MISSING, Aspect, LabelSpace, Study
from mdnet.models.configuration import ATTENTION_NAMES
from mdnet.models.objective import (
    LossTerms,
    classification_loss,
    language_loss,
    loss_counts,
    loss_terms,
    scale_gradient,
)


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
    logits, _ = model.heads(features)
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
    logits, _ = model.heads(model.encode(images))
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
    logits, _ = model.heads(model.encode(images))
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


@pytest.mark.parametrize("take", TAKEN)
def test_loss_counts_are_the_numbers_that_a_batch_divides_by(space, draw_batch, take):
    _, labels, tokens = draw_batch(4)
    take(labels, tokens)
    counts = loss_counts(labels, tokens, space, 0)
    known = sum(label != MISSING for values in labels.values() for label in values.flatten().tolist())
    assert counts["classification"].shape == counts["language"].shape == ()
    assert counts["classification"] == known
    assert counts["language"] == sum(word != 0 for word in tokens.flatten().tolist())


def test_loss_counts_of_what_is_not_there_are_zero(space, draw_batch):
    _, labels, tokens = draw_batch(2)
    assert loss_counts(labels, None, space, 0)["language"] == 0
    assert loss_counts({}, tokens, LabelSpace(), 0)["classification"] == 0
    assert loss_counts(None, tokens, space, 0)["classification"] == 0
    assert list(loss_counts(None, None, space, 0).values()) == [0, 0, 0]


@pytest.mark.parametrize("take", TAKEN)
def test_parts_with_the_counts_of_the_whole_add_up_to_it(build_model, draw_batch, take):
    """Of unequal sizes; BatchNorm in evaluation mode, as its statistics would differ."""
    model = build_model()
    images, labels, tokens = draw_batch(4)
    take(labels, tokens)
    counts = loss_counts(labels, tokens, model.config.space, model.config.pad_id)
    whole = model(images, labels, tokens, beta=0.3, eta=2.0)
    gradients = gradients_of(whole.loss, model)
    sums = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
    losses = torch.zeros(2, dtype=torch.float64)
    for part in (slice(0, 1), slice(1, 4)):
        its_labels = {name: label[part] for name, label in labels.items()}
        output = model(images[part], its_labels, tokens[part], beta=0.3, eta=2.0, counts=counts)
        losses += torch.stack(list(output.losses.values())).detach()
        for name, gradient in gradients_of(output.loss, model).items():
            sums[name] += gradient
    torch.testing.assert_close(losses, torch.stack(list(whole.losses.values())), rtol=1e-12, atol=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(sums[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


def test_a_count_may_be_a_fraction_below_one(build_model, draw_batch):
    """A process of eight is given an eighth of the step's number of labels, since gradients are averaged."""
    model = build_model()
    plain = model(*draw_batch(1)).losses
    eighth = dict.fromkeys(plain, torch.tensor(0.125))
    shares = model(*draw_batch(1), counts=eighth).losses
    counts = loss_counts(*draw_batch(1)[1:], model.config.space, model.config.pad_id)
    for name, loss in plain.items():
        torch.testing.assert_close(shares[name], loss * counts[name] / 0.125)


@pytest.mark.parametrize(("beta", "eta"), [(0.3, 1.0), (0.5, 4.0)])
def test_counts_and_terms_leave_the_gradient_rule_exact(build_model, draw_batch, beta, eta):
    model = build_model().train()
    images, labels, tokens = draw_batch(3)
    take_some_labels(labels, tokens)
    space = model.config.space
    counts = {"classification": torch.tensor(31), "language": torch.tensor(217)}
    terms = draw_terms(space, label_smoothing=0.1, which="both")
    output = model(images, labels, tokens, beta=beta, eta=eta, counts=counts, terms=terms)
    joint = gradients_of(output.loss, model)

    logits, _ = model.heads(features := model.encode(images))
    of_m = gradients_of(
        classification_loss(logits, labels, space, terms=terms, count=torch.tensor(31)), model
    )
    begin = torch.tensor(model.config.begin_ids)[None, :, None].expand(3, -1, 1)
    prepared = model.prepare(features, model.guides(logits, labels))
    written = model.report(torch.cat([begin, tokens[:, :, :-1]], dim=2), features.grid, prepared)
    of_l = gradients_of(language_loss(written.logits, tokens, 0, count=torch.tensor(217))[0], model)
    for name, gradient in joint.items():
        of_image = name.startswith("image.")
        expected = (1 - beta if of_image else 1) * of_m[name] + (beta * eta if of_image else 1) * of_l[name]
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12, msg=name)


def draw_terms(space: LabelSpace, *, label_smoothing: float, which: str) -> LossTerms:
    """Random weights above 0 and random log priors."""
    random = torch.Generator().manual_seed(3)
    drawn = {
        a.name: torch.rand(2, len(a.classes), generator=random, dtype=torch.float64) for a in space.aspects
    }
    return LossTerms(
        label_smoothing,
        class_weights={n: 0.1 + 3 * d[0] for n, d in drawn.items()} if which in ("weights", "both") else None,
        log_priors={n: -4 * d[1] for n, d in drawn.items()} if which in ("priors", "both") else None,
    )


def naive_cost(scores: list[float], label: int, terms: LossTerms, name: str) -> float:
    """A label's cross-entropy from its formula: adjusted, weighted and smoothed."""
    classes = range(len(scores))
    if terms.log_priors is not None:
        scores = [scores[k] + float(terms.log_priors[name][k]) for k in classes]
    weights = [1.0 if terms.class_weights is None else float(terms.class_weights[name][k]) for k in classes]
    total = sum(math.exp(score) for score in scores)
    smoothed = [
        (1 - terms.label_smoothing) * (k == label) + terms.label_smoothing / len(scores) for k in classes
    ]
    return -sum(smoothed[k] * weights[k] * math.log(math.exp(scores[k]) / total) for k in classes)


def naive_binary_cost(score: float, label: int, terms: LossTerms, name: str, k: int) -> float:
    """The same of one class of a multi-label aspect: the weight is of what is present."""
    if terms.log_priors is not None:
        score += float(terms.log_priors[name][k])
    weight = 1.0 if terms.class_weights is None else float(terms.class_weights[name][k])
    p = 1 / (1 + math.exp(-score))
    present = (1 - terms.label_smoothing) * label + terms.label_smoothing / 2
    return -weight * present * math.log(p) - (1 - present) * math.log(1 - p)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.15])
@pytest.mark.parametrize("which", ["none", "weights", "priors", "both"])
def test_terms_change_the_loss_as_their_formulas_say(space, draw_batch, label_smoothing, which):
    _, labels, _ = draw_batch(4)
    take_some_labels(labels, None)
    del labels["cell.type"]
    random = torch.Generator().manual_seed(1)
    logits = {
        a.name: torch.randn(4, len(a.classes), generator=random, dtype=torch.float64) for a in space.aspects
    }
    terms = draw_terms(space, label_smoothing=label_smoothing, which=which)
    costs = []
    for study in range(4):
        if (label := int(labels["mitosis"][study])) != MISSING:
            costs.append(naive_cost(logits["mitosis"][study].tolist(), label, terms, "mitosis"))
        costs += [
            naive_binary_cost(float(logits["findings"][study, k]), int(label), terms, "findings", k)
            for k, label in enumerate(labels["findings"][study])
            if label != MISSING
        ]
    found = classification_loss(logits, labels, space, terms=terms)
    assert float(found) == pytest.approx(sum(costs) / len(costs), rel=1e-12)  # by the plain number of labels
    found = classification_loss(logits, labels, space, terms=terms, count=torch.tensor(50))
    assert float(found) == pytest.approx(sum(costs) / 50, rel=1e-12)


def test_terms_touch_neither_the_words_nor_the_logits(build_model, draw_batch):
    model = build_model()
    plain = model(*draw_batch(3))
    terms = draw_terms(model.config.space, label_smoothing=0.3, which="both")
    changed = model(*draw_batch(3), terms=terms)
    assert torch.equal(plain.log_likelihood, changed.log_likelihood)
    assert torch.equal(plain.losses["language"], changed.losses["language"])
    assert plain.losses["classification"] != changed.losses["classification"]
    for name, logits in plain.logits.items():
        assert torch.equal(logits, changed.logits[name])


GRADES = LabelSpace(
    (
        Aspect("grade", ("low", "high", "unseen")),
        Aspect("signs", ("often", "rare", "never", "all"), multi_label=True),
    )
)


def study_with(number: int, labels: dict) -> Study:
    return Study(id=str(number), images=(Path("x.png"),), labels=labels)


@pytest.fixture
def graded_studies() -> list[Study]:
    """Grades: 6 low, 2 high, 2 unknown. Signs: "often" in 3 of 4, "rare" in 1, "never" in 0, "all" in 4."""
    studies = [study_with(i, {"grade": "low"}) for i in range(4)]
    studies += [study_with(4, {"grade": "low", "signs": ("often", "all")})]
    studies += [study_with(5, {"grade": "low", "signs": ("often", "all")})]
    studies += [study_with(6, {"grade": "high", "signs": ("often", "rare", "all")})]
    studies += [study_with(7, {"grade": "high", "signs": ("all",)})]
    return [*studies, study_with(8, {}), study_with(9, {})]


def test_weights_are_inverse_frequencies_with_mean_one_over_the_labels(graded_studies):
    terms = loss_terms(graded_studies, GRADES, label_smoothing=0.0, imbalance="weights")
    low, high, unseen = terms.class_weights["grade"].tolist()
    assert (low, high, unseen) == pytest.approx((8 / (2 * 6), 8 / (2 * 2), 1.0))
    assert (6 * low + 2 * high) / 8 == pytest.approx(1.0)
    assert terms.class_weights["signs"].tolist() == pytest.approx([1 / 3, 3.0, 1.0, 1.0])
    assert terms.log_priors is None


def test_log_priors_are_those_of_the_training_labels(graded_studies):
    terms = loss_terms(graded_studies, GRADES, label_smoothing=0.0, imbalance="logits")
    expected = [math.log(6 / 8), math.log(2 / 8), 0.0]
    assert terms.log_priors["grade"].tolist() == pytest.approx(expected)
    assert terms.log_priors["signs"].tolist() == pytest.approx([math.log(3), math.log(1 / 3), 0.0, 0.0])
    assert terms.class_weights is None


@pytest.mark.parametrize("imbalance", ["weights", "logits"])
def test_without_a_single_label_nothing_is_balanced_and_nothing_is_infinite(imbalance):
    terms = loss_terms([study_with(0, {})], GRADES, label_smoothing=0.1, imbalance=imbalance)
    found = terms.class_weights if imbalance == "weights" else terms.log_priors
    assert {value for values in found.values() for value in values.tolist()} == {imbalance == "weights"}


def test_the_weight_of_a_rare_finding_is_bounded():
    studies = [study_with(i, {"signs": ("rare",) if i == 0 else ()}) for i in range(500)]
    terms = loss_terms(studies, GRADES, label_smoothing=0.0, imbalance="weights")
    assert terms.class_weights["signs"].tolist() == [1.0, 100.0, 1.0, 1.0]


def test_a_plain_loss_has_no_terms(graded_studies):
    assert loss_terms(graded_studies, GRADES, label_smoothing=0.0, imbalance="none") is None
    assert loss_terms(graded_studies, GRADES, label_smoothing=0.1, imbalance="none") == LossTerms(0.1)


def test_adjusted_logits_come_out_balanced():
    """Of two classes in proportion 9 to 1 that nothing tells apart, neither is preferred in use [2]."""
    space = LabelSpace((Aspect("grade", ("common", "rare")),))
    studies = [study_with(i, {"grade": "rare" if i % 10 == 0 else "common"}) for i in range(50)]
    labels = {"grade": torch.tensor([int(i % 10 == 0) for i in range(50)])}
    terms = loss_terms(studies, space, label_smoothing=0.0, imbalance="logits")
    bias = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([bias], lr=2.0)
    for _ in range(200):
        optimizer.zero_grad()
        classification_loss({"grade": bias.expand(50, 2)}, labels, space, terms=terms).backward()
        optimizer.step()
    assert bias.softmax(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=1e-4)
