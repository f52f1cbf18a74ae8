"""ProtoPNet's heads, as a user writes them: a class is told by the one position nearest to a prototype.

Of C(I) at position i, (D,), and prototype p_j of class k: d_ij = |C(I)_i - p_j|^2 / D,

    g_j = max_i log((d_ij + 1) / (d_ij + epsilon)), y_k = sum of w_j g_j over the prototypes j of k

Not linear in C(I), and yet a sum over positions: all of g_j stands at the nearest one. L_M has two further
terms: each label wants a prototype of its class near to a position, and those of other classes far from all.
Behind every epoch a prototype becomes the nearest position of the training images of its class.

Chen et al., "This Looks Like That: Deep Learning for Interpretable Image Recognition", NeurIPS 2019,
arXiv 1806.10574, sections 2.1 and 2.2, its last layer as sparse as 2.2 makes it. There d is not divided by D;
here C(I) has no sigmoid, and undivided the cluster term outweighs all else and draws C(I) together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mdnet.data.study import Aspect
from mdnet.models.configuration import MDNetConfig
from mdnet.models.heads import Heads
from mdnet.models.image_module import ImageFeatures
from mdnet.models.objective import divided
from mdnet.models.registry import Architecture, register_model
from mdnet.models.zoo.mdnet import TINY

PROTOTYPES = 2  # a class
EPSILON = 1e-2
CLUSTER, SEPARATION = 0.8, 0.08


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
        return self.by_class(self.prototypes, dim=0).mean(dim=1)

    @property
    def bias(self) -> Tensor:
        return self.strengths.new_zeros(self.classes)

    def distances(self, features: ImageFeatures) -> Tensor:
        """d, (B, J, P); infinite where a view is not there."""
        away = (features.grid[:, None] - self.prototypes[:, None]).square().mean(dim=-1)
        return away if features.there is None else away.masked_fill(~features.there[:, None], torch.inf)

    def nearest(self, features: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Every w_j g_j (B, J), and the position of each."""
        away, places = self.distances(features).min(dim=-1)  # log((d + 1) / (d + epsilon)) falls with d
        return self.strengths * ((away + 1) / (away + EPSILON)).log(), places

    def by_class(self, values: Tensor, dim: int = 1) -> Tensor:
        """(..., J, ...) as (..., classes, PROTOTYPES, ...)."""
        return values.unflatten(dim, (self.classes, PROTOTYPES))


class PrototypeHeads(Heads):
    def head_of(self, aspect: Aspect, config: MDNetConfig) -> PrototypeHead:
        return PrototypeHead(aspect, config.block_widths)

    def forward(
        self, features: ImageFeatures, tokens: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        found = {name: self[name].nearest(features)[0] for name in self.space.names}
        logits = {name: self[name].by_class(values).sum(dim=2) for name, values in found.items()}
        return logits, {name: values[:, None] for name, values in logits.items()}  # of the one block

    def evidence(self, features: ImageFeatures) -> dict[str, list[Tensor]]:
        found = {}
        for name in self.space.names:
            values, places = self[name].nearest(features)  # (B, J) each
            spots = values.new_zeros(*values.shape, features.grid.shape[1])  # (B, J, P)
            spots.scatter_(2, places[..., None], values[..., None])
            maps = self[name].by_class(spots).sum(dim=2)
            found[name] = [maps.unflatten(2, (features.rows, features.columns))]
        return found

    def auxiliary_losses(
        self, features: ImageFeatures, labels: Mapping[str, Tensor], counts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        near, far = features.grid.new_zeros(()), features.grid.new_zeros(())
        for aspect in self.space.aspects:
            if aspect.name in labels:
                head, own = self[aspect.name], own_classes(aspect, labels[aspect.name])  # own (B, K)
                nearest = head.by_class(head.distances(features).amin(dim=-1)).amin(dim=-1)  # (B, K)
                near = near + smallest(nearest, own)
                far = far + smallest(nearest, ~own & own.any(dim=1, keepdim=True))
        count = counts["classification"]
        return {"cluster": CLUSTER * divided(near, count), "separation": -SEPARATION * divided(far, count)}

    def end_epoch(self, studies: Iterable[tuple[ImageFeatures, dict[str, Tensor]]]) -> None:
        heads = {aspect: self[aspect.name] for aspect in self.space.aspects}
        nearest = {aspect: torch.full_like(head.strengths, torch.inf) for aspect, head in heads.items()}
        found = {aspect: head.prototypes.clone() for aspect, head in heads.items()}
        for features, labels in studies:
            for aspect, head in heads.items():
                own = own_classes(aspect, labels[aspect.name]).repeat_interleave(PROTOTYPES, dim=1)  # (B, J)
                away = head.distances(features).masked_fill(~own[..., None], torch.inf)
                distance, place = away.transpose(0, 1).flatten(1).min(dim=1)  # (J,)
                closer = distance < nearest[aspect]
                patches = features.grid.flatten(0, 1)[place]  # (J, D)
                found[aspect] = torch.where(closer[:, None], patches, found[aspect])
                nearest[aspect] = torch.where(closer, distance, nearest[aspect])
        for aspect, head in heads.items():
            head.prototypes.copy_(found[aspect])

    def take_over(self, other: Heads, rows: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        own = range(PROTOTYPES)
        places = {
            aspect: [(here * PROTOTYPES + j, there * PROTOTYPES + j) for here, there in pairs for j in own]
            for aspect, pairs in rows.items()
        }
        super().take_over(other, places)


def own_classes(aspect: Aspect, labels: Tensor) -> Tensor:
    """(B, classes), true for the classes that a study is known to have."""
    if aspect.multi_label:
        return labels == 1
    return labels[:, None] == torch.arange(len(aspect.classes), device=labels.device)


def smallest(values: Tensor, chosen: Tensor) -> Tensor:
    """The sum over rows of each one's smallest chosen value; a row without adds nothing."""
    least = values.masked_fill(~chosen, torch.inf).amin(dim=1)
    return torch.where(chosen.any(dim=1), least, 0.0).sum()


@register_model
def prototypes() -> Architecture:
    """About 0.42 million parameters at 128 px, on the stages of `mdnet_tiny`, none decoupled."""
    options = {**TINY, "decoupled": False, "embedding_size": 64, "hidden_size": 128}
    return Architecture(options, "Chen et al., NeurIPS 2019, arXiv 1806.10574", heads=PrototypeHeads)
