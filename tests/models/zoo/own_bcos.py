"""A B-cos network as image module, as a user writes it: no bias, no norm, nothing but B-cos convolutions.

    y = |cos(x, w)|^(B - 1) * w^T x / |w|, with B = 2

so that an answer is a linear map of the image, which depends on it.
Böhle et al., "B-cos Networks: Alignment is All We Need for Interpretability", CVPR 2022, arXiv 2205.10268,
formulas 3 and 10; the image comes with its negative beside it, where the paper has 1 - x.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageModule
from mdnet.models.registry import Architecture, register_model

EPSILON = 1e-6


class BcosConv(nn.Conv2d):
    """3 x 3, with weights of norm 1."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__(channels_in, channels, 3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.normalize(self.weight.flatten(1), dim=1).view_as(self.weight)
        answer = F.conv2d(x, weight, stride=self.stride, padding=self.padding)
        window = x.new_ones(1, *self.weight.shape[1:])
        squares = F.conv2d(x.square(), window, stride=self.stride, padding=self.padding)  # |x|^2
        return answer * answer.abs() / (squares + EPSILON).sqrt()


class BcosModule(ImageModule):
    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        self.stem = BcosConv(2 * config.image_channels, config.widths[0], config.stem_stride)
        before = [config.widths[0], *config.widths[:-1]]
        self.stages = nn.ModuleList(
            BcosConv(*each) for each in zip(before, config.widths, config.strides, strict=True)
        )
        self.activations = nn.ModuleList([nn.Identity()])

    def blocks(self, pixel_values: Tensor) -> list[Tensor]:
        y = self.stem(torch.cat([pixel_values, -pixel_values], dim=1))
        for stage in self.stages:
            y = stage(y)
        return [self.activations[0](y)]


@register_model
def bcos() -> Architecture:
    """About 0.067 million parameters at 64 px, 16 x 16 grid: diagnosis alone."""
    options = {
        "image_size": 64,
        "stem_stride": 2,
        "widths": [32, 64, 64],
        "depths": [1, 1, 1],
        "strides": [1, 2, 1],
        "decoupled": False,
    }
    return Architecture(options, "Böhle et al., CVPR 2022, arXiv 2205.10268", image=BcosModule, writes=False)
