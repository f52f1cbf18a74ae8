"""What Pillow loses of 16-bit files on its way, and how to get it back from Pillow itself.

Pillow has no mode for colour of more than 8 bits: it reads such a file and keeps the upper byte of each
value. Read in the opposite byte order, the "upper" byte that it keeps is the lower one. And of compressed
big-endian TIFF, signed or floating, it swaps bytes that libtiff has swapped already; and TIFF whose 0 is
white it inverts only up to 8 bits.

All of it must be done to an image that is opened and not yet loaded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    TiffImageFile,
)

__all__ = [
    "has_separate_deep_planes", "is_deep_colour", "is_inverted_grey", "keep_lower_bytes", "mend_byte_order",
]  # fmt: skip

_DEEP = re.compile(r"(RGB|RGBX|RGBA);16([BLN])")
_OPPOSITE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_NATIVE = {"I;16BS": "I;16NS", "I;32B": "I;32N", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
_SEPARATE, _WHITE_IS_ZERO = 2, 0


def is_deep_colour(image: Image.Image) -> bool:
    """Whether the file holds colours of 16 bits."""
    return any(_DEEP.fullmatch(_raw_mode(tile)) for tile in getattr(image, "tile", ()))


def keep_lower_bytes(image: Image.Image) -> None:
    """Makes Pillow keep the lower byte of 16-bit colours in place of the upper one."""

    def opposite(mode: str) -> str:
        found = _DEEP.fullmatch(mode)
        return f"{found[1]};16{_OPPOSITE[found[2]]}" if found else mode

    _replace_raw_modes(image, opposite)


def mend_byte_order(image: Image.Image) -> None:
    """Makes Pillow take what libtiff decodes for what it is: in this machine's byte order."""
    if any(tile.codec_name == "libtiff" for tile in getattr(image, "tile", ())):
        _replace_raw_modes(image, lambda mode: _NATIVE.get(mode, mode))


def has_separate_deep_planes(image: Image.Image) -> bool:
    """Whether the file is a TIFF of more than 8 bits with a plane a channel, which Pillow reads wrongly."""
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(PLANAR_CONFIGURATION) != _SEPARATE:
        return False
    bits = image.tag_v2.get(BITSPERSAMPLE, (1,))
    return len(bits) > 1 and max(bits) > 8


def is_inverted_grey(image: Image.Image) -> bool:
    """Whether the file is a TIFF of more than 8 bits in which 0 is white."""
    return (
        isinstance(image, TiffImageFile)
        and image.mode[0] in "IF"
        and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
    )


def _raw_mode(tile: ImageFile._Tile) -> str:
    """How the decoder is told that the file's values lie: its first argument, or its only one."""
    first = tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]
    return first if isinstance(first, str) else ""


def _replace_raw_modes(image: Image.Image, replaced: Callable[[str], str]) -> None:
    assert isinstance(image, ImageFile.ImageFile)
    for place, tile in enumerate(image.tile):
        mode = replaced(_raw_mode(tile))
        if isinstance(tile.args, str):
            image.tile[place] = tile._replace(args=mode)
        elif tile.args:
            image.tile[place] = tile._replace(args=(mode, *tile.args[1:]))
