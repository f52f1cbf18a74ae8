"""Each form of attention is its formula, and its weights are those with which C(I) enters z_t."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.models.attention import Attention, build_attention
from mdnet.models.configuration import ATTENTION_NAMES, MDNetConfig

B, S, P, D, H = 2, 3, 16, 5, 7


@pytest.fixture
def inputs():
    """h (B, S, H), C(I) (B, P, D) and evidence (B, S, P)."""
    random = torch.Generator().manual_seed(3)
    shapes = ((B, S, H), (B, P, D), (B, S, P))
    return tuple(2.0 * torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes)


def make_attention(name: str) -> Attention:
    config = MDNetConfig(
        image_size=8,
        widths=[2, 3],
        depths=[1, 1],
        strides=[1, 1],
        attention=name,
        attention_size=6,
        hidden_size=H,
        label_space={"aspects": [{"name": "mitosis", "classes": ["absent", "rare"]}]},
    )
    torch.manual_seed(5)
    attention = build_attention(config).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    return attention


def softmax(values: list[Tensor]) -> list[Tensor]:
    exponentials = [torch.exp(value) for value in values]
    return [exponential / sum(exponentials) for exponential in exponentials]


@pytest.mark.parametrize("name", ATTENTION_NAMES)
def test_weights_are_not_negative_and_sum_to_one(inputs, name):
    hidden, grid, evidence = inputs
    attention = make_attention(name)
    for scale in (0.0, 1.0, 50.0):
        weights = attention(hidden, attention.prepare(grid, scale * evidence))
        assert weights.shape == (B, S, P)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(B, S, dtype=torch.float64))


def test_sharpened_equals_its_formula(inputs):
    hidden, grid, evidence = inputs
    attention = make_attention("sharpened")
    found = attention(hidden, attention.prepare(grid, evidence))
    w, b = attention.sharpness.weight[0], attention.sharpness.bias[0]
    for study in range(B):
        for section in range(S):
            sharpness = math.log1p(math.exp((hidden[study, section] @ w + b).item()))
            expected = softmax([sharpness * c for c in evidence[study, section]])
            torch.testing.assert_close(found[study, section], torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_sharpened_never_prefers_a_place_of_less_evidence(inputs):
    hidden, grid, evidence = inputs
    attention = make_attention("sharpened")
    weights = attention(-10 * hidden, attention.prepare(grid, evidence))
    order = evidence.argsort(dim=-1)
    assert (weights.gather(-1, order).diff(dim=-1) >= 0).all()


def test_mdnet_equals_formula_5_to_the_letter(inputs):
    hidden, grid, evidence = inputs
    attention = make_attention("mdnet")
    found = attention(hidden, attention.prepare(grid, evidence))
    W_h, W_att = attention.hidden.weight, attention.position.weight
    assert W_att.shape == (P, P)
    for study in range(B):
        for section in range(S):
            inner = torch.tanh(W_h @ hidden[study, section] + evidence[study, section])
            expected = softmax([row @ inner for row in W_att])
            torch.testing.assert_close(found[study, section], torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_additive_returns_the_weights_with_which_features_enter_the_context(inputs):
    hidden, grid, evidence = inputs
    attention = make_attention("additive")
    found = attention(hidden, attention.prepare(grid, evidence))
    for study in range(B):
        for section in range(S):
            share = torch.stack(softmax(list(evidence[study, section])))
            candidates = [*grid[study], share @ grid[study]]  # P positions, and the evidence-weighted feature
            query = attention.hidden.weight @ hidden[study, section]
            scores = [
                attention.score.weight[0] @ torch.tanh(attention.feature(x) + query) for x in candidates
            ]
            context = sum(w * x for w, x in zip(softmax(scores), candidates, strict=True))
            torch.testing.assert_close(found[study, section] @ grid[study], context, rtol=1e-10, atol=1e-12)


def test_additive_looks_at_features_where_there_is_no_evidence(inputs):
    hidden, grid, _ = inputs
    attention = make_attention("additive")
    weights = attention(hidden, attention.prepare(grid, torch.zeros(B, S, P, dtype=torch.float64)))
    assert weights.std(dim=-1).min() > 1e-3


def test_mdnet_says_which_image_size_it_takes(inputs):
    _, features, evidence = inputs
    with pytest.raises(ConfigurationError, match="give images of 8 x 8 pixels"):
        make_attention("mdnet").prepare(features[:, :9], evidence[..., :9])
