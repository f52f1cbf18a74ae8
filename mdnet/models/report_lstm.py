"""The language module L: one LSTM that writes every section, a word at a time.

Formula 4 of docs/method.md: `h_t = LSTM(E x_{t-1}, h_{t-1}, z_t)`, `p(x_t) ~ exp(G_h h_t)`. A
section's own begin token tells the LSTM which section it writes; the image features are those of
the study, computed once, and all sections advance together.

References:
    1. Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
       NIPS 2015, arXiv 1506.03099.
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
        shape = (studies, sections, self.lstm.hidden_size)  # named: a batch may be of no study
        return LSTMState(hidden.view(shape), cell.view(shape)), attention

    def forward(
        self, tokens: Tensor, grid: Tensor, prepared: Prepared, *, sampling: float = 0.0
    ) -> ReportOutput:
        """Teacher-forced logits; in training, the teacher may let go of some words.

        Args:
            tokens: (B, S, T) x_{0..T-1}: the begin token, then all words but the last.
            grid: C(I), (B, P, D).
            prepared: What the attention keeps of the study.
            sampling: Probability, word by word, that the LSTM reads a word of its own in place of the
                true one; in training mode only.
        """
        if self.training and sampling > 0.0:
            return self._forward_sampling(tokens, grid, prepared, sampling)
        words = self.dropout(self.embedding(tokens))  # (B, S, T, E)
        state = self.initial_state(*tokens.shape[:2])
        hidden, attention = [], []
        for t in range(tokens.shape[-1]):
            state, weights = self.step(words[:, :, t], state, grid, prepared)
            hidden.append(state.hidden)
            attention.append(weights)
        logits = self.output(self.dropout(torch.stack(hidden, dim=2)))  # (B, S, T, V)
        return ReportOutput(logits, torch.stack(attention, dim=2))

    def _forward_sampling(
        self, tokens: Tensor, grid: Tensor, prepared: Prepared, sampling: float
    ) -> ReportOutput:
        """Scheduled sampling [1]: x_{t-1} is drawn from p(x_{t-1}) of the step before, where a coin says so.

        The begin token always stays. No gradient passes through a draw. What is drawn behind a section's
        end costs nothing, as the padding it stands for: no counted word comes after it.

        The output layer works word by word here, and every word is drawn for: a quarter more time for
        the language module, 8% for a step of `mdnet_tiny` (16 words, batch 16, one CPU core).
        """
        own = torch.rand(tokens.shape, device=tokens.device) < sampling  # (B, S, T)
        word = tokens[:, :, 0]
        state = self.initial_state(*tokens.shape[:2])
        logits: list[Tensor] = []
        attention: list[Tensor] = []
        for t in range(tokens.shape[-1]):
            if t > 0:
                word = torch.where(own[:, :, t], _drawn(logits[-1]), tokens[:, :, t])
            state, weights = self.step(self.dropout(self.embedding(word)), state, grid, prepared)
            logits.append(self.output(self.dropout(state.hidden)))  # (B, S, V)
            attention.append(weights)
        return ReportOutput(torch.stack(logits, dim=2), torch.stack(attention, dim=2))


@torch.no_grad()
def _drawn(logits: Tensor) -> Tensor:
    """A word from each row's distribution, (B, S) of (B, S, V).

    Of rows that are no numbers, too: it is the trainer that looks for them, where `multinomial` would raise,
    and on a GPU wait for every word's probabilities to say that they are some.
    """
    probabilities = logits.float().softmax(dim=-1)
    # The first of V events with these rates, each after an exponentially distributed time.
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(dim=-1)
