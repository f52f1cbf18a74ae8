"""Replaced attention is what it says, is put back, and costs nothing where attention does nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mdnet.data.images import load_image
from mdnet.data.readers import read_studies
from mdnet.errors import ConfigurationError, DataError
from mdnet.explain.attention_use import (
    REPLACEMENTS,
    NoAttention,
    OtherAttention,
    UniformAttention,
    attention_replaced,
    measure_attention_use,
)

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def studies():
    return read_studies(SAMPLE).studies[:24]


@pytest.fixture(scope="module")
def uses(shipped, studies):
    return measure_attention_use(shipped.model, studies)


@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
@torch.no_grad()
def test_each_replacement_gives_the_words_the_maps_that_it_names(build_model, draw_batch, attention):
    model, batch = build_model(attention=attention), draw_batch(3)
    with attention_replaced(model, UniformAttention):
        uniform = model(batch.pixel_values, None, batch.tokens).attention
    torch.testing.assert_close(uniform, torch.full_like(uniform, 1 / 16))
    with attention_replaced(model, NoAttention):
        nothing = model(batch.pixel_values, None, batch.tokens)
    assert not nothing.attention.any()
    # Study 0 reads its own features by study 1's evidence, and the last one by study 0's.
    with attention_replaced(model, OtherAttention):
        other = model(batch.pixel_values, None, batch.tokens)
    features, guides = model.encode(batch.pixel_values), model.guides(other.logits)
    prepared = model.prepare(features, guides)
    turned = type(prepared)(*(part if part is None else part[[1, 2, 0]] for part in prepared))
    begin = torch.tensor(model.config.begin_ids)[None, :, None].expand(3, -1, 1)
    inputs = torch.cat([begin, batch.tokens[:, :, :-1]], dim=-1)
    expected = model.report(inputs, features.grid, turned)
    torch.testing.assert_close(other.attention, expected.attention)
    torch.testing.assert_close(other.report_logits, expected.logits)
    blank = model.report(inputs, torch.zeros_like(features.grid), prepared)  # z_t = 0
    torch.testing.assert_close(nothing.report_logits, blank.logits)


@torch.no_grad()
def test_without_attention_the_words_do_not_depend_on_the_image(build_model, draw_batch):
    model, batch = build_model(), draw_batch(3)
    with attention_replaced(model, NoAttention):
        first = model(batch.pixel_values, None, batch.tokens).report_logits
        second = model(batch.pixel_values.flip(0), None, batch.tokens).report_logits
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_the_model_s_own_attention_is_back_even_after_a_fault(build_model):
    model = build_model()
    own, keys = model.report.attention, list(model.state_dict())

    def interrupted():
        with attention_replaced(model, UniformAttention):
            assert model.report.attention is not own
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert model.report.attention is own
    assert list(model.state_dict()) == keys


def test_the_fall_is_the_difference_of_the_true_text_s_log_likelihoods(shipped, studies, uses):
    model, tokenizer, sections = shipped.model, shipped.model.tokenizer, shipped.model.config.sections
    falls = []
    for study in studies[:3]:
        texts = [[*tokenizer.encode(study.report[name][0]), tokenizer.end_id] for name in sections]
        tokens = torch.full((1, len(sections), max(map(len, texts))), tokenizer.pad_id)
        for row, text in enumerate(texts):
            tokens[0, row, : len(text)] = torch.tensor(text)
        images = shipped.pixel_values([load_image(study.images[0])])
        with torch.inference_mode():
            before = model(images, tokens=tokens).log_likelihood
            with attention_replaced(model, UniformAttention):
                after = model(images, tokens=tokens).log_likelihood
        falls.append((before - after)[0].double().numpy())
    found = measure_attention_use(model, studies[:3], replacements=["uniform"])["uniform"]
    assert found.report.mean == pytest.approx(np.sum(falls) / 3, abs=1e-4)
    for column, name in enumerate(sections):
        assert found.sections[name].mean == pytest.approx(np.mean(falls, axis=0)[column], abs=1e-4)


def test_the_shipped_weights_use_their_attention_where_there_is_something_to_find(uses):
    assert set(uses) == set(REPLACEMENTS)
    for use in uses.values():
        assert use.matters
        assert use.studies == 24
        assert use.sections["mitosis"].low > 1.0  # nats
        falls = [fall.mean for fall in use.words["mitosis"].values()]
        assert falls == sorted(falls, reverse=True)
    assert uses["nothing"].report.mean > uses["other image"].report.mean > uses["uniform"].report.mean
    assert next(iter(uses["uniform"].words["mitosis"])) in ("frequent", "rare")


def test_a_constant_attention_does_not_matter(shipped, studies):
    own = {name: tensor.clone() for name, tensor in shipped.model.report.attention.state_dict().items()}
    with torch.no_grad():
        shipped.model.report.attention.sharpness.weight.zero_()
        shipped.model.report.attention.sharpness.bias.fill_(-1e4)  # s_t = softplus(-1e4) = 0
    try:
        uses = measure_attention_use(shipped.model, studies[:6], replacements=["uniform", "other image"])
    finally:
        shipped.model.report.attention.load_state_dict(own)
    for use in uses.values():
        assert use.report.mean == pytest.approx(0.0, abs=1e-4)
        assert not use.matters
        assert use.to_dict()["matters"] is False


def test_a_study_is_never_its_own_other_image(shipped, studies, monkeypatch):
    monkeypatch.setattr("mdnet.explain.attention_use._BATCH", 2)
    sizes, roll = [], OtherAttention.prepare

    def prepare(self, grid, evidence, there=None):
        sizes.append(len(grid))
        return roll(self, grid, evidence, there)

    monkeypatch.setattr(OtherAttention, "prepare", prepare)
    measure_attention_use(shipped.model, studies[:5], replacements=["other image"])
    assert sum(sizes) == 5
    assert min(sizes) > 1


def test_what_cannot_be_measured_is_said(shipped, build_model, studies):
    with pytest.raises(ConfigurationError, match="no replacement 'noise'; there are uniform"):
        measure_attention_use(shipped.model, studies, replacements=["noise"])
    with pytest.raises(DataError, match="1 studies with a report; give at least two"):
        measure_attention_use(shipped.model, studies[:1])
    silent = build_model(sections=(), tokenizer=None)
    with pytest.raises(ConfigurationError, match="writes no report"), attention_replaced(silent, NoAttention):
        pass
