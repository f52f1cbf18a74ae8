"""A concept bottleneck, as a user writes it: the diagnosis is told from the other aspects alone.

With y_a the logits of the other aspects, side by side, the diagnosis has y = V y_a + b. That is linear, so
its evidence is V times theirs, position by position.
Koh et al., "Concept Bottleneck Models", ICML 2020, arXiv 2007.04612, trained jointly, as section 2 has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mdnet.data.study import Aspect
from mdnet.models.configuration import MDNetConfig
from mdnet.models.heads import Heads
from mdnet.models.image_module import ImageFeatures
from mdnet.models.registry import Architecture, register_model
from mdnet.models.zoo.mdnet import TINY


class ConclusionHead(nn.Module):
    """V and b, and the heads of the concepts, which are not its own."""

    def __init__(self, aspect: Aspect, concepts: Sequence[nn.Module], inputs: int) -> None:
        super().__init__()
        self.concepts = tuple(concepts)  # no list of modules: theirs are not this one's parameters
        self.mixture = nn.Parameter(torch.empty(len(aspect.classes), inputs))  # V (K, inputs)
        self.offset = nn.Parameter(torch.empty(len(aspect.classes)))  # b (K,)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.mixture, std=0.1)
        nn.init.zeros_(self.offset)

    @property
    def weight(self) -> Tensor:
        """V W, the direction of each class in C(I), (K, D)."""
        return self.mixture @ torch.cat([head.weight for head in self.concepts])

    @property
    def bias(self) -> Tensor:
        told = torch.cat([head.bias for head in self.concepts])
        return (self.mixture * told).sum(dim=1) + self.offset


class BottleneckHeads(Heads):
    def __init__(self, config: MDNetConfig) -> None:
        super().__init__(config)
        self.concepts = [name for name in self.space.names if name != self.space.diagnosis]
        if self.space.diagnosis is not None and self.concepts:
            diagnosis = self.space[self.space.diagnosis]
            inputs = sum(len(self.space[name].classes) for name in self.concepts)
            heads = [self[name] for name in self.concepts]
            self.heads[self.space.names.index(diagnosis.name)] = ConclusionHead(diagnosis, heads, inputs)

    @property
    def conclusion(self) -> ConclusionHead | None:
        found = None if self.space.diagnosis is None else self[self.space.diagnosis]
        return found if isinstance(found, ConclusionHead) else None

    def forward(
        self, features: ImageFeatures, tokens: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        means = [block.mean(dim=(2, 3)) for block in features.blocks]
        names = self.space.names if self.conclusion is None else self.concepts
        shares = {name: self[name](means) for name in names}  # (B, M, classes)
        if self.conclusion is not None:
            told = torch.cat([shares[name] for name in self.concepts], dim=2)
            shares[self.space.diagnosis] = told @ self.conclusion.mixture.T
        logits = {name: share.sum(dim=1) + self[name].bias for name, share in shares.items()}
        return {name: logits[name] for name in self.space.names}, shares

    def take_over(self, other: Heads, rows: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """The conclusion as far as both have the same concepts; what the others add to it begins anew."""
        assert isinstance(other, BottleneckHeads)
        here, there = self.conclusion, other.conclusion
        alike = {
            name: pairs for name, pairs in rows.items() if self[name] is not here and other[name] is not there
        }
        super().take_over(other, alike)
        if here is None or there is None or self.space.diagnosis != other.space.diagnosis:
            return
        starts, their_starts = places_of(self), places_of(other)
        columns = [
            (starts[name] + to, their_starts[name] + source)
            for name in self.concepts
            for to, source in rows.get(name, ())
        ]
        for to, source in rows[self.space.diagnosis]:
            here.offset[to] = there.offset[source]
            for column, their_column in columns:
                here.mixture[to, column] = there.mixture[source, their_column]


def places_of(heads: BottleneckHeads) -> dict[str, int]:
    """Where each concept's columns of V begin."""
    found, place = {}, 0
    for name in heads.concepts:
        found[name] = place
        place += len(heads.space[name].classes)
    return found


@register_model
def bottleneck() -> Architecture:
    """About 0.44 million parameters at 128 px, on the image module of `mdnet_tiny`."""
    options = {**TINY, "embedding_size": 64, "hidden_size": 128}
    return Architecture(options, "Koh et al., ICML 2020, arXiv 2007.04612", heads=BottleneckHeads)
