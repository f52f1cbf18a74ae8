"""What may be changed about a training image without changing what its report says.

Named by kind of data: a flip is safe for tissue and for nothing that has a left and a right, a change of
stain for tissue and for nothing that has none. What is random is drawn from the caller's generator; what
moves is moved by torchvision (mdnet/data/movement.py), masks and boxes with the image. A colour is changed
by a table of 256 values, several times quicker than by torchvision's functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mdnet.errors import ConfigurationError

__all__ = [
    "AUGMENTATIONS",
    "AugmentedStudy",
    "augment",
    "augment_study",
    "check_augmentation",
    "without_flips",
]

ImageArray = npt.NDArray[np.uint8]
MaskArray = npt.NDArray[np.bool_]
BoxArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Recipe:
    """How far an image may be changed.

    Attributes:
        turns: By any number of quarter turns, if it is square.
        flips: Left for right.
        shift: Along either axis, of its side.
        rotation: Either way, in degrees.
        zoom: Either way, relative.
        stain: Spread of the stain's strength, in all channels together and half as much in each; stain
            absorbs, so white stays white.
        contrast: About middle grey, either way, relative.
        gamma: Of the exponent's logarithm, either way.
        brightness: Either way, relative.
        tint: Of each channel by itself, likewise.
    """

    turns: bool = False
    flips: bool = False
    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    stain: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    brightness: float = 0.0
    tint: float = 0.0

    @property
    def moves(self) -> bool:
        return self.turns or self.flips or max(self.shift, self.rotation, self.zoom) > 0

    @property
    def recolours(self) -> bool:
        return max(self.stain, self.contrast, self.gamma, self.brightness, self.tint) > 0


_PHOTO = _Recipe(shift=0.03, rotation=10.0, zoom=0.08, contrast=0.1, brightness=0.1, tint=0.03)
_RECIPES = {
    "none": _Recipe(),
    "shift": _Recipe(shift=0.06),
    "stain": _Recipe(stain=0.08),
    "mirror": _Recipe(flips=True, stain=0.08),
    "tissue": _Recipe(turns=True, flips=True, stain=0.08),
    "xray": _Recipe(shift=0.03, rotation=5.0, zoom=0.05, contrast=0.15, gamma=0.15),
    "photo": _PHOTO,
    "photo_mirror": replace(_PHOTO, flips=True),
}
# a half turn swaps sides too
_WITHOUT_FLIPS = {"mirror": "stain", "tissue": "stain", "photo_mirror": "photo"}

AUGMENTATIONS = tuple(_RECIPES)
"""`none`; `shift` (whole pixels, edges repeated); `stain`; `mirror` (flip and stain, for tissue that has an
up and a down); `tissue` (one of the eight flips and quarter turns, and stain); `xray` (small movements,
contrast and gamma, for any grey image); `photo` (small movements, brightness and tint); `photo_mirror` (with
a flip)."""


def check_augmentation(kind: str) -> str:
    """`kind` itself; `ConfigurationError` if there is none of that name."""
    if kind not in AUGMENTATIONS:
        raise ConfigurationError(f"augmentation {kind!r} is none of {', '.join(AUGMENTATIONS)}")
    return kind


def without_flips(kind: str) -> str:
    """The kind that does the same but never swaps left and right; `kind` itself if it never does."""
    return _WITHOUT_FLIPS.get(kind, kind)


class AugmentedStudy(NamedTuple):
    """A changed copy of a study's images, with what lies over them; as `augment_study` takes them."""

    images: ImageArray
    masks: dict[str, MaskArray]
    boxes: BoxArray | None


def augment(images: ImageArray, kind: str, generator: np.random.Generator) -> ImageArray:
    """A changed copy of images (..., C, H, W) uint8; several views of one study are changed alike.

    Args:
        images: Left as they are.
        kind: A name of `AUGMENTATIONS`.
        generator: Source of what is random.
    """
    return augment_study(images, kind, generator).images


def augment_study(
    images: ImageArray,
    kind: str,
    generator: np.random.Generator,
    *,
    masks: Mapping[str, MaskArray] | None = None,
    boxes: BoxArray | None = None,
) -> AugmentedStudy:
    """As `augment`, with masks and boxes that move with the images.

    Args:
        images: (..., C, H, W) uint8.
        kind: A name of `AUGMENTATIONS`.
        generator: Source of what is random; one state gives one result.
        masks: (H, W) bool, by name.
        boxes: (N, 4) float, left, top, right and bottom in pixels; what of them leaves the image is cut off.
    """
    recipe = _RECIPES[kind]
    channels, rows, columns = images.shape[-3:]
    masks = dict(masks or {})
    if recipe.moves:
        from mdnet.data.movement import Movement

        movement = Movement(**_drawn_movement(recipe, rows, columns, generator))
        images, masks = movement.of_images(images), movement.of_masks(masks)
        boxes = None if boxes is None else movement.of_boxes(boxes, (rows, columns))
    if recipe.recolours:
        images = _looked_up(images, _drawn_tables(recipe, channels, generator))
    return AugmentedStudy(images, masks, boxes)


def _drawn_movement(
    recipe: _Recipe, rows: int, columns: int, generator: np.random.Generator
) -> dict[str, Any]:
    """Arguments of a `Movement`."""
    drawn: dict[str, Any] = {}
    if recipe.turns and rows == columns:
        drawn["quarters"] = int(generator.integers(4))
    if recipe.flips:
        drawn["flip"] = bool(generator.random() < 0.5)
    if recipe.shift:
        reach = recipe.shift * np.array([rows, columns])
        drawn["down"], drawn["right"] = np.round(generator.uniform(-reach, reach)).astype(int).tolist()
    if recipe.rotation:
        drawn["degrees"] = float(generator.uniform(-recipe.rotation, recipe.rotation))
    if recipe.zoom:
        drawn["zoom"] = float(generator.uniform(1.0 - recipe.zoom, 1.0 + recipe.zoom))
    return drawn


def _drawn_tables(recipe: _Recipe, channels: int, generator: np.random.Generator) -> ImageArray:
    """What each value of each channel becomes, (C, 256)."""
    values = np.arange(256)
    if recipe.stain:  # what is missing from white is scaled
        noise = generator.standard_normal(1 + channels)
        strength = np.clip(1.0 + recipe.stain * (noise[0] + 0.5 * noise[1:]), 0.6, 1.4)
        return np.clip(255.5 - (255 - values) * strength[:, None], 0, 255).astype(np.uint8)
    gamma, contrast, brightness = generator.uniform(-1.0, 1.0, 3)
    tint = generator.uniform(-1.0, 1.0, channels)
    shares = (values / 255.0) ** np.exp(recipe.gamma * gamma)
    shares = 0.5 + (shares - 0.5) * (1.0 + recipe.contrast * contrast)
    gains = 1.0 + recipe.brightness * brightness + recipe.tint * tint
    return np.clip(np.round(255.0 * shares * gains[:, None]), 0, 255).astype(np.uint8)


def _looked_up(images: ImageArray, tables: ImageArray) -> ImageArray:
    """Images (..., C, H, W) with each channel's values replaced by those of its table."""
    changed = np.empty_like(images)
    for channel, table in enumerate(tables):
        # no index is out of range; "clip" spares the check
        np.take(table, images[..., channel, :, :], out=changed[..., channel, :, :], mode="clip")
    return changed
