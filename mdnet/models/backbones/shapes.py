"""What is known of a torchvision backbone without building it: channels, strides, and where its blocks begin.

References:
    1. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385.
    2. Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv 1608.06993.
    3. torchvision.models, https://pytorch.org/vision/stable/models.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BACKBONES", "IMAGENET_MEAN", "IMAGENET_STD", "Backbone"]

# Of every torchvision classification weight; the input of a pretrained backbone is normalised with them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A backbone whose last three stages are the blocks of C(I).

    Attributes:
        widths: Channels of each block.
        depths: Residual blocks or dense layers of each stage.
        decoupled_from: torchvision's name of the stage that gives the first block. What comes before has no
            channels of its own in C(I), and inside the backbone a stage mixes what the one before it gave.
        fan: What torchvision scales a new convolution by, `fan_in` or `fan_out`. A DenseNet's convolutions
            from hundreds of channels to a few would let `fan_out` grow from layer to layer.
        rounds_up: Whether an odd side is halved upwards, as strided convolutions do, or downwards, as
            DenseNet's poolings do.
    """

    widths: tuple[int, int, int]
    depths: tuple[int, int, int]
    decoupled_from: str
    fan: Literal["fan_in", "fan_out"] = "fan_out"
    rounds_up: bool = True

    stem_stride = 8  # of the first block; convolution, pooling and one stage halve the image
    strides = (1, 2, 2)

    def architecture(self) -> dict[str, Any]:
        """The `MDNetConfig` arguments that are the backbone's own."""
        return {
            "stem_stride": self.stem_stride,
            "widths": list(self.widths),
            "depths": list(self.depths),
            "strides": list(self.strides),
        }

    def block_sizes(self, image_size: int) -> list[int]:
        """Rows and columns of each block."""
        cells = (image_size + 3) // 4  # the stem's convolution and pooling round up in both families
        sizes = []
        for _ in self.widths:
            cells = (cells + 1) // 2 if self.rounds_up else cells // 2
            sizes.append(cells)
        return sizes


BACKBONES = {
    "resnet18": Backbone((128, 256, 512), (2, 2, 2), "layer2"),
    "resnet50": Backbone((512, 1024, 2048), (4, 6, 3), "layer2"),
    "densenet121": Backbone((512, 1024, 1024), (12, 24, 16), "denseblock2", fan="fan_in", rounds_up=False),
}
