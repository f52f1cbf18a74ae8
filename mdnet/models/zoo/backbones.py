"""MDNet on torchvision's networks (`mdnet.models.backbones`): decoupled from a stage on."""

from __future__ import annotations

from mdnet.models.backbones.shapes import BACKBONES
from mdnet.models.registry import Architecture, register_model
from mdnet.models.zoo.mdnet import PAPER

__all__ = ["mdnet_densenet121", "mdnet_resnet18", "mdnet_resnet50"]


@register_model
def mdnet_resnet18() -> Architecture:
    """About 13 million parameters, on torchvision's ResNet-18: decoupled from layer2 on, 7 x 7 grid."""
    return _on("resnet18", embedding=128, hidden=256, paper="He et al., CVPR 2016, arXiv 1512.03385")


@register_model
def mdnet_resnet50() -> Architecture:
    """About 33 million parameters, on torchvision's ResNet-50: decoupled from layer2 on, 7 x 7 grid."""
    return _on("resnet50", embedding=256, hidden=512, paper="He et al., CVPR 2016, arXiv 1512.03385")


@register_model
def mdnet_densenet121() -> Architecture:
    """About 14 million parameters, on DenseNet-121: decoupled from denseblock2 on, 7 x 7 grid."""
    return _on("densenet121", embedding=256, hidden=512, paper="Huang et al., CVPR 2017, arXiv 1608.06993")


def _on(backbone: str, *, embedding: int, hidden: int, paper: str) -> Architecture:
    options = {
        "image_size": 224,
        "backbone": backbone,
        **BACKBONES[backbone].architecture(),
        "embedding_size": embedding,
        "hidden_size": hidden,
        "attention_size": hidden,
    }
    return Architecture(options, f"{PAPER}; {paper}")
