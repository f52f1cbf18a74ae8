"""Sampling draws from the distribution it says, and a study's draws are its own."""

from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from mdnet.inference.decoding import Decoded, decode, decode_greedily
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.sampling import draw, truncate
from mdnet.models.mdnet import MDNet

LIMIT = 10


@pytest.fixture
def model(build_model, draw_batch, let_sections_end) -> MDNet:
    model = build_model()
    let_sections_end(model, draw_batch(4).pixel_values)
    return model


def sample(model: MDNet, images: torch.Tensor, *, generator=None, limit: int = LIMIT, **options) -> Decoded:
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    config = DecodingConfig(method="sample", **options)
    return decode(model, output.features, prepared, config, maximum_words=limit, generator=generator)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.6), (5, 0.8), (100, 0.01)])
def test_truncation_is_that_of_transformers(temperature, top_k, top_p):
    random = torch.Generator().manual_seed(1)
    log_p = (3 * torch.randn(50, 12, generator=random, dtype=torch.float64)).log_softmax(dim=-1)
    expected = TemperatureLogitsWarper(temperature)(None, log_p)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    config = DecodingConfig(method="sample", temperature=temperature, top_k=top_k, top_p=top_p)
    torch.testing.assert_close(truncate(log_p, config), expected)


def test_each_word_is_drawn_by_its_share_of_the_numbers():
    p = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.125, 0.125, 0.0])
    uniform = (torch.arange(1000) + 0.5) / 1000
    words = draw(p.log().expand(1000, -1), uniform)
    assert torch.equal(words.bincount(minlength=7), (1000 * p).long())


def test_a_word_of_no_probability_is_never_drawn():
    random = torch.Generator().manual_seed(2)
    scores = torch.randn(2000, 9, generator=random).log_softmax(dim=-1)
    scores[:, [0, 4, 8]] = -torch.inf
    for uniform in (0.0, 1 - 2**-24):  # the least and the largest that torch.rand gives
        assert scores.gather(1, draw(scores, torch.full((2000,), uniform))[:, None]).isfinite().all()


@torch.no_grad()
def test_first_words_are_as_frequent_as_they_are_probable(model, draw_batch):
    images = draw_batch(1).pixel_values
    count = 4000
    decoded = sample(model, images, limit=1, beams=count, best=count, seed=3)
    words = torch.cat([decoded.tokens[:, :, None], decoded.others.tokens], dim=2)[0, :, :, 0]  # (S, N)
    tokens = torch.full((1, 4, 1), model.config.end_id)
    logits = model(images, None, tokens).report_logits[0, :, 0]
    logits[:, [model.config.pad_id, model.tokenizer.unknown_id, *model.config.begin_ids]] = -torch.inf
    p = logits.softmax(dim=-1)
    for section in range(4):
        shares = words[section].bincount(minlength=p.shape[1]) / count
        assert ((shares - p[section]).abs() <= 5 * (p[section] * (1 - p[section]) / count).sqrt()).all()


@torch.no_grad()
def test_draws_repeat_with_the_seed_and_do_not_depend_on_the_batch(model, draw_batch):
    images = draw_batch(4).pixel_values
    options = {"beams": 2, "best": 2, "temperature": 1.5}
    together = sample(model, images, seed=5, **options)
    assert torch.equal(sample(model, images, seed=5, **options).tokens, together.tokens)
    assert not torch.equal(sample(model, images, seed=6, **options).tokens, together.tokens)
    generator = torch.Generator().manual_seed(5)
    for part in (slice(0, 1), slice(1, 4)):
        own = sample(model, images[part], generator=generator, **options)
        length = min(own.tokens.shape[2], together.tokens.shape[2])
        assert torch.equal(own.tokens[..., :length], together.tokens[part, :, :length])
        assert torch.equal(own.others.tokens[..., :length], together.others.tokens[part, ..., :length])
    torch.manual_seed(9)
    unseeded = sample(model, images, **options).tokens
    assert not torch.equal(sample(model, images, **options).tokens, unseeded)
    torch.manual_seed(9)
    assert torch.equal(sample(model, images, **options).tokens, unseeded)


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}])
@torch.no_grad()
def test_drawing_from_the_likeliest_word_alone_is_greedy_decoding(model, draw_batch, options):
    images = draw_batch(3).pixel_values
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    greedy = decode_greedily(model, output.features, prepared, maximum_words=LIMIT)
    drawn = sample(model, images, **options)
    for name in ("tokens", "log_probabilities", "attention"):
        assert torch.equal(getattr(drawn, name), getattr(greedy, name))


@torch.no_grad()
def test_draws_are_ranked_and_their_numbers_are_the_model_s_own(model, draw_batch):
    images = draw_batch(3).pixel_values
    decoded = sample(
        model, images, beams=4, best=4, seed=1, temperature=2.0, length_penalty=0.5, alternatives=2
    )
    forced = model(images, None, decoded.tokens)
    torch.testing.assert_close(decoded.log_probabilities.sum(dim=2), forced.log_likelihood)
    written = decoded.tokens != model.config.pad_id
    torch.testing.assert_close(decoded.attention[written], forced.attention[written])
    scores = forced.log_likelihood / written.sum(dim=2) ** 0.5
    for other in range(3):
        tokens = decoded.others.tokens[:, :, other]
        length = (tokens != model.config.pad_id).sum(dim=2)
        other_scores = model(images, None, tokens).log_likelihood / length**0.5
        torch.testing.assert_close(decoded.others.scores[:, :, other], other_scores)
        assert (other_scores <= scores + 1e-9).all()
        scores = other_scores
    first = decoded.alternatives.log_probabilities[..., 0][written]
    assert (first >= decoded.log_probabilities[written]).all()


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("method", ["greedy", "sample"])
@torch.no_grad()
def test_no_run_of_words_stands_twice(model, draw_batch, method, size):
    model.report.output.bias[model.config.end_id] -= 3
    images = draw_batch(3).pixel_values
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    repeats = {}
    for limit in (0, size):
        config = DecodingConfig(method=method, no_repeat_ngram=limit, seed=1 if method == "sample" else None)
        decoded = decode(model, output.features, prepared, config, maximum_words=40)
        repeats[limit] = 0
        for row in decoded.tokens.flatten(0, 1).tolist():
            words = [word for word in row if word != model.config.pad_id]
            runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
            repeats[limit] += len(runs) - len(set(runs))
    assert repeats[0] > 0
    assert repeats[size] == 0
