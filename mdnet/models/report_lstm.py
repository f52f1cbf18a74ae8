"""MDNet's language module L: one LSTM that writes every section, a word at a time.

Formula 4 of docs/method.md: `h_t = LSTM(E x_{t-1}, h_{t-1}, z_t)`, `p(x_t) ~ exp(G_h h_t)`. A
section's own begin token tells the LSTM which section it writes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig
from mdnet.models.prepared import LSTMState, Prepared
from mdnet.models.report_module import ReportModule, run_cell

__all__ = ["ReportLSTM"]

_FEW_ROWS = 16  # a product of fewer takes as long: it waits for its weights


class ReportLSTM(ReportModule):
    """Embedding E, attention, LSTM and output G_h."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__(config, readout_size=config.hidden_size)
        self.lstm = nn.LSTMCell(config.embedding_size + sum(config.block_widths), config.hidden_size)

    def precompute(self, grid: Tensor, prepared: Prepared, *, words: int) -> Prepared:
        """`gates`: W_z C(I)^T of each position once, in place of W_z z_t at every word.

        As z_t = a_t C(I)^T, that is the same product in another order. It pays on a CPU, where a step's time
        is that of its products, and there if it is less work than it saves should sections be half as long
        as they may be.
        """
        studies, positions, channels = grid.shape
        gates = 4 * self.lstm.hidden_size
        saved = channels * (positions + gates) - positions * gates  # multiply-adds of a row at each word
        rows = max(studies * prepared.evidence.shape[1], _FEW_ROWS)
        if grid.device.type != "cpu" or rows * words * saved < 2 * studies * positions * channels * gates:
            return prepared
        return prepared._replace(gates=F.linear(grid, self.lstm.weight_ih[:, -channels:]))

    def initial_state(self, prepared: Prepared) -> LSTMState:
        """What `prepared` starts from; h and c are 0 unless it says so."""
        if prepared.start is not None:
            return prepared.start
        zeros = prepared.evidence.new_zeros(*prepared.evidence.shape[:2], self.lstm.hidden_size)
        return LSTMState(zeros, zeros)

    def step(  # type: ignore[override]  # a module is given its own state alone
        self, words: Tensor, state: LSTMState, grid: Tensor, prepared: Prepared
    ) -> tuple[LSTMState, Tensor]:
        attention = self.attention(state.hidden, prepared)  # (B, S, P)
        if prepared.gates is not None:
            return self._from_gates(words, state, attention, prepared.gates), attention
        context = torch.bmm(attention, grid)  # z_t (B, S, D)
        return run_cell(self.lstm, torch.cat([words, context], dim=-1), state), attention

    def _from_gates(self, words: Tensor, state: LSTMState, attention: Tensor, gates: Tensor) -> LSTMState:
        """The LSTM's step where z_t comes in by `gates`."""
        lstm = self.lstm
        read = F.linear(words, lstm.weight_ih[:, : words.shape[-1]], lstm.bias_ih)
        read = read + F.linear(state.hidden, lstm.weight_hh, lstm.bias_hh)  # (B, S, 4 H)
        enter, keep, new, show = torch.baddbmm(read, attention, gates).chunk(4, dim=-1)
        cell = keep.sigmoid() * state.cell + enter.sigmoid() * new.tanh()
        return LSTMState(show.sigmoid() * cell.tanh(), cell)
