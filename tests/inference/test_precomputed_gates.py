"""What is computed beforehand to write faster changes no word, and is left out where it does not pay."""

from __future__ import annotations

import pytest
import torch

from mdnet.inference.decoding import decode
from mdnet.inference.decoding_config import DecodingConfig


def prepared_of(model, images, present=None):
    output = model(images, present=present)
    return output.features, model.prepare(output.features, model.guides(output.logits))


@pytest.mark.parametrize("attention", ["sharpened", "additive"])
@pytest.mark.parametrize("options", [{}, {"method": "beam", "beams": 3}])
@torch.no_grad()
def test_gates_of_positions_write_the_same_words(build_model, draw_batch, monkeypatch, attention, options):
    model = build_model(attention=attention, views=2, widths=[4, 6, 40])
    images = draw_batch(3, size=(32, 64)).pixel_values
    features, prepared = prepared_of(model, images, torch.tensor([[True, True], [True, False]] * 2)[:3])
    precompute, calls = model.report.precompute, []

    def watched(*arguments, **keywords):
        calls.append(precompute(*arguments, **keywords))
        return calls[-1]

    found = []
    for replacement in (watched, lambda grid, prepared, *, words: prepared):
        monkeypatch.setattr(model.report, "precompute", replacement)
        found.append(
            decode(model, features, prepared, DecodingConfig(**options, alternatives=2), maximum_words=60)
        )
    assert calls[0].gates is not None
    fast, plain = found
    assert torch.equal(fast.tokens, plain.tokens)
    torch.testing.assert_close(fast.log_probabilities, plain.log_probabilities)
    torch.testing.assert_close(fast.attention, plain.attention)
    torch.testing.assert_close(fast.alternatives.log_probabilities, plain.alternatives.log_probabilities)


@torch.no_grad()
def test_gates_are_left_out_where_few_words_read_many_positions(build_model, draw_batch):
    model = build_model(widths=[4, 6, 40])
    features, prepared = prepared_of(model, draw_batch(3, size=(64, 64)).pixel_values)
    assert model.report.precompute(features.grid, prepared, words=60).gates is not None
    assert model.report.precompute(features.grid, prepared, words=2).gates is None
