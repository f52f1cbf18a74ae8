"""MDNet at three sizes, and with its attention to the letter."""

from __future__ import annotations

from mdnet.models.registry import Architecture, register_model

__all__ = ["BASE", "PAPER", "SMALL", "TINY", "mdnet_base", "mdnet_literal", "mdnet_small", "mdnet_tiny"]

PAPER = "Zhang et al., MDNet, CVPR 2017, arXiv 1707.02485"

TINY = {
    "image_size": 128,
    "stem_stride": 2,
    "widths": [16, 40, 64],
    "depths": [1, 3, 2],
    "strides": [1, 2, 2],
}
SMALL = {
    "image_size": 224,
    "stem_stride": 2,
    "widths": [32, 64, 128, 192],
    "depths": [1, 2, 2, 2],
    "strides": [1, 2, 2, 2],
}
BASE = {
    "image_size": 224,
    "stem_stride": 2,
    "widths": [64, 128, 256, 512],
    "depths": [2, 3, 3, 3],
    "strides": [1, 2, 2, 2],
}


@register_model
def mdnet_tiny() -> Architecture:
    """About 0.4 million parameters at 128 px, 16 x 16 grid: trains on two CPU cores in minutes."""
    return Architecture({**TINY, "embedding_size": 64, "hidden_size": 128}, PAPER)


@register_model
def mdnet_small() -> Architecture:
    """About 3 million parameters at 224 px, 14 x 14 grid."""
    return Architecture({**SMALL, "embedding_size": 128, "hidden_size": 256, "attention_size": 256}, PAPER)


@register_model
def mdnet_base() -> Architecture:
    """About 22 million parameters, wide as a WRN, at 224 px, 14 x 14 grid."""
    return Architecture({**BASE, "embedding_size": 256, "hidden_size": 512, "attention_size": 512}, PAPER)


@register_model
def mdnet_literal() -> Architecture:
    """`mdnet_tiny` with formula 5 to the letter, W_att over all positions: about 0.53 million parameters."""
    return Architecture({**mdnet_tiny().options, "attention": "mdnet"}, PAPER)
