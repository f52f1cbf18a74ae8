"""The image module D: a residual CNN whose blocks keep their own channels to the end.

Formulas 1 and 2 of docs/method.md.

References:
    1. Zhang et al., "MDNet: A Semantically and Visually Interpretable Medical Image Diagnosis
       Network", CVPR 2017, arXiv 1707.02485, section 3.1 (ensemble connections).
    2. He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027
       (pre-activation BN-ReLU-conv).
    3. Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146 (widths).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig

__all__ = [
    "EnsembleModule",
    "ImageFeatures",
    "ImageModule",
    "PlainModule",
    "ResidualFunction",
    "stack_studies",
]


class ResidualFunction(nn.Module):
    """F of `y + F(y)`: pre-activation BN-ReLU-conv, two 3x3 or 1x1-3x3-1x1 [2]."""

    def __init__(self, channels_in: int, channels: int, *, stride: int = 1, block: str = "basic") -> None:
        super().__init__()
        if block == "basic":
            shapes = [(channels_in, channels, 3, stride), (channels, channels, 3, 1)]
        else:
            inner = max(channels // 4, 1)
            shapes = [(channels_in, inner, 1, 1), (inner, inner, 3, stride), (inner, channels, 1, 1)]
        layers: list[nn.Module] = []
        for source, target, kernel, step in shapes:
            layers += [
                nn.BatchNorm2d(source),
                nn.ReLU(),  # its own and not in place: gradient methods hook it
                nn.Conv2d(source, target, kernel, stride=step, padding=kernel // 2, bias=False),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, y: Tensor) -> Tensor:
        return self.layers(y)


class Stage(nn.Module):
    """One stage: an ensemble connection that opens a group of channels, then residual blocks on it.

    The opening block reads all groups so far and writes a new one beside them (formula 2); the
    blocks behind it add to the new group alone (formula 1), so earlier groups pass unmixed.
    """

    def __init__(
        self, channels_in: int, channels: int, *, depth: int, stride: int, block: str, first: bool
    ) -> None:
        super().__init__()
        opening = [] if first else [ResidualFunction(channels_in, channels, stride=stride, block=block)]
        self.opening = nn.ModuleList(opening)  # empty in the first stage, which goes on from the stem
        self.residual = nn.ModuleList(
            ResidualFunction(channels, channels, block=block) for _ in range(depth - len(opening))
        )

    def forward(self, y: Tensor) -> Tensor:
        for function in self.opening:
            y = function(y)
        for function in self.residual:
            y = y + function(y)
        return y


@dataclass(frozen=True)
class ImageFeatures:
    """C(I), block by block.

    Attributes:
        blocks: M tensors (B, D_m, H_m, W_m), each ReLU(BN(block)) at the block's own resolution. Several
            views stand side by side (`mdnet.models.views`).
        grid: (B, P, D) all blocks pooled to the coarsest grid and concatenated; P = rows x columns.
        rows: Rows of that grid.
        columns: Columns of that grid, those of all views together.
        views: How many views they are of.
        present: (B, views), true for a view that is there; None where all are.
    """

    blocks: tuple[Tensor, ...]
    grid: Tensor
    rows: int
    columns: int
    views: int = 1
    present: Tensor | None = None

    @classmethod
    def of_blocks(cls, blocks: Sequence[Tensor]) -> ImageFeatures:
        """C(I) of M blocks, the last of which is the coarsest."""
        rows, columns = blocks[-1].shape[-2:]
        pooled = torch.cat(
            [pool_to(block, (rows, columns)) for block in blocks], dim=1
        )  # (B, D, rows, columns)
        return cls(tuple(blocks), pooled.flatten(2).transpose(1, 2), rows, columns)

    @property
    def there(self) -> Tensor | None:
        """(B, P), true for a position of a view that is there; None where all are."""
        if self.present is None:
            return None
        return self.present.repeat_interleave(self.columns // self.views, dim=1).repeat(1, self.rows)

    def pooled(self) -> Tensor:
        """C(I), the mean over the positions that are there: (B, D)."""
        mean = self.grid.mean(dim=1)
        return mean if self.present is None else mean / self.present.to(mean).mean(dim=1, keepdim=True)

    def of_study(self, row: int) -> ImageFeatures:
        """The grid of one study of the batch, as a batch of one; without the blocks."""
        present = None if self.present is None else self.present[row : row + 1]
        return replace(self, blocks=(), grid=self.grid[row : row + 1], present=present)


def stack_studies(studies: Sequence[ImageFeatures]) -> ImageFeatures:
    """The grids of several studies as one batch: the inverse of `ImageFeatures.of_study`."""
    present = None
    if any(each.present is not None for each in studies):
        present = torch.cat(
            [
                each.grid.new_ones(1, each.views, dtype=torch.bool) if each.present is None else each.present
                for each in studies
            ]
        )
    return replace(studies[0], grid=torch.cat([each.grid for each in studies]), present=present)


class ImageModule(nn.Module):
    """Contract: from an image to C(I), M groups of channels, each behind its own activation.

    Attributes:
        stem: What comes before the first stage.
        stages: A stage gives a group of channels.
        activations: M, of the last M stages; of a group to the block that heads and attention read, at its
            own resolution.
    """

    stem: nn.Module
    stages: nn.ModuleList
    activations: nn.ModuleList

    def blocks(self, pixel_values: Tensor) -> list[Tensor]:
        """The M blocks (B, D_m, H_m, W_m), finest first."""
        raise NotImplementedError

    def forward(self, pixel_values: Tensor) -> ImageFeatures:
        """C(I) of normalised images.

        Args:
            pixel_values: (B, channels, H, W).
        """
        return ImageFeatures.of_blocks(self.blocks(pixel_values))


class EnsembleModule(ImageModule):
    """MDNet's own: each stage reads all groups before it and mixes none of them; BN-ReLU a block."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(
            config.image_channels, config.widths[0], 3, stride=config.stem_stride, padding=1, bias=False
        )
        self.stages = nn.ModuleList()
        for index, width in enumerate(config.widths):
            self.stages.append(
                Stage(
                    sum(config.widths[:index]),
                    width,
                    depth=config.depths[index],
                    stride=config.strides[index],
                    block=config.block,
                    first=index == 0,
                )
            )
        self.activations = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(w), nn.ReLU()) for w in config.widths)

    def blocks(self, pixel_values: Tensor) -> list[Tensor]:
        groups = [self.stages[0](self.stem(pixel_values))]
        for stage in list(self.stages)[1:]:
            size = groups[-1].shape[-2:]
            so_far = torch.cat([pool_to(group, size) for group in groups], dim=1)  # (B, sum of D, h, w)
            groups.append(stage(so_far))
        return [activation(group) for activation, group in zip(self.activations, groups, strict=True)]


