"""What may be changed about a training image without changing what its report says.

Named by kind of data: a flip is safe for tissue and for nothing that has a left and a right.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdnet.errors import ConfigurationError

__all__ = ["AUGMENTATIONS", "augment"]

AUGMENTATIONS = ("none", "shift", "mirror", "tissue")

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
        image: (..., C, H, W) uint8; several views of one study are changed alike.
        kind: `none`; `shift` (by up to 6% of the side, edges repeated); `mirror` (left for right, and
            stain: each channel's strength; for tissue that has an up and a down); `tissue` (one of the
            eight flips and quarter turns, and stain).
        generator: Source of what is random.
    """
    if kind == "shift":
        return _shifted(image, generator)
    if kind in ("mirror", "tissue"):
        if kind == "tissue" and image.shape[-2] == image.shape[-1]:
            image = np.rot90(image, int(generator.integers(4)), axes=(-2, -1))
        if generator.random() < 0.5:
            image = image[..., ::-1]
        return _stained(image, generator)
    return image


def _shifted(image: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    rows, columns = image.shape[-2:]
    reach = _SHIFT * np.array([rows, columns])
    down, right = np.round(generator.uniform(-reach, reach)).astype(int)
    row_of = np.clip(np.arange(rows) - down, 0, rows - 1)
    column_of = np.clip(np.arange(columns) - right, 0, columns - 1)
    return image[..., row_of[:, None], column_of]


def _stained(image: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Another strength of the stain, in all channels together and in each.

    Stain absorbs: what is missing from white is scaled.
    """
    channels = np.moveaxis(image, -3, 0)
    noise = generator.standard_normal(1 + len(channels))
    strength = np.clip(1.0 + _STAIN * (noise[0] + 0.5 * noise[1:]), 0.6, 1.4)
    absorbed = (255 - np.arange(256)) * strength[:, None]
    tables = np.clip(255.5 - absorbed, 0, 255).astype(np.uint8)  # (C, 256)
    return np.stack([table[channel] for table, channel in zip(tables, channels, strict=True)], axis=-3)
