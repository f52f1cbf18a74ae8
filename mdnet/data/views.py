"""Several images of one study as one: its views side by side, a strip.

A model of V views takes strips of V images of its own size, (C, rows, V columns): view v is columns
v W to (v + 1) W. A study that has fewer leaves the last places empty, and says so beside the strip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["as_strips", "mask_strip", "picture_strip"]

ImageArray = npt.NDArray[np.uint8]


def as_strips(
    studies: Sequence[Sequence[ImageArray] | ImageArray], views: int
) -> tuple[ImageArray, npt.NDArray[np.bool_] | None]:
    """The images of several studies as the model's input.

    Args:
        studies: Of each study 1 to `views` images (C, rows, columns), as `Preprocessing.to_array` gives them.
        views: Places in a strip.

    Returns:
        (B, C, rows, views x columns), 0 in the empty places; and (B, views), true where there is an image,
        or None where no place is empty.
    """
    channels, rows, columns = studies[0][0].shape
    strips = np.zeros((len(studies), channels, rows, views, columns), np.uint8)
    present = np.zeros((len(studies), views), bool)
    for number, images in enumerate(studies):
        for view, image in enumerate(images):
            strips[number, :, :, view] = image
        present[number, : len(images)] = True
    return strips.reshape(len(studies), channels, rows, -1), None if present.all() else present


def picture_strip(pictures: Sequence[ImageArray]) -> ImageArray:
    """Images (H, W, 3) of one study side by side, for the eye: each is brought to the size of the first.

    The model sees all of them in one size too, so a map of the strip has the same share for each view.
    """
    first, *others = pictures
    if not others:
        return first
    rows, columns = first.shape[:2]
    resized = [
        np.asarray(Image.fromarray(each).resize((columns, rows), Image.Resampling.BILINEAR))
        for each in others
    ]
    return np.concatenate([first, *resized], axis=1)


def mask_strip(mask: npt.NDArray[np.bool_], views: int) -> npt.NDArray[np.bool_]:
    """A mask (H, W) of a study's first view over the strip of all: nothing is masked on the others."""
    return np.pad(mask, ((0, 0), (0, mask.shape[1] * (views - 1))))
