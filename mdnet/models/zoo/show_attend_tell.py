"""Show, Attend and Tell: the plain baseline, an attention LSTM on a plain residual network.

Without what MDNet brings: the stages of the image module add up, so that C(I) is its last one, and no
evidence guides where a word looks. With what members share: heads on C(I), and a section's begin token in
place of a sentence's. In the symbols of [1], a_i the features of position i and y_t the words:

    h_0 = tanh(f_init,h(mean_i a_i)), c_0 = tanh(f_init,c(mean_i a_i))
    alpha_t = softmax_i(f_att(a_i, h_{t-1})), beta_t = sigmoid(f_beta(h_{t-1}))
    z_t = beta_t sum_i alpha_ti a_i
    h_t = LSTM(E y_{t-1}, h_{t-1}, z_t), p(y_t) ~ exp(L_o (E y_{t-1} + L_h h_t + L_z z_t))
    L = -log p(y) + lambda sum_i (1 - sum_t alpha_ti)^2

References:
    1. Xu et al., "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention",
       ICML 2015, arXiv 1502.03044: section 3.1.2 (decoder), 4.2 (soft attention, doubly stochastic).
    2. The authors' code, github.com/kelvinxu/arctic-captions, evaluate_coco.py (lambda).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageFeatures
from mdnet.models.objective import divided
from mdnet.models.prepared import LSTMState, Prepared
from mdnet.models.registry import Architecture, register_model
from mdnet.models.report_module import ReportModule, ReportOutput, run_cell
from mdnet.models.zoo.mdnet import TINY

__all__ = ["LAMBDA", "ShowAttendTellModule", "ShowAttendTellState", "show_attend_tell"]

LAMBDA = 1.0  # weight of the penalty, as [2] has it; [1] gives no number


class ShowAttendTellState(NamedTuple):
    """h_t, c_t (B, S, H), E y_{t-1} (B, S, E) and z_t (B, S, D)."""

    hidden: Tensor
    cell: Tensor
    word: Tensor
    context: Tensor


class ShowAttendTellModule(ReportModule):
    """The decoder of [1], its output L_o as deep as published."""

    guided = False

    def __init__(self, config: MDNetConfig) -> None:
        words, width, channels = config.embedding_size, config.hidden_size, sum(config.block_widths)
        super().__init__(config, readout_size=words)
        self.pad_id = config.pad_id
        self.first_hidden = nn.Linear(channels, width)  # f_init,h
        self.first_cell = nn.Linear(channels, width)  # f_init,c
        self.gate = nn.Linear(width, 1)  # f_beta
        self.lstm = nn.LSTMCell(words + channels, width)
        self.hidden_readout = nn.Linear(width, words, bias=False)  # L_h
        self.context_readout = nn.Linear(channels, words, bias=False)  # L_z

    def prepare(self, features: ImageFeatures, evidence: Tensor) -> Prepared:
        mean = features.pooled()[:, None].expand(-1, evidence.shape[1], -1)  # (B, S, D)
        start = LSTMState(torch.tanh(self.first_hidden(mean)), torch.tanh(self.first_cell(mean)))
        return super().prepare(features, evidence)._replace(start=start)

    def initial_state(self, prepared: Prepared) -> ShowAttendTellState:
        assert prepared.start is not None
        hidden, cell = prepared.start
        rows = hidden.shape[:2]
        return ShowAttendTellState(
            hidden,
            cell,
            word=hidden.new_zeros(*rows, self.hidden_readout.out_features),
            context=hidden.new_zeros(*rows, self.context_readout.in_features),
        )

    def step(  # type: ignore[override]  # a module is given its own state alone
        self, words: Tensor, state: ShowAttendTellState, grid: Tensor, prepared: Prepared
    ) -> tuple[ShowAttendTellState, Tensor]:
        attention = self.attention(state.hidden, prepared)  # alpha_t (B, S, P)
        gate = torch.sigmoid(self.gate(state.hidden))  # beta_t (B, S, 1)
        context = gate * torch.bmm(attention, grid)  # z_t (B, S, D)
        before = LSTMState(state.hidden, state.cell)
        hidden, cell = run_cell(self.lstm, torch.cat([words, context], dim=-1), before)
        return ShowAttendTellState(hidden, cell, words, context), attention

    def readout(self, state: ShowAttendTellState) -> Tensor:  # type: ignore[override]  # likewise
        return state.word + self.hidden_readout(state.hidden) + self.context_readout(state.context)

    def auxiliary_losses(
        self, prepared: Prepared, output: ReportOutput, tokens: Tensor, counts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """`doubly_stochastic`: lambda sum_i (1 - sum_t alpha_ti)^2 of every section that is told.

        It is divided by the number of words, as -log p is in L_L, so that the two weigh against each
        other as in [1], where both are of a sentence.
        """
        written = tokens != self.pad_id  # (B, S, T)
        attention = output.attention.masked_fill(~written[..., None], 0.0)
        looked = attention.sum(dim=2, dtype=torch.promote_types(attention.dtype, torch.float32))  # (B, S, P)
        counted = written.any(dim=-1, keepdim=True)  # (B, S, 1)
        if prepared.there is not None:
            counted = counted & prepared.there
        penalty = ((1.0 - looked).square() * counted).sum()
        return {"doubly_stochastic": LAMBDA * divided(penalty, counts["language"])}


@register_model
def show_attend_tell() -> Architecture:
    """About 0.42 million parameters at 128 px, 16 x 16 grid: the stages of `mdnet_tiny`, none decoupled."""
    options = {
        **TINY,
        "decoupled": False,
        "embedding_size": 64,
        "hidden_size": 128,
        "attention": "soft",
        "attention_size": 32,  # a tanh of this width a position and word: most of the time, were it wide
    }
    return Architecture(
        options,
        "Xu et al., Show, Attend and Tell, ICML 2015, arXiv 1502.03044",
        report=ShowAttendTellModule,
    )