class PlainStage(nn.Module):
    """A stage of a pre-activation ResNet [2]: `y + F(y)`; where the shape changes, y is projected."""

    def __init__(
        self, channels_in: int, channels: int, *, depth: int, stride: int, block: str, first: bool
    ) -> None:
        super().__init__()
        self.shortcut = nn.Identity() if first else nn.Conv2d(channels_in, channels, 1, stride, bias=False)
        self.residual = nn.ModuleList(
            ResidualFunction(
                channels if index else channels_in, channels, stride=1 if index else stride, block=block
            )
            for index in range(depth)
        )

    def forward(self, y: Tensor) -> Tensor:
        opening, *others = self.residual
        y = self.shortcut(y) + opening(y)
        for function in others:
            y = y + function(y)
        return y


class PlainModule(ImageModule):
    """A plain pre-activation ResNet [2] of the same residual functions: C(I) is its last stage, one block."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        channels = config.widths[0]
        self.stem = nn.Conv2d(
            config.image_channels, channels, 3, stride=config.stem_stride, padding=1, bias=False
        )
        self.stages = nn.ModuleList()
        for index, width in enumerate(config.widths):
            self.stages.append(
                PlainStage(
                    channels,
                    width,
                    depth=config.depths[index],
                    stride=config.strides[index],
                    block=config.block,
                    first=index == 0,
                )
            )
            channels = width
        self.activations = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())])

    def blocks(self, pixel_values: Tensor) -> list[Tensor]:
        y = self.stem(pixel_values)
        for stage in self.stages:
            y = stage(y)
        return [self.activations[0](y)]


def pool_to(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Average-pools (B, C, H, W) to `size`; the identity where it has that size."""
    rows, columns = size
    return maps if maps.shape[-2:] == (rows, columns) else F.adaptive_avg_pool2d(maps, (rows, columns))
