"""From C(I) to words, one at a time, all studies and all sections together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdnet.models.attention import Prepared
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

__all__ = ["Decoded", "decode_greedily"]

_CHECK_EVERY = 8  # steps between looks at whether all is written: a look waits for the device


class Decoded(NamedTuple):
    """Written sections.

    Attributes:
        tokens: (B, S, T) word ids; the end token closes a section, padding follows.
        log_probabilities: (B, S, T) log p of each token; 0 at the padding.
        attention: (B, S, T, P) where each token looked.
    """

    tokens: Tensor
    log_probabilities: Tensor
    attention: Tensor


@torch.inference_mode()
def decode_greedily(
    model: MDNet, features: ImageFeatures, prepared: Prepared, *, maximum_words: int | None = None
) -> Decoded:
    """The likeliest next word until the end token, or `maximum_words`.

    Words that stand for none (padding, unknown, begin tokens) are never written.

    Args:
        model: In evaluation mode.
        features: C(I) of B studies.
        prepared: `model.prepare(features, ...)`.
        maximum_words: The model's own limit unless given.
    """
    report, config = model.report, model.config
    assert report is not None
    limit = maximum_words or config.maximum_words
    studies, sections = len(features.grid), len(config.sections)
    device = features.grid.device

    never = torch.zeros(config.vocabulary_size, dtype=torch.bool, device=device)
    never[[config.pad_id, *config.begin_ids]] = True
    if model.tokenizer is not None:
        never[model.tokenizer.unknown_id] = True

    tokens = torch.full((studies, sections, limit), config.pad_id, device=device)
    log_probabilities = features.grid.new_zeros(studies, sections, limit)
    attention = features.grid.new_zeros(studies, sections, limit, features.grid.shape[1])
    finished = torch.zeros(studies, sections, dtype=torch.bool, device=device)
    word = torch.tensor(config.begin_ids, device=device).expand(studies, -1)
    state = report.initial_state(studies, sections)
    written = limit
    for t in range(limit):
        state, weights = report.step(report.embedding(word), state, features.grid, prepared)
        log_p = report.output(state.hidden).log_softmax(dim=-1)  # (B, S, V)
        best, word = log_p.masked_fill(never, -torch.inf).max(dim=-1)
        word = word.masked_fill(finished, config.pad_id)
        tokens[:, :, t] = word
        log_probabilities[:, :, t] = best.masked_fill(finished, 0.0)
        attention[:, :, t] = weights
        finished |= word == config.end_id
        if t % _CHECK_EVERY == _CHECK_EVERY - 1 and bool(finished.all()):
            written = t + 1
            break
    return Decoded(tokens[:, :, :written], log_probabilities[:, :, :written], attention[:, :, :written])
