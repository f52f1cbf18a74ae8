"""Words drawn at random: temperature, top-k, top-p, and a draw that a study shares with no other.

References:
    1. Fan et al., "Hierarchical Neural Story Generation", ACL 2018, arXiv 1805.04833 (top-k).
    2. Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020, arXiv 1904.09751 (top-p).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdnet.inference.decoding_config import DecodingConfig

__all__ = ["draw", "draw_uniform", "truncate"]


def truncate(log_p: Tensor, config: DecodingConfig) -> Tensor:
    """Scores (..., V) to draw from: log p over the temperature, -inf for what top-k and then top-p leave out.

    As in transformers: top-p counts the probability that temperature and top-k have left. The likeliest
    word always stays.
    """
    scores = log_p / config.temperature
    if config.top_k:
        least = scores.topk(min(config.top_k, scores.shape[-1])).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if config.top_p < 1.0:
        descending, order = scores.sort(dim=-1, descending=True)
        p = descending.softmax(dim=-1)
        outside = p.cumsum(dim=-1) - p >= config.top_p  # those before it hold enough
        outside[..., 0] = False  # whatever the rounding
        scores = descending.masked_fill(outside, -torch.inf).gather(-1, order.argsort(dim=-1))
    return scores


def draw(scores: Tensor, uniform: Tensor) -> Tensor:
    """Words (...) of p = softmax(scores), scores (..., V): where its distribution function passes `uniform`.

    A word of no probability is never drawn, however a device rounds its sums; where none is left above
    `uniform` for that reason, it is the likeliest.
    """
    p = scores.float().softmax(dim=-1)
    distribution = p.cumsum(dim=-1)
    passed = (distribution > uniform[..., None] * distribution[..., -1:]) & (p > 0)
    first = passed.int().argmax(dim=-1)
    return first.where(passed.any(dim=-1), scores.argmax(dim=-1))


def draw_uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Numbers in [0, 1), studies first: the same for a study whether its batch is large or small.

    They are drawn on the CPU, whatever the device, and all words' at once.
    """
    return torch.rand(shape, generator=generator).to(device)
