"""Heads of one's own, as a user writes them: a class is told by the one position nearest to a prototype.

Of C(I) at position i, (D,), and prototype p_j of class k: d_ij = |C(I)_i - p_j|^2,

    g_j = max_i log((d_ij + 1) / (d_ij + epsilon)), y_k = sum of w_j g_j over the prototypes j of k

Chen et al., "This Looks Like That: Deep Learning for Interpretable Image Recognition", NeurIPS 2019,
arXiv 1806.10574, section 2.1, its last layer as sparse as 2.2 makes it; without the terms that cluster the
prototypes. Not linear in C(I), and yet a sum over positions: all of g_j stands at the nearest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mdnet.data.study import Aspect, LabelSpace
from mdnet.models.heads import Heads
from mdnet.models.image_module import ImageFeatures
from mdnet.models.registry import Architecture, register_model
from mdnet.models.zoo.mdnet import TINY

PROTOTYPES = 2  # a class
EPSILON = 1e-2


class PrototypeHead(nn.Module):
    """One aspect's prototypes, those of a class behind one another."""

    def __init__(self, aspect: Aspect, widths: Sequence[int]) -> None:
        super().__init__()
        self.classes = len(aspect.classes)
        self.prototypes = nn.Parameter(torch.empty(self.classes * PROTOTYPES, sum(widths)))  # (J, D)
        self.strengths = nn.Parameter(torch.empty(self.classes * PROTOTYPES))  # w (J,)

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.prototypes)
        nn.init.ones_(self.strengths)

    @property
    def weight(self) -> Tensor:
        """(classes, D), where the words of a class look: towards its prototypes."""
        return self.prototypes.unflatten(0, (self.classes, -1)).mean(dim=1)

    @property
    def bias(self) -> Tensor:
        return self.strengths.new_zeros(self.classes)

    def nearest(self, features: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Every w_j g_j (B, J), and the position of each."""
        away = (features.grid[:, None] - self.prototypes[:, None]).square().sum(dim=-1)  # (B, J, P)
        similar = ((away + 1) / (away + EPSILON)).log()
        if features.there is not None:
            similar = similar.masked_fill(~features.there[:, None], -torch.inf)
        found = similar.max(dim=-1)
        return self.strengths * found.values, found.indices

    def of_classes(self, values: Tensor) -> Tensor:
        """Sums over each class's prototypes, (B, classes, ...) of (B, J, ...)."""
        return values.unflatten(1, (self.classes, -1)).sum(dim=2)


class PrototypeHeads(Heads):
    def __init__(self, space: LabelSpace, widths: Sequence[int]) -> None:
        nn.Module.__init__(self)
        self.space = space
        self.heads = nn.ModuleList(PrototypeHead(aspect, widths) for aspect in space.aspects)

    def forward(self, features: ImageFeatures) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        logits = {name: self[name].of_classes(self[name].nearest(features)[0]) for name in self.space.names}
        return logits, {name: values[:, None] for name, values in logits.items()}  # of the one block

    def evidence(self, features: ImageFeatures) -> dict[str, list[Tensor]]:
        found = {}
        for name in self.space.names:
            values, places = self[name].nearest(features)  # (B, J) each
            spots = values.new_zeros(*values.shape, features.grid.shape[1])  # (B, J, P)
            spots.scatter_(2, places[..., None], values[..., None])
            found[name] = [self[name].of_classes(spots).unflatten(2, (features.rows, features.columns))]
        return found

    def take_over(self, other: Heads, rows: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        own = range(PROTOTYPES)
        places = {
            aspect: [(here * PROTOTYPES + j, there * PROTOTYPES + j) for here, there in pairs for j in own]
            for aspect, pairs in rows.items()
        }
        super().take_over(other, places)


@register_model
def prototypes() -> Architecture:
    """About 0.42 million parameters at 128 px, on the stages of `mdnet_tiny`, none decoupled."""
    options = {**TINY, "decoupled": False, "embedding_size": 64, "hidden_size": 128}
    return Architecture(options, "Chen et al., NeurIPS 2019, arXiv 1806.10574", heads=PrototypeHeads)
