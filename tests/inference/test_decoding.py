"""Greedy decoding equals a naive loop that reads the whole text again for every word."""

from __future__ import annotations

import pytest
import torch

from mdnet.inference.decoding import Decoded, decode_greedily
from mdnet.models.configuration import ATTENTION_NAMES
from mdnet.models.mdnet import MDNet

LIMIT = 12


@pytest.fixture
def make_writer(build_model, draw_batch, let_sections_end):
    """A model whose sections end here and there."""

    def make(attention: str = "sharpened", *, eagerness: float = 0.0) -> MDNet:
        model = build_model(attention=attention)
        let_sections_end(model, draw_batch(4).pixel_values)
        with torch.no_grad():
            model.report.output.bias[model.config.end_id] += eagerness
        return model

    return make


def decode(model: MDNet, images: torch.Tensor, limit: int = LIMIT) -> Decoded:
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    return decode_greedily(model, output.features, prepared, maximum_words=limit)


def naive_words(model: MDNet, image: torch.Tensor, section: int) -> list[int]:
    """One section of one study: the model reads all words so far, and the likeliest next one is added."""
    config = model.config
    never = [config.pad_id, model.tokenizer.unknown_id, *config.begin_ids]
    words: list[int] = []
    while len(words) < LIMIT:
        tokens = torch.full((1, len(config.sections), len(words) + 1), config.end_id)
        tokens[0, section, : len(words)] = torch.tensor(words, dtype=torch.long)
        scores = model(image[None], None, tokens).report_logits[0, section, -1].tolist()
        allowed = [number for number in range(len(scores)) if number not in never]
        words.append(max(allowed, key=scores.__getitem__))
        if words[-1] == config.end_id:
            break
    return words


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@torch.no_grad()
def test_words_equal_those_of_a_naive_loop(make_writer, draw_batch, attention):
    model, images = make_writer(attention), draw_batch(3).pixel_values
    written = decode(model, images).tokens
    lengths = set()
    for study in range(3):
        for section in range(4):
            expected = naive_words(model, images[study], section)
            lengths.add(len(expected))
            row = written[study, section].tolist()
            assert row[: len(expected)] == expected
            assert set(row[len(expected) :]) <= {model.config.pad_id}
    assert len(lengths) > 1


@torch.no_grad()
def test_log_probabilities_and_attention_are_those_of_teacher_forcing(make_writer, draw_batch):
    model, images = make_writer(), draw_batch(3).pixel_values
    decoded = decode(model, images)
    forced = model(images, None, decoded.tokens)
    torch.testing.assert_close(decoded.log_probabilities.sum(dim=2), forced.log_likelihood)
    torch.testing.assert_close(decoded.attention, forced.attention)
    padding = decoded.tokens == model.config.pad_id
    assert padding.any()
    assert not decoded.log_probabilities[padding].any()


@torch.no_grad()
def test_a_study_is_written_alike_alone_and_among_others(make_writer, draw_batch):
    model, images = make_writer(), draw_batch(4).pixel_values
    together = decode(model, images)
    for study in range(4):
        alone = decode(model, images[study : study + 1])
        length = alone.tokens.shape[2]
        assert torch.equal(alone.tokens[0], together.tokens[study, :, :length])
        assert not together.tokens[study, :, length:].any()
        torch.testing.assert_close(alone.attention[0], together.attention[study, :, :length])


@torch.no_grad()
def test_what_is_no_word_is_never_written_however_likely(make_writer, draw_batch, tokenizer):
    model, images = make_writer(), draw_batch(3).pixel_values
    no_words = [tokenizer.pad_id, tokenizer.unknown_id, *model.config.begin_ids]
    model.report.output.bias[no_words] += 100.0
    decoded = decode(model, images)
    for row in decoded.tokens.flatten(0, 1).tolist():
        written = row[: row.index(tokenizer.end_id)] if tokenizer.end_id in row else row
        assert not set(written) & set(no_words)
    assert decoded.log_probabilities[..., 0].max() < -50  # probabilities are the model's own, not rescaled


@torch.no_grad()
def test_an_end_that_never_comes_is_cut_at_the_limit(make_writer, draw_batch):
    model = make_writer(eagerness=-100.0)
    decoded = decode(model, draw_batch(2).pixel_values, limit=11)
    assert decoded.tokens.shape == (2, 4, 11)
    assert not (decoded.tokens == model.config.end_id).any()
    model.config.maximum_words = 3
    output = model(draw_batch(2).pixel_values)
    prepared = model.prepare(output.features, model.guides(output.logits))
    assert decode_greedily(model, output.features, prepared).tokens.shape == (2, 4, 3)


@torch.no_grad()
def test_decoding_stops_soon_after_all_is_written(make_writer, draw_batch):
    model = make_writer(eagerness=100.0)
    decoded = decode(model, draw_batch(2).pixel_values, limit=60)
    assert decoded.tokens.shape[2] <= 8
    assert (decoded.tokens[:, :, 0] == model.config.end_id).all()
    assert not decoded.tokens[:, :, 1:].any()
