"""Which augmentation fits a data set: found by looking at its images and texts, and said.

Grey images (X-ray, CT, MRI, ultrasound) get `xray`, stained tissue `tissue`, other colour images (fundus,
skin, endoscopy) `photo_mirror`; and where a report or a label speaks of a side, whatever was asked for, the
form of it that never swaps sides.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from mdnet.data.augmentation import check_augmentation, without_flips
from mdnet.data.images import is_grey
from mdnet.data.sides import Sides, find_sides
from mdnet.data.study import Study
from mdnet.errors import ConfigurationError

__all__ = ["choose_augmentation", "settle_augmentation"]

AUTO = "auto"
_LOOKED_AT = 32
_COLOURED = 16  # least distance of the channels of a pixel that counts as coloured, of 255

_log = logging.getLogger(__name__)


def settle_augmentation(name: str, studies: Sequence[Study], images: Iterable[npt.NDArray[np.uint8]]) -> str:
    """The augmentation that a training run uses, and why, in the log.

    Args:
        name: A name of `AUGMENTATIONS`, or `auto`.
        studies: The training studies.
        images: Some of theirs, (H, W, 3) uint8; only `auto` looks at them, and at no more than 32.

    Raises:
        ConfigurationError: There is no such augmentation, or no image for `auto` to look at.
    """
    if name == AUTO:
        kind, reason = choose_augmentation(studies, images)
        _log.info("augmentation: %s (%s)", kind, reason)
        return kind
    kind = without_flips(check_augmentation(name))
    if kind == name:
        return name
    if not (sides := find_sides(studies)):
        _log.info("augmentation: %s (%s)", name, sides)
        return name
    _log.warning("augmentation: %s in place of %s, without a flip: %s", kind, name, sides)
    return kind


def choose_augmentation(studies: Sequence[Study], images: Iterable[npt.NDArray[np.uint8]]) -> tuple[str, str]:
    """The kind of augmentation that fits, and the reason in words; arguments as of `settle_augmentation`."""
    seen = [_appearance(image) for image in islice(images, _LOOKED_AT)]
    if not seen:
        raise ConfigurationError("no image to choose an augmentation by: name one")
    names = {"xray": "grey", "tissue": "stained tissue", "photo_mirror": "in other colours"}
    kind = max(names, key=seen.count)
    reason = f"{seen.count(kind)} of {len(seen)} images looked at are {names[kind]}"
    if without_flips(kind) == kind:
        return kind, f"{reason}; grey images are never flipped"
    sides: Sides = find_sides(studies)
    return (without_flips(kind), f"{reason}; no flip: {sides}") if sides else (kind, f"{reason}; {sides}")


def _appearance(image: npt.NDArray[np.uint8]) -> str:
    """The kind that fits one image.

    Haematoxylin and eosin, and their like, let red and blue pass and hold back green; skin, blood and the
    fundus hold back blue.
    """
    if is_grey(image):
        return "xray"
    step = max(1, min(image.shape[:2]) // 256)
    pixels = image[::step, ::step].reshape(-1, 3).astype(np.int16)
    coloured = pixels[pixels.max(axis=1) - pixels.min(axis=1) >= _COLOURED]
    stained = len(coloured) and (coloured.argmin(axis=1) == 1).mean() > 0.5
    return "tissue" if stained else "photo_mirror"
