"""The contract of a language module L, and what all of them share: reading and scoring a text word by word.

Formula 4 of docs/method.md, `log p(x_{0:T} | I) = sum_t log p(x_t | I, x_{0:t-1})`. A module says what it
keeps of a study (`prepare`), how its state begins (`initial_state`), and what one word does (`step`). All
sections of all studies advance together; the image features are those of the study, computed once.

References:
    1. Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
       NIPS 2015, arXiv 1506.03099.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mdnet.models.attention import Attention, build_attention
from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageFeatures
from mdnet.models.prepared import LSTMState, Prepared

__all__ = ["ReportModule", "ReportOutput", "State", "run_cell"]


class State(Protocol):
    """State of a report module: a named tuple of tensors (B, S, ...), among them the LSTM's h."""

    @property
    def hidden(self) -> Tensor: ...


class ReportOutput(NamedTuple):
    """Teacher-forced output: logits (B, S, T, V) and attention (B, S, T, P)."""

    logits: Tensor
    attention: Tensor


class ReportModule(nn.Module):
    """Contract of a language module; a subclass gives `step`, and what else of it differs.

    Attributes:
        guided: Whether the evidence of a section's class has a part in what it writes.
        embedding: E, of the words.
        attention: Where a word looks.
        dropout: On the embedded words and on what the output layer reads.
        output: From `readout` to the logits of the words.
    """

    guided = True

    def __init__(self, config: MDNetConfig, *, readout_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding_size)
        self.attention: Attention = build_attention(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(readout_size, config.vocabulary_size)

    def prepare(self, features: ImageFeatures, evidence: Tensor) -> Prepared:
        """What is kept of the studies.

        Args:
            features: C(I); its grid is looked at.
            evidence: (B, S, P) evidence c of each section's class.
        """
        there = features.there
        return self.attention.prepare(features.grid, evidence, None if there is None else there[:, None])

    def precompute(self, grid: Tensor, prepared: Prepared, *, words: int) -> Prepared:
        """What else to keep, where each row of `prepared` writes so many words at most and no one trains.

        Nothing, unless a module says otherwise.
        """
        del grid, words
        return prepared

    def initial_state(self, prepared: Prepared) -> State:
        """The state before the first word."""
        raise NotImplementedError

    def step(self, words: Tensor, state: State, grid: Tensor, prepared: Prepared) -> tuple[State, Tensor]:
        """One word of every section.

        Args:
            words: (B, S, E) embeddings of x_{t-1}.
            state: The state after it.
            grid: C(I), (B, P, D); of zeros, the word is written blind, whatever the attention.
            prepared: What is kept of the studies.

        Returns:
            The new state, and the attention a_t (B, S, P).
        """
        raise NotImplementedError

    def readout(self, state: State) -> Tensor:
        """What the output layer reads, (B, S, R): the LSTM's h unless a module says otherwise."""
        return state.hidden

    def auxiliary_losses(
        self, prepared: Prepared, output: ReportOutput, tokens: Tensor, counts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Further terms of L_L by name, scalars.

        Args:
            prepared: What was kept of the studies.
            output: Of their sections' `tokens`.
            tokens: (B, S, T) target words, the end token last, then padding.
            counts: Number of `language` words and of `sections` told in the whole step: what sums are
                divided by, as those of L_L are.
        """
        del prepared, output, tokens, counts
        return {}

    def forward(
        self, tokens: Tensor, grid: Tensor, prepared: Prepared, *, sampling: float = 0.0
    ) -> ReportOutput:
        """Teacher-forced logits; in training, the teacher may let go of some words.

        Args:
            tokens: (B, S, T) x_{0..T-1}: the begin token, then all words but the last.
            grid: C(I), (B, P, D).
            prepared: What is kept of the studies.
            sampling: Probability, word by word, that the module reads a word of its own in place of the
                true one; in training mode only.
        """
        if self.training and sampling > 0.0:
            return self._forward_sampling(tokens, grid, prepared, sampling)
        words = self.dropout(self.embedding(tokens))  # (B, S, T, E)
        state = self.initial_state(prepared)
        read, attention = [], []
        for t in range(tokens.shape[-1]):
            state, weights = self.step(words[:, :, t], state, grid, prepared)
            read.append(self.readout(state))
            attention.append(weights)
        logits = self.output(self.dropout(torch.stack(read, dim=2)))  # (B, S, T, V)
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
        state = self.initial_state(prepared)
        logits: list[Tensor] = []
        attention: list[Tensor] = []
        for t in range(tokens.shape[-1]):
            if t > 0:
                word = torch.where(own[:, :, t], _drawn(logits[-1]), tokens[:, :, t])
            state, weights = self.step(self.dropout(self.embedding(word)), state, grid, prepared)
            logits.append(self.output(self.dropout(self.readout(state))))  # (B, S, V)
            attention.append(weights)
        return ReportOutput(torch.stack(logits, dim=2), torch.stack(attention, dim=2))


def run_cell(cell: nn.LSTMCell, inputs: Tensor, state: LSTMState) -> LSTMState:
    """One step of an LSTM cell in every section: inputs (B, S, I), state (B, S, H) each."""
    hidden, memory = cell(inputs.flatten(0, 1), (state.hidden.flatten(0, 1), state.cell.flatten(0, 1)))
    shape = (*inputs.shape[:2], cell.hidden_size)  # named: a batch may be of no study
    return LSTMState(hidden.view(shape), memory.view(shape))


@torch.no_grad()
def _drawn(logits: Tensor) -> Tensor:
    """A word from each row's distribution, (B, S) of (B, S, V).

    Of rows that are no numbers, too: it is the trainer that looks for them, where `multinomial` would raise,
    and on a GPU wait for every word's probabilities to say that they are some.
    """
    probabilities = logits.float().softmax(dim=-1)
    # The first of V events with these rates, each after an exponentially distributed time.
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(dim=-1)
