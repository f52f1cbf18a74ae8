"""What may be changed about a training image without changing what its report says.

Named by kind of data: a flip is safe for tissue and for nothing that has a left and a right.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdnet.errors import ConfigurationError

__all__ = ["AUGMENTATIONS", "augment"]

AUGMENTATIONS = ("none", "shift", "tissue")

_SHIFT = 0.06  # of the image's side
_STAIN = 0.08  # relative change of each colour channel, and of all together


def check_augmentation(kind: str) -> str:
    """`kind` itself; `ConfigurationError` if there is none of that name."""
    if kind not in AUGMENTATIONS:
        raise ConfigurationError(f"augmentation {kind!r} is none of {', '.join(AUGMENTATIONS)}")
    return kind


def augment(image: npt.NDArray[np.uint8], kind: str, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A changed copy.

    Args:
        image: (C, H, W) uint8.
        kind: `none`; `shift` (by up to 6% of the side, edges repeated); `tissue` (one of the eight
            flips and quarter turns, and stain: each channel's strength).
        generator: Source of what is random.
    """
    if kind == "shift":
        return _shifted(image, generator)
    if kind == "tissue":
        if image.shape[1] == image.shape[2]:
            image = np.rot90(image, int(generator.integers(4)), axes=(1, 2))
        if generator.random() < 0.5:
            image = image[:, :, ::-1]
        strength = (
            1.0 + _STAIN * generator.standard_normal() + 0.5 * _STAIN * generator.standard_normal(len(image))
        )
        # Stain absorbs: scale what is missing from white, by a table of 256 values a channel.
        absorbed = (255 - np.arange(256)) * np.clip(strength, 0.6, 1.4)[:, None]
        tables = np.clip(255.5 - absorbed, 0, 255).astype(np.uint8)  # (C, 256)
        return np.stack([table[channel] for table, channel in zip(tables, image, strict=True)])
    return image


def _shifted(image: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    rows, columns = image.shape[1:]
    reach = _SHIFT * np.array([rows, columns])
    down, right = np.round(generator.uniform(-reach, reach)).astype(int)
    row_of = np.clip(np.arange(rows) - down, 0, rows - 1)
    column_of = np.clip(np.arange(columns) - right, 0, columns - 1)
    return image[:, row_of[:, None], column_of]
