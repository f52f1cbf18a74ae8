"""Where a word looks: four forms of attention over the grid of C(I), three of them guided by class evidence.

Formula 5 of docs/method.md, `c = (w^c)^T C(I)`, `z_t = a_t C(I)^T`. All share one contract:
`prepare` once a study, then `forward` once a word gives weights over the P positions that sum to 1.
Positions of a view that is not there get exactly 0.

References:
    1. Zhang et al., "MDNet", CVPR 2017, arXiv 1707.02485, section 3.3 (auxiliary attention
       sharpening).
    2. Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate",
       ICLR 2015, arXiv 1409.0473.
    3. Zhang et al., "Pathologist-level interpretable whole-slide cancer diagnosis with deep
       learning", Nature Machine Intelligence 2019 (the evidence-weighted feature).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdnet.errors import ConfigurationError
from mdnet.models.configuration import MDNetConfig
from mdnet.models.prepared import Prepared

__all__ = [
    "AdditiveAttention",
    "Attention",
    "LiteralAttention",
    "SharpenedAttention",
    "SoftAttention",
    "build_attention",
    "softmax_there",
]


class Attention(nn.Module):
    """Contract: `prepare` once a study, `forward(hidden, prepared)` every word."""

    def prepare(self, grid: Tensor, evidence: Tensor, there: Tensor | None = None) -> Prepared:
        """From C(I) (B, P, D) and evidence (B, S, P) to what `forward` needs.

        Args:
            grid: C(I).
            evidence: Of each section's class.
            there: (B, 1, P), false where a view is missing; None where none is.
        """
        del grid
        return Prepared(evidence, there=there)

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        """Weights (B, S, P) from the LSTM's states h_{t-1} (B, S, H)."""
        raise NotImplementedError


class SharpenedAttention(Attention):
    """`a_t = softmax(s_t c)`: the evidence itself, sharpened by one number a word.

    s_t = softplus(w . h_{t-1} + b) is never negative, so a word looks where the evidence is, more
    or less sharply, and nowhere else. Formula 5's tanh and W_att are left out: on small data they
    learn a fixed place instead (docs/method.md has the measurement).
    """

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        self.sharpness = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        sharpness = F.softplus(self.sharpness(hidden))  # (B, S, 1)
        return softmax_there(sharpness * prepared.evidence, prepared.there)  # (B, S, P)


class LiteralAttention(Attention):
    """Formula 5 to the letter: `a_t = softmax(W_att tanh(W_h h_{t-1} + c))`, W_att of P x P.

    W_h and W_att hold the number of positions, so the model takes its own image size only. A position
    that is not there plays no part in the tanh either.
    """

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        self.image_size, self.views = config.image_size, config.views
        positions = config.positions
        self.hidden = nn.Linear(config.hidden_size, positions, bias=False)  # W_h
        self.position = nn.Linear(positions, positions, bias=False)  # W_att

    def prepare(self, grid: Tensor, evidence: Tensor, there: Tensor | None = None) -> Prepared:
        if evidence.shape[-1] != self.position.in_features:
            raise ConfigurationError(
                f"attention 'mdnet' has weights for {self.position.in_features} positions, not "
                f"{evidence.shape[-1]}: give images of {self.image_size} x {self.image_size} pixels"
                + (f", {self.views} side by side" if self.views > 1 else "")
            )
        return super().prepare(grid, evidence, there)

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        inner = torch.tanh(self.hidden(hidden) + prepared.evidence)  # (B, S, P)
        if prepared.there is not None:
            inner = inner * prepared.there
        return softmax_there(self.position(inner), prepared.there)


class SoftAttention(Attention):
    """Bahdanau's attention [2] over projected features; no evidence guides it."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        self.feature = nn.Linear(sum(config.block_widths), config.attention_size)
        self.hidden = nn.Linear(config.hidden_size, config.attention_size, bias=False)
        self.score = nn.Linear(config.attention_size, 1, bias=False)

    def prepare(self, grid: Tensor, evidence: Tensor, there: Tensor | None = None) -> Prepared:
        return Prepared(evidence, self.feature(grid), there)  # (B, P, A)

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        assert prepared.projected is not None
        return softmax_there(self.scores(self.hidden(hidden), prepared.projected), prepared.there)

    def scores(self, query: Tensor, projected: Tensor) -> Tensor:
        """(B, S, P) of queries (B, S, A) and projected features (B, P, A)."""
        return self.score(torch.tanh(projected[:, None] + query[:, :, None])).squeeze(-1)


class AdditiveAttention(SoftAttention):
    """The same with a slot for the evidence-weighted feature [3], `softmax(c) C(I)`.

    What the slot gets is handed on to the positions it is made of, so the weights returned are exactly
    those with which C(I) enters z_t.
    """

    def prepare(self, grid: Tensor, evidence: Tensor, there: Tensor | None = None) -> Prepared:
        prepared = super().prepare(grid, evidence, there)
        assert prepared.projected is not None
        slot_weights = softmax_there(evidence, there)  # (B, S, P)
        slot = torch.bmm(slot_weights, prepared.projected)  # (B, S, A): projection is linear
        return prepared._replace(slot_weights=slot_weights, slot=slot)

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        assert prepared.projected is not None
        assert prepared.slot is not None
        assert prepared.slot_weights is not None
        query = self.hidden(hidden)  # (B, S, A)
        at_positions = self.scores(query, prepared.projected)  # (B, S, P)
        at_slot = self.score(torch.tanh(prepared.slot + query))  # (B, S, 1)
        scores = torch.cat([at_positions, at_slot], dim=-1)  # (B, S, P + 1)
        there = None if prepared.there is None else F.pad(prepared.there, (0, 1), value=True)
        weights = softmax_there(scores, there)
        return weights[..., :-1] + weights[..., -1:] * prepared.slot_weights


def softmax_there(scores: Tensor, there: Tensor | None) -> Tensor:
    """Softmax of (B, S, P) over the positions that are there, (B, 1, P) or all; the others get exactly 0."""
    if there is not None:
        scores = scores.masked_fill(~there, -torch.inf)
    return scores.softmax(dim=-1)


def build_attention(config: MDNetConfig) -> Attention:
    """The attention that `config.attention` names."""
    variants: dict[str, type[Attention]] = {
        "sharpened": SharpenedAttention,
        "mdnet": LiteralAttention,
        "additive": AdditiveAttention,
        "soft": SoftAttention,
    }
    return variants[config.attention](config)
