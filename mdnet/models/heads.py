"""The classification module M: one decoupled head an aspect, and its exact evidence.

Formula 3 of docs/method.md: `p^c = b^c + sum_m mean_ij(w_m^c . y_m)`. Each block has class weights
of its own and nothing mixes blocks, so a logit is a sum over blocks and positions, read off here.

Heads of another kind, a member's own, are a subclass of `Heads` that gives `forward` and `evidence`, whose
maps and the `bias` sum to the logits; where its parameters are not one row a class, `take_over`; and where
it guides words, a `weight` of its heads: a direction of C(I) a class. `auxiliary_losses` and `end_epoch` are
there for what else it needs to learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mdnet.data.study import Aspect
from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageFeatures

__all__ = ["DecoupledHead", "Heads", "block_evidence", "copy_rows"]


class DecoupledHead(nn.Module):
    """One aspect's class weights, block by block.

    Attributes:
        weight: (classes, D): the blocks' class weights side by side, in the order of C(I).
        bias: (classes,)
    """

    def __init__(self, aspect: Aspect, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.weight = nn.Parameter(torch.empty(len(aspect.classes), sum(widths)))
        self.bias = nn.Parameter(torch.empty(len(aspect.classes)))

    def forward(self, means: list[Tensor]) -> Tensor:
        """Every block's share of each logit, (B, M, classes), from the blocks' means (B, D_m)."""
        shares = [mean @ weight.T for mean, weight in zip(means, self.block_weights(), strict=True)]
        return torch.stack(shares, dim=1)

    def block_weights(self) -> tuple[Tensor, ...]:
        """w_m of every block: (classes, D_m)."""
        return self.weight.split(self.widths, dim=1)


class Heads(nn.Module):
    """All aspects' heads.

    Attributes:
        space: The aspects.
        heads: One an aspect, in their order.
    """

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        self.space = config.space
        # Positions, not names, as keys: an aspect may be called "a.b" or "type".
        self.heads = nn.ModuleList(self.head_of(aspect, config) for aspect in self.space.aspects)

    def head_of(self, aspect: Aspect, config: MDNetConfig) -> nn.Module:
        """A new head of one aspect."""
        return DecoupledHead(aspect, config.block_widths)

    def __getitem__(self, aspect: str) -> DecoupledHead:
        return self.heads[self.space.names.index(self.space[aspect].name)]  # type: ignore[return-value]

    def forward(
        self, features: ImageFeatures, tokens: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Logits and every block's share of them.

        Args:
            features: C(I); its blocks are read.
            tokens: (B, S, T) words of the true report, end token and padding behind them, for heads that
                learn from text beside the image; in training alone, for a diagnosis is of an image.

        Returns:
            Aspect name to logits (B, classes), and to shares (B, M, classes) that sum over M to
            the logits less the bias.
        """
        del tokens
        means = [block.mean(dim=(2, 3)) for block in features.blocks]  # each (B, D_m)
        shares = {name: self[name](means) for name in self.space.names}
        logits = {name: share.sum(dim=1) + self[name].bias for name, share in shares.items()}
        return logits, shares

    def evidence(self, features: ImageFeatures) -> dict[str, list[Tensor]]:
        """Aspect name to evidence maps, block by block at native resolution: (B, classes, H_m, W_m).

        Summed over positions and blocks, plus the bias, they give the logits. The classes of all
        aspects share one product a block.
        """
        heads = [self[name] for name in self.space.names]
        stacked = block_evidence(features, torch.cat([head.weight for head in heads]))
        split = [maps.split([len(head.bias) for head in heads], dim=1) for maps in stacked]
        return {name: [maps[index] for maps in split] for index, name in enumerate(self.space.names)}

    def auxiliary_losses(
        self, features: ImageFeatures, labels: Mapping[str, Tensor], counts: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Further terms of L_M by name, scalars; in `MDNetOutput.losses` they are `classification_NAME`.

        Args:
            features: C(I), as `forward` sees it. A batch may be of no study.
            labels: Aspect name to (B,) class index or (B, classes); `MISSING` where missing.
            counts: Number of `classification` labels in the whole step: what sums are divided by, as
                those of L_M are.
        """
        del features, labels, counts
        return {}

    def end_epoch(self, studies: Iterable[tuple[ImageFeatures, dict[str, Tensor]]]) -> None:
        """Called after every epoch of training, without gradient: for what is set, not descended to.

        Such as the projection of prototypes onto patches of images. A subclass that has it cannot be trained
        with `ema` or with sharded weights.

        Args:
            studies: C(I) and labels of the training split, batch by batch, its images as they are. They are
                computed when they are asked for.
        """
        del studies

    def class_weights(self, aspect: Aspect, classes: Tensor) -> Tensor:
        """The w^c of formula 5 as published; see `contrast_weights` for the arguments and the result."""
        weight = self[aspect.name].weight.detach()  # (K, D)
        if not aspect.multi_label:
            return weight[classes]
        present = classes.to(weight)  # (B, K)
        none = present.sum(dim=1, keepdim=True) == 0
        present = torch.where(none, torch.ones_like(present), present)
        return (present / present.sum(dim=1, keepdim=True)) @ weight

    def contrast_weights(self, aspect: Aspect, classes: Tensor) -> Tensor:
        """Class weights that make evidence mean something: a class against the reference.

        A softmax does not change when one vector is added to the weights of all classes, so one
        class's evidence alone is not identified; its contrast with the reference class is. For the
        reference class itself: the mean of the others against it, that is the place where something
        would be found if anything were. Multi-label classes stand against absence: the mean
        of those that are present, or of all where none is.

        Args:
            aspect: The aspect.
            classes: (B,) class index, or (B, classes) in 0..1 for a multi-label aspect.

        Returns:
            (B, D), cut off from the gradient: L_L does not rewrite theta_M (formula 6).
        """
        if aspect.multi_label:
            return self.class_weights(aspect, classes)
        weight = self[aspect.name].weight.detach()  # (K, D)
        reference = aspect.reference_index
        table = weight - weight[reference]  # (K, D); the reference's own row is 0
        others = table.sum(dim=0) / (len(aspect.classes) - 1)
        is_reference = torch.arange(len(table), device=table.device) == reference
        table = torch.where(is_reference[:, None], others, table)
        return table[classes]

    def predicted(self, logits: Mapping[str, Tensor], aspect: Aspect) -> Tensor:
        """The class in use: (B,) argmax, or (B, classes) at a probability of 0.5 (multi-label)."""
        scores = logits[aspect.name]
        return (scores >= 0).to(scores.dtype) if aspect.multi_label else scores.argmax(dim=1)

    @torch.no_grad()
    def take_over(self, other: Heads, rows: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """Copies what other heads know of the classes that both have (`mdnet.models.transfer`).

        Args:
            other: Of the same kind, and of another label space.
            rows: Aspect name to pairs of a class's place here and there.
        """
        for aspect, pairs in rows.items():
            copy_rows(other[aspect], self[aspect], pairs)


def copy_rows(old: nn.Module, new: nn.Module, rows: Sequence[tuple[int, int]]) -> None:
    """Copies rows of every parameter; `rows` are pairs of a row of the new one and one of the old one."""
    if not rows:
        return
    target, source = torch.tensor(rows).T
    values: dict[str, Tensor] = dict(old.named_parameters())
    for name, parameter in new.named_parameters():
        device = parameter.device
        parameter[target.to(device)] = values[name][source.to(device)]


def block_evidence(features: ImageFeatures, weights: Tensor) -> list[Tensor]:
    """What each position of each block adds to logits: (B, K, H_m, W_m), summed up `mean_ij(w_m . y_m)`.

    Args:
        features: C(I), block by block.
        weights: (K, D) class weights, or any combination of them such as the contrast of two.
    """
    maps = []
    parts = weights.split([block.shape[1] for block in features.blocks], dim=1)
    for block, part in zip(features.blocks, parts, strict=True):
        cells = block.shape[2] * block.shape[3]
        # A matrix product, not a 1x1 convolution: cuDNN would round it to TF32, and the sum with it.
        maps.append((part / cells @ block.flatten(2)).unflatten(2, block.shape[2:]))
    return maps
