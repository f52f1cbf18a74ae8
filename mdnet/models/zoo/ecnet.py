"""The image module alone, with its heads: diagnosis and exact evidence, no report.

Section 3.1 of the paper compares it with plain residual networks on CIFAR, where its blocks' outputs are
classified together ("ensemble connections").
"""

from __future__ import annotations

from typing import Any

from mdnet.models.registry import Architecture, register_model
from mdnet.models.zoo.mdnet import BASE, PAPER, SMALL, TINY

__all__ = ["ecnet_base", "ecnet_cifar", "ecnet_small", "ecnet_tiny"]


@register_model
def ecnet_tiny() -> Architecture:
    """The image module of `mdnet_tiny`: about 0.23 million parameters at 128 px."""
    return _alone(TINY)


@register_model
def ecnet_small() -> Architecture:
    """The image module of `mdnet_small`: about 2 million parameters at 224 px."""
    return _alone(SMALL)


@register_model
def ecnet_base() -> Architecture:
    """The image module of `mdnet_base`: about 18 million parameters at 224 px."""
    return _alone(BASE)


@register_model
def ecnet_cifar() -> Architecture:
    """As deep and wide as a ResNet-20, for images of 32 px: about 0.28 million parameters."""
    return _alone(
        {
            "image_size": 32,
            "stem_stride": 1,
            "widths": [16, 32, 64],
            "depths": [3, 3, 3],
            "strides": [1, 2, 2],
        }
    )


def _alone(image: dict[str, Any]) -> Architecture:
    return Architecture(dict(image), f"{PAPER}, section 3.1", writes=False)
