"""A model of one's own, as a user writes it: this file, and nothing anywhere else.

A GRU writes; it is looked at on an image module whose positions see a patch of the image each, as in
BagNet (Brendel & Bethge, ICLR 2019, arXiv 1904.00760).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageModule
from mdnet.models.prepared import Prepared
from mdnet.models.registry import Architecture, register_model
from mdnet.models.report_module import ReportModule, ReportOutput


class PatchModule(ImageModule):
    """One stage, one block: nothing is seen outside a position's own patch."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        (width,), side = config.widths, config.stem_stride
        self.stem = nn.Conv2d(config.image_channels, width, side, stride=side, bias=False)
        self.stages = nn.ModuleList(
            [nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1, bias=False))]
        )
        self.activations = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())])

    def blocks(self, pixel_values: Tensor) -> list[Tensor]:
        return [self.activations[0](self.stages[0](self.stem(pixel_values)))]


class GRUState(NamedTuple):
    """h, (B, S, H)."""

    hidden: Tensor


class GRUModule(ReportModule):
    """`h_t = GRU([E x_{t-1}, z_t], h_{t-1})`, h_0 learned; attention is kept sharp by a loss of its own."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__(config, readout_size=config.hidden_size)
        self.pad_id = config.pad_id
        self.first = nn.Parameter(torch.empty(config.hidden_size))
        self.gru = nn.GRUCell(config.embedding_size + sum(config.block_widths), config.hidden_size)

    def reset_parameters(self) -> None:
        """Of parameters of its own; its parts begin as MDNet's do."""
        nn.init.zeros_(self.first)

    def initial_state(self, prepared: Prepared) -> GRUState:
        return GRUState(self.first.expand(*prepared.evidence.shape[:2], -1))

    def step(
        self, words: Tensor, state: GRUState, grid: Tensor, prepared: Prepared
    ) -> tuple[GRUState, Tensor]:
        attention = self.attention(state.hidden, prepared)
        inputs = torch.cat([words, torch.bmm(attention, grid)], dim=-1)
        hidden = self.gru(inputs.flatten(0, 1), state.hidden.flatten(0, 1))
        return GRUState(hidden.view_as(state.hidden)), attention

    def auxiliary_losses(
        self, prepared: Prepared, output: ReportOutput, tokens: Tensor, counts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        entropy = torch.special.entr(output.attention).sum(dim=-1)  # (B, S, T)
        return {"entropy": 0.1 * entropy[tokens != self.pad_id].sum() / counts["language"].clamp_min(1)}


@register_model
def patch_gru() -> Architecture:
    """About 0.14 million parameters at 64 px, 8 x 8 grid."""
    options = {
        "image_size": 64,
        "stem_stride": 8,
        "widths": [32],
        "depths": [1],
        "strides": [1],
        "decoupled": False,
        "attention": "sharpened",
    }
    return Architecture(options, "a test", image=PatchModule, report=GRUModule)
