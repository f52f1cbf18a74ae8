"""What a report module keeps of a study while it writes: computed once, read at every word."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LSTMState", "Prepared"]


class LSTMState(NamedTuple):
    """h and c of an LSTM, (B, S, H) each."""

    hidden: Tensor
    cell: Tensor


class Prepared(NamedTuple):
    """What a report module keeps of B studies with S sections and P positions.

    Attributes:
        evidence: (B, S, P) evidence c of each section's class at each position.
        projected: (B, P, A) projected features (`additive`, `soft`), else None.
        there: (B, 1, P), false where a view is missing; None where none is.
        slot_weights: (B, S, P) how the evidence-weighted feature is made of the positions (`additive`).
        slot: (B, S, A) that feature, projected.
        start: State before the first word; None: zero.
        gates: (B, P, 4 H) what each position gives the LSTM's gates, where that is computed beforehand.
        stop: (B, S) logits that the report ends with a section; None where the module does not decide that.
        closed: (B, S) true for a section that is not to be written; None: all are written. Of no matter where
            a given text is read.
    """

    evidence: Tensor
    projected: Tensor | None = None
    there: Tensor | None = None
    slot_weights: Tensor | None = None
    slot: Tensor | None = None
    start: LSTMState | None = None
    gates: Tensor | None = None
    stop: Tensor | None = None
    closed: Tensor | None = None

    def of_sections(self, sections: Tensor) -> Prepared:
        """The same for other rows of sections: places (B, N) of what is there, some of them several times."""
        study = torch.arange(len(sections), device=sections.device)[:, None]

        def taken(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[study, sections]

        return self._replace(
            evidence=self.evidence[study, sections],
            slot_weights=taken(self.slot_weights),
            slot=taken(self.slot),
            start=None if self.start is None else LSTMState(*(each[study, sections] for each in self.start)),
            stop=taken(self.stop),
            closed=taken(self.closed),
        )
