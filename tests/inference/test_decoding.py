"""Greedy decoding equals a naive loop that reads the whole text again for every word; options are checked."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from mdnet.cli.main import app
from mdnet.errors import ConfigurationError
from mdnet.inference.decoding import Decoded, decode, decode_greedily
from mdnet.inference.decoding_config import DecodingConfig
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


def write(model: MDNet, images: torch.Tensor, limit: int = LIMIT) -> Decoded:
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
    written = write(model, images).tokens
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
    decoded = write(model, images)
    forced = model(images, None, decoded.tokens)
    torch.testing.assert_close(decoded.log_probabilities.sum(dim=2), forced.log_likelihood)
    torch.testing.assert_close(decoded.attention, forced.attention)
    padding = decoded.tokens == model.config.pad_id
    assert padding.any()
    assert not decoded.log_probabilities[padding].any()


@torch.no_grad()
def test_a_study_is_written_alike_alone_and_among_others(make_writer, draw_batch):
    model, images = make_writer(), draw_batch(4).pixel_values
    together = write(model, images)
    for study in range(4):
        alone = write(model, images[study : study + 1])
        length = alone.tokens.shape[2]
        assert torch.equal(alone.tokens[0], together.tokens[study, :, :length])
        assert not together.tokens[study, :, length:].any()
        torch.testing.assert_close(alone.attention[0], together.attention[study, :, :length])


@torch.no_grad()
def test_what_is_no_word_is_never_written_however_likely(make_writer, draw_batch, tokenizer):
    model, images = make_writer(), draw_batch(3).pixel_values
    no_words = [tokenizer.pad_id, tokenizer.unknown_id, *model.config.begin_ids]
    model.report.output.bias[no_words] += 100.0
    decoded = write(model, images)
    for row in decoded.tokens.flatten(0, 1).tolist():
        written = row[: row.index(tokenizer.end_id)] if tokenizer.end_id in row else row
        assert not set(written) & set(no_words)
    assert decoded.log_probabilities[..., 0].max() < -50  # probabilities are the model's own, not rescaled


@torch.no_grad()
def test_an_end_that_never_comes_is_cut_at_the_limit(make_writer, draw_batch):
    model = make_writer(eagerness=-100.0)
    decoded = write(model, draw_batch(2).pixel_values, limit=11)
    assert decoded.tokens.shape == (2, 4, 11)
    assert not (decoded.tokens == model.config.end_id).any()
    model.config.maximum_words = 3
    output = model(draw_batch(2).pixel_values)
    prepared = model.prepare(output.features, model.guides(output.logits))
    assert decode_greedily(model, output.features, prepared).tokens.shape == (2, 4, 3)


@torch.no_grad()
def test_decoding_stops_soon_after_all_is_written(make_writer, draw_batch):
    model = make_writer(eagerness=100.0)
    decoded = write(model, draw_batch(2).pixel_values, limit=60)
    assert decoded.tokens.shape[2] <= 8
    assert (decoded.tokens[:, :, 0] == model.config.end_id).all()
    assert not decoded.tokens[:, :, 1:].any()


@torch.no_grad()
def test_alternatives_are_the_likeliest_words_at_each_step(make_writer, draw_batch, tokenizer):
    model, images = make_writer(), draw_batch(3).pixel_values
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    decoded = decode(model, output.features, prepared, DecodingConfig(alternatives=100), maximum_words=LIMIT)
    plain = write(model, images)
    assert torch.equal(decoded.tokens, plain.tokens)
    written = decoded.tokens != tokenizer.pad_id
    assert torch.equal(decoded.alternatives.tokens[..., 0][written], decoded.tokens[written])
    log_p = model(images, None, decoded.tokens).report_logits.log_softmax(dim=-1)
    log_p[..., [tokenizer.pad_id, tokenizer.unknown_id, *model.config.begin_ids]] = -torch.inf
    expected = log_p.sort(dim=-1, descending=True).values
    torch.testing.assert_close(decoded.alternatives.log_probabilities[written], expected[written])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "breadth"}, "'breadth' is none of greedy, beam, sample, diverse_beam"),
        ({"beams": 3}, "beams 3: decoding method greedy does not look at it; choose beam or sample or"),
        ({"temperature": 0.7}, "temperature 0.7: decoding method greedy does not look at it; choose sample"),
        ({"method": "beam", "groups": 2}, "groups 2: decoding method beam does not look at it"),
        ({"method": "beam", "beams": 0}, "beams 0: give 1 or more"),
        ({"method": "beam", "beams": 2, "best": 3}, "best 3 of 2 beams"),
        ({"method": "diverse_beam", "beams": 4, "groups": 3}, "4 beams in 3 groups"),
        ({"method": "diverse_beam", "beams": 4, "groups": 0}, "groups 0: give 1 or more"),
        ({"method": "sample", "temperature": 0.0}, "temperature 0: give more than 0"),
        ({"method": "sample", "top_p": 0.0}, "top_p 0: give more than 0, and 1 at most"),
        ({"method": "sample", "top_p": 1.1}, "top_p 1.1"),
        ({"method": "sample", "top_k": -1}, "top_k -1: give 0 or more"),
        ({"method": "beam", "length_penalty": float("nan")}, "length_penalty nan: give 0 or more"),
        ({"method": "beam", "length_penalty": -1.0}, "length_penalty -1.0: give 0 or more"),
        ({"method": "beam", "length_penalty": 400.0}, "length_penalty 400: give 10 at most"),
        ({"method": "sample", "temperature": float("inf")}, "temperature inf: give 1000 at most"),
        (
            {"method": "diverse_beam", "beams": 2, "groups": 2, "diversity": float("inf")},
            "diversity inf: give 1000 at most",
        ),
        ({"no_repeat_ngram": -2}, "no_repeat_ngram -2: give 0 or more"),
        ({"alternatives": -1}, "alternatives -1: give 0 or more"),
        ({"method": "beam", "constrained": True}, "constrained with 1 beam leaves nothing to choose"),
    ],
)
def test_an_option_out_of_range_or_without_effect_is_one_line(options, message):
    with pytest.raises(ConfigurationError, match=message):
        DecodingConfig(**options)


def test_the_command_writes_what_its_options_ask_for(tmp_path, phantom_data):
    image = str(phantom_data.studies[0].images[0])

    def generate(*options: str) -> dict:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"  # a file that is there stays
        called = CliRunner().invoke(
            app, ["generate", image, "--device", "cpu", "--format", "jsonl", "--out", str(file), *options]
        )
        assert called.exit_code == 0, called.output
        return json.loads(file.read_text(encoding="utf-8"))

    plain = generate()
    assert not {"others", "alternatives", "agrees"} & set(plain)
    found = generate("--beams", "4", "--best", "3", "--constrained", "--alternatives", "2")
    assert [len(others) for others in found["others"].values()] == [2] * 6
    assert set(found["agrees"]) == set(plain["sections"])
    assert all(len(word["alternatives"]) == 2 for words in found["alternatives"].values() for word in words)
    drawn = [generate("--sample", "--temperature", "3", "--seed", seed)["report"] for seed in "112"]
    assert drawn[0] == drawn[1] != drawn[2]
    phrases = tmp_path / "phrases.yaml"
    phrases.write_text("phrases:\n  mitosis:\n    rare: [xyz]\n", encoding="utf-8")
    found = generate("--beams", "2", "--constrained", "--phrases", str(phrases))
    assert found["agrees"] == {"mitosis": False}
    assert len(generate("--beams", "4", "--groups", "2", "--best", "2")["others"]) == 6
    for options, message in [
        (["--sample", "--groups", "2"], "leave one out"),
        (["--phrases", "x.yaml"], "only --constrained reads it"),
    ]:
        called = CliRunner().invoke(app, ["generate", image, *options])
        assert called.exit_code != 0
        assert message in str(called.exception) + called.output
