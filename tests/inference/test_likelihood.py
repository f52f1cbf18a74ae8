"""log p(report | image), against the model's own forward pass, a pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdnet.errors import ConfigurationError
from mdnet.inference.likelihood import EncodedImage, report_log_likelihoods

REPORTS = [
    {"mitosis": "mitotic figures are frequent .", "conclusion": "this is a high grade tumor ."},
    {"mitosis": "no mitotic figure is seen .", "remarks": "there is a nodule", "conclusion": "tumor ."},
    {"mitosis": "mitotic figures are frequent .", "remarks": "", "findings": "a word never read ."},
    {},
]


def tokens_of(model, report) -> torch.Tensor:
    """The report as `MDNet.forward` takes it: (1, S, T)."""
    ids = [
        [*model.tokenizer.encode(report[name]), model.config.end_id] if report.get(name) else []
        for name in model.config.sections
    ]
    tokens = torch.full((1, len(ids), max(1, *map(len, ids))), model.config.pad_id)
    for section, words in enumerate(ids):
        tokens[0, section, : len(words)] = torch.tensor(words)
    return tokens


@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
def test_every_pair_is_what_forward_gives_for_it_alone(build_model, draw_batch, attention, monkeypatch):
    monkeypatch.setattr("mdnet.inference.likelihood._TEXTS_AT_ONCE", 3)
    model = build_model(attention=attention)
    pixels = draw_batch(3, seed=4).pixel_values
    images, expected = [], np.empty((len(REPORTS), len(pixels)))
    with torch.inference_mode():
        for column, one in enumerate(pixels):
            output = model(one[None])
            images.append(EncodedImage(output.features, model.guides(output.logits)))
            for row, report in enumerate(REPORTS):
                expected[row, column] = model(one[None], None, tokens_of(model, report)).log_likelihood.sum()
    np.testing.assert_allclose(report_log_likelihoods(model, images, REPORTS), expected, rtol=1e-9, atol=1e-9)
    assert np.ptp(expected[0]) > 1e-3  # the images matter


def test_texts_that_the_model_cannot_write_are_refused(build_model):
    with pytest.raises(ConfigurationError, match="no section impression"):
        report_log_likelihoods(build_model(), [], [{"impression": "normal ."}])
    with pytest.raises(ConfigurationError, match="writes no report"):
        report_log_likelihoods(build_model(sections=()), [], [{}])
