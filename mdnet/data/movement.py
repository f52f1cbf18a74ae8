"""Images moved by torchvision, and what lies over them with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mdnet.torchvision_compat  # noqa: F401

import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

__all__ = ["Movement"]


@dataclass(frozen=True)
class Movement:
    """Quarter turns, then a flip, then the rest about the centre; where nothing is left, edges are repeated.

    Attributes:
        quarters: Turns by 90 degrees, counter-clockwise.
        flip: Left for right.
        down: Pixels.
        right: Pixels.
        degrees: Clockwise.
        zoom: Above 1 enlarges.
    """

    quarters: int = 0
    flip: bool = False
    down: int = 0
    right: int = 0
    degrees: float = 0.0
    zoom: float = 1.0

    def of_images(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Images (..., C, H, W), moved alike."""
        # torch warns of what cannot be written to, such as a mapped file
        tensor = torch.from_numpy(images if images.flags.writeable else images.copy())
        return self._of(tensor).numpy()

    def of_masks(self, masks: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, npt.NDArray[np.bool_]]:
        """Masks (H, W) by name."""
        return {name: self._of(tv_tensors.Mask(mask)).numpy() for name, mask in masks.items()}

    def of_boxes(self, boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4), left, top, right and bottom, in images of `size` (rows, columns), cut off there."""
        return self._of(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)).numpy()

    def _of(self, tensor: Any) -> Any:
        if self.quarters:
            tensor = F.rotate(tensor, 90.0 * self.quarters)
        if self.flip:
            tensor = F.horizontal_flip(tensor)
        rows, columns = F.get_size(tensor)
        if (self.down, self.right, self.degrees, self.zoom) == (0, 0, 0.0, 1.0):
            return tensor
        margin = self._margin(rows, columns)
        boxes = isinstance(tensor, tv_tensors.BoundingBoxes)  # they know no edge
        tensor = F.pad(tensor, [margin] * 4, padding_mode="constant" if boxes else "edge")
        if (self.degrees, self.zoom) == (0.0, 1.0):
            return F.crop(tensor, margin - self.down, margin - self.right, rows, columns)
        tensor = F.affine(
            tensor,
            angle=self.degrees,
            translate=[self.right, self.down],
            scale=self.zoom,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        return F.crop(tensor, margin, margin, rows, columns)

    def _margin(self, rows: int, columns: int) -> int:
        """Pixels by which the moved image may reach beyond its frame."""
        angle = math.radians(self.degrees)
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        seen = max(cosine * rows + sine * columns - rows, cosine * columns + sine * rows - columns)
        wider = (max(rows, columns) + max(seen, 0.0)) * max(1.0 / self.zoom - 1.0, 0.0)
        shift = max(abs(self.down), abs(self.right)) / min(self.zoom, 1.0)
        return math.ceil((max(seen, 0.0) + wider) / 2 + shift) + (self.degrees != 0 or self.zoom != 1)
