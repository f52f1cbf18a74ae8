"""MDNet's language module L: one LSTM that writes every section, a word at a time.

Formula 4 of docs/method.md: `h_t = LSTM(E x_{t-1}, h_{t-1}, z_t)`, `p(x_t) ~ exp(G_h h_t)`. A
section's own begin token tells the LSTM which section it writes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig
from mdnet.models.prepared import LSTMState, Prepared
from mdnet.models.report_module import ReportModule, run_cell

__all__ = ["ReportLSTM"]


class ReportLSTM(ReportModule):
    """Embedding E, attention, LSTM and output G_h."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__(config, readout_size=config.hidden_size)
        self.lstm = nn.LSTMCell(config.embedding_size + sum(config.block_widths), config.hidden_size)

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
        context = torch.bmm(attention, grid)  # z_t (B, S, D)
        return run_cell(self.lstm, torch.cat([words, context], dim=-1), state), attention
