"""TandemNet's heads, as a user writes them: they learn from the report beside the image, and do without it.

With v_i the positions of C(I) and s_j what an LSTM makes of the report's words, in the same D dimensions,

    a = softmax over all of them of u^T tanh(U x), y = b + sum_i a_i w^T v_i + sum_j a_j w^T s_j

In training half of the studies hide their report; where nobody writes one, a is of the positions alone, and
a_i w^T v_i is the exact evidence of position i.
Zhang et al., "TandemNet: Distilling Knowledge from Medical Images Using Diagnostic Reports as Optional
Semantic References", MICCAI 2017, arXiv 1708.03070; its attention reads both kinds together, here each alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig
from mdnet.models.heads import Heads
from mdnet.models.image_module import ImageFeatures
from mdnet.models.registry import Architecture, register_model
from mdnet.models.zoo.mdnet import TINY

HIDDEN_REPORTS = 0.5
ATTENTION = 32


class TandemHeads(Heads):
    def __init__(self, config: MDNetConfig) -> None:
        super().__init__(config)
        width, self.pad_id = sum(config.block_widths), config.pad_id
        self.score = nn.Sequential(nn.Linear(width, ATTENTION), nn.Tanh(), nn.Linear(ATTENTION, 1))
        self.words = self.read = None
        if config.sections:
            self.words = nn.Embedding(config.vocabulary_size, config.embedding_size)
            self.read = nn.LSTM(config.embedding_size, width, batch_first=True)

    def forward(
        self, features: ImageFeatures, tokens: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        seen = self.attended(features, tokens)  # (B, D)
        shares = {name: seen @ self[name].weight.T for name in self.space.names}
        logits = {name: share + self[name].bias for name, share in shares.items()}
        return logits, {name: share[:, None] for name, share in shares.items()}  # of the one block

    def attended(self, features: ImageFeatures, tokens: Tensor | None) -> Tensor:
        """The sum of a_i v_i and a_j s_j, (B, D)."""
        scores = self.scores(features)
        if tokens is None or self.words is None:
            return (scores.softmax(dim=1)[:, None] @ features.grid).squeeze(1)
        read, _ = self.read(self.words(tokens.flatten(0, 1)))  # a section at a time, (B S, T, D)
        said = read.unflatten(0, tokens.shape[:2]).flatten(1, 2)  # (B, S T, D)
        kept = torch.rand(len(tokens), 1, device=tokens.device) >= HIDDEN_REPORTS
        shown = (tokens != self.pad_id).flatten(1) & kept
        of_words = self.score(said).squeeze(2).masked_fill(~shown, -torch.inf)
        together = torch.cat([scores, of_words], dim=1).softmax(dim=1)  # (B, P + S T)
        return (together[:, None] @ torch.cat([features.grid, said], dim=1)).squeeze(1)

    def scores(self, features: ImageFeatures) -> Tensor:
        """Of each position, (B, P)."""
        scores = self.score(features.grid).squeeze(2)
        return scores if features.there is None else scores.masked_fill(~features.there, -torch.inf)

    def evidence(self, features: ImageFeatures) -> dict[str, list[Tensor]]:
        looks = self.scores(features).softmax(dim=1)[:, None]  # (B, 1, P)
        places = (features.rows, features.columns)
        return {
            name: [(looks * (self[name].weight @ features.grid.transpose(1, 2))).unflatten(2, places)]
            for name in self.space.names
        }

    def take_over(self, other: Heads, rows: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """What has nothing to do with words, too; the reader of another vocabulary begins anew."""
        super().take_over(other, rows)
        assert isinstance(other, TandemHeads)
        self.score.load_state_dict(other.score.state_dict())


@register_model
def tandem() -> Architecture:
    """About 0.45 million parameters at 128 px, on the stages of `mdnet_tiny`, none decoupled."""
    options = {**TINY, "decoupled": False, "embedding_size": 64, "hidden_size": 128}
    return Architecture(options, "Zhang et al., MICCAI 2017, arXiv 1708.03070", heads=TandemHeads)
