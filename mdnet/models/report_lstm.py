"""The language module L: one LSTM that writes every section, a word at a time.

Formula 4 of docs/method.md: `h_t = LSTM(E x_{t-1}, h_{t-1}, z_t)`, `p(x_t) ~ exp(G_h h_t)`. A
section's own begin token tells the LSTM which section it writes; the image features are those of
the study, computed once, and all sections advance together.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mdnet.models.attention import Prepared, build_attention
from mdnet.models.configuration import MDNetConfig

__all__ = ["LSTMState", "ReportLSTM", "ReportOutput"]


class LSTMState(NamedTuple):
    """h and c of the LSTM, (B, S, H) each."""

    hidden: Tensor
    cell: Tensor


class ReportOutput(NamedTuple):
    """Teacher-forced output: logits (B, S, T, V) and attention (B, S, T, P)."""

    logits: Tensor
    attention: Tensor


class ReportLSTM(nn.Module):
    """Embedding E, attention, LSTM and output G_h."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)  # E
        self.attention = build_attention(config)
        self.lstm = nn.LSTMCell(config.embedding_size + sum(config.widths), config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, config.vocabulary_size)  # G_h

    def initial_state(self, studies: int, sections: int) -> LSTMState:
        """H and c before the first word: zero."""
        zeros = self.output.weight.new_zeros(studies, sections, self.lstm.hidden_size)
        return LSTMState(zeros, zeros)

    def step(
        self, words: Tensor, state: LSTMState, grid: Tensor, prepared: Prepared
    ) -> tuple[LSTMState, Tensor]:
        """One word of every section.

        Args:
            words: (B, S, E) embeddings of x_{t-1}.
            state: h_{t-1} and its cell.
            grid: C(I), (B, P, D).
            prepared: What the attention keeps of the study.

        Returns:
            The new state, and the attention a_t (B, S, P).
        """
        studies, sections, _ = words.shape
        attention = self.attention(state.hidden, prepared)  # (B, S, P)
        context = torch.bmm(attention, grid)  # z_t (B, S, D)
        hidden, cell = self.lstm(
            torch.cat([words, context], dim=-1).flatten(0, 1),
            (state.hidden.flatten(0, 1), state.cell.flatten(0, 1)),
        )
        shape = (studies, sections, -1)
        return LSTMState(hidden.view(shape), cell.view(shape)), attention

    def forward(self, tokens: Tensor, grid: Tensor, prepared: Prepared) -> ReportOutput:
        """Teacher-forced logits.

        Args:
            tokens: (B, S, T) x_{0..T-1}: the begin token, then all words but the last.
            grid: C(I), (B, P, D).
            prepared: What the attention keeps of the study.
        """
        words = self.dropout(self.embedding(tokens))  # (B, S, T, E)
        state = self.initial_state(*tokens.shape[:2])
        hidden, attention = [], []
        for t in range(tokens.shape[-1]):
            state, weights = self.step(words[:, :, t], state, grid, prepared)
            hidden.append(state.hidden)
            attention.append(weights)
        logits = self.output(self.dropout(torch.stack(hidden, dim=2)))  # (B, S, T, V)
        return ReportOutput(logits, torch.stack(attention, dim=2))
