"""Show, Attend and Tell is the formulas of its paper, penalty and all, and is guided by no evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mdnet.data.loading import StudyBatch
from mdnet.data.phantom import LABEL_SPACE, SECTIONS
from mdnet.data.text import ReportTokenizer
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model
from mdnet.models.zoo.show_attend_tell import LAMBDA
from mdnet.report.network_pictures import gradient_picture
from mdnet.training.health import examine

NARROW: dict[str, Any] = {
    "image_size": 32,
    "widths": [4, 6, 8],
    "depths": [1, 2, 2],
    "embedding_size": 5,
    "hidden_size": 7,
    "attention_size": 6,
    "dropout": 0.0,
}


@pytest.fixture
def build(build_model):
    """Makes a narrow model of random float64 weights."""
    return lambda **options: build_model("show_attend_tell", **NARROW | options)


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    product = layer.weight @ x
    return product if layer.bias is None else product + layer.bias


def naive_section(model: MDNet, features: Tensor, tokens: list[int], section: int) -> tuple[Tensor, Tensor]:
    """Log p of each word (T,) and alpha (T, P) of one section, from features a_i (P, D), a word at a time."""
    report, config = model.report, model.config
    mean = torch.stack(list(features)).mean(dim=0)
    h = torch.tanh(linear(report.first_hidden, mean))  # f_init,h
    c = torch.tanh(linear(report.first_cell, mean))  # f_init,c
    log_p, looked = [], []
    y = config.begin_ids[section]
    for target in tokens:
        f_att = report.attention
        e = torch.stack(
            [
                f_att.score.weight[0] @ torch.tanh(linear(f_att.feature, a) + f_att.hidden.weight @ h)
                for a in features
            ]
        )
        alpha = e.exp() / e.exp().sum()
        beta = 1 / (1 + torch.exp(-linear(report.gate, h)))
        z = beta * sum(weight * a for weight, a in zip(alpha, features, strict=True))
        word = report.embedding.weight[y]  # E y_{t-1}
        cell, x = report.lstm, torch.cat([word, z])
        gates = cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh
        i, f, g, o = gates.split(config.hidden_size)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        deep = word + report.hidden_readout.weight @ h + report.context_readout.weight @ z
        scores = linear(report.output, deep)  # L_o
        log_p.append(scores[target] - scores.exp().sum().log())
        looked.append(alpha)
        y = target
    return torch.stack(log_p), torch.stack(looked)


def words_of(model: MDNet, tokens: Tensor) -> list[int]:
    return [word for word in tokens.tolist() if word != model.config.pad_id]


@torch.no_grad()
def test_words_and_attention_are_those_of_the_papers_formulas(build, draw_batch):
    model, (images, labels, tokens) = build(), draw_batch(2)
    output = model(images, labels, tokens)
    log_p = output.report_logits.log_softmax(dim=-1).gather(-1, tokens[..., None]).squeeze(-1)
    for study in range(2):
        features = model.image(images[study : study + 1]).blocks[0][0].flatten(1).T  # a_i (P, D)
        assert features.shape == (16, 8)
        for section in range(4):
            words = words_of(model, tokens[study, section])
            expected, looked = naive_section(model, features, words, section)
            found = log_p[study, section, : len(words)]
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
            attention = output.attention[study, section, : len(words)]
            torch.testing.assert_close(attention, looked, rtol=1e-10, atol=1e-12)


def naive_penalty(model: MDNet, attention: Tensor, tokens: Tensor, positions: list[list[int]]) -> float:
    """Lambda sum_i (1 - sum_t alpha_ti)^2 of all sections, over the number of words, by loops."""
    total, words = 0.0, 0
    for study, there in enumerate(positions):
        for section in range(tokens.shape[1]):
            count = len(words_of(model, tokens[study, section]))
            words += count
            for i in there if count else []:
                total += (1.0 - sum(float(attention[study, section, t, i]) for t in range(count))) ** 2
    return LAMBDA * total / words


@torch.no_grad()
def test_the_penalty_is_of_the_words_of_sections_that_are_told(build, draw_batch):
    model, (images, labels, tokens) = build(), draw_batch(3)
    tokens[1, 2] = model.config.pad_id  # a section that is not told
    output = model(images, labels, tokens)
    expected = naive_penalty(model, output.attention, tokens, [list(range(16))] * 3)
    assert output.losses.keys() == {"classification", "language", "doubly_stochastic"}
    assert float(output.losses["doubly_stochastic"]) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(output.loss, sum(output.losses.values()))


@torch.no_grad()
def test_the_objective_is_that_of_the_paper_over_the_number_of_words(build, draw_batch):
    """L = -log p(y) + lambda sum_i (1 - sum_t alpha_ti)^2: what divides both weighs neither more."""
    model, (images, labels, tokens) = build(), draw_batch(3)
    output = model(images, labels, tokens)
    words = int((tokens != model.config.pad_id).sum())
    looked = (output.attention * (tokens != model.config.pad_id)[..., None]).sum(dim=2)
    published = -output.log_likelihood.sum() + LAMBDA * ((1 - looked) ** 2).sum()
    found = output.losses["language"] + output.losses["doubly_stochastic"]
    torch.testing.assert_close(words * found, published, rtol=1e-12, atol=0)


@torch.no_grad()
def test_no_penalty_is_of_a_view_that_is_not_there(build, draw_batch):
    model, (images, labels, tokens) = build(views=2), draw_batch(2, size=(32, 64))
    present = torch.tensor([[True, True], [False, True]])
    output = model(images, labels, tokens, present=present)
    second = [p for p in range(32) if p % 8 >= 4]  # a row of the grid has four columns a view
    expected = naive_penalty(model, output.attention, tokens, [list(range(32)), second])
    assert float(output.losses["doubly_stochastic"]) == pytest.approx(expected, rel=1e-12)


def test_a_batch_without_words_costs_nothing(build, draw_batch):
    model, (images, labels, tokens) = build(), draw_batch(2)
    output = model(images, labels, torch.zeros_like(tokens))
    assert output.losses["doubly_stochastic"] == output.losses["language"] == 0
    output.loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("loss", ["language", "doubly_stochastic"])
def test_the_gradient_reaches_every_part_that_the_loss_is_of(build, draw_batch, loss):
    model = build()
    model(*draw_batch(3)).losses[loss].backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    due = {name for name, _ in model.named_parameters() if not name.startswith("heads.")}
    if loss == "doubly_stochastic":  # it is of the attention alone
        due -= {f"report.{name}" for name in ("hidden_readout.weight", "context_readout.weight")}
        due -= {"report.output.weight", "report.output.bias"}
    assert reached == due


def test_no_evidence_guides_it_and_findings_say_so(build, draw_batch):
    model, images = build(), draw_batch(3).pixel_values
    output = model(images)
    guides = model.guides(output.logits)
    prepared = model.prepare(output.features, guides)
    other = model.prepare(output.features, {name: (guide + 1) % 2 for name, guide in guides.items()})
    assert not torch.equal(prepared.evidence, other.evidence)
    words, grid = torch.zeros(3, 4, 5, dtype=torch.float64), output.features.grid
    first, second = (
        model.report.step(words, model.report.initial_state(each), grid, each) for each in (prepared, other)
    )
    assert torch.equal(first[0].hidden, second[0].hidden)
    assert torch.equal(first[1], second[1])
    predictor = Predictor(model.float(), name="small", device="cpu")
    picture = (images[0].movedim(0, 2) * 50 + 128).clamp(0, 255).byte().numpy()
    sections = predictor(picture).report.sections
    assert [section.guided_by for section in sections.values()] == [None] * 4
    assert sections["mitosis"].aspect == "mitosis"  # what it is about


def test_a_look_inside_tells_the_penalty_where_there_are_words(build, draw_batch):
    model, (_, labels, tokens) = build().float(), draw_batch(4)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=random)
    batch = StudyBatch(("a", "b", "c", "d"), images, labels, tokens)
    flow = examine(model, batch).flow
    assert list(flow.losses) == ["classification", "language", "doubly_stochastic"]
    figure = gradient_picture(flow)
    assert "doubly_stochastic = " in figure.get_suptitle()
    assert [len(axis.lines) for axis in figure.axes] == [3, 3]
    silent = replace(batch, tokens=torch.full_like(tokens, model.config.pad_id))
    assert list(examine(model, silent).flow.losses) == ["classification"]


def test_it_is_as_large_as_mdnet_tiny():
    tokenizer = ReportTokenizer.build([f"word{number}" for number in range(230)], SECTIONS)
    sizes = []
    for name in ("show_attend_tell", "mdnet_tiny"):
        model = create_model(name, label_space=LABEL_SPACE, sections=SECTIONS, tokenizer=tokenizer)
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
        assert model.config.grid_size == 16
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
