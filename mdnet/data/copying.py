"""What becomes of an image file in another layout: it is copied as it is, or its pixels are written as PNG.

A DICOM or NIfTI file may name a patient in its header, so it is never copied, whatever it is called.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy.typing as npt
from PIL import Image

from mdnet.data.shard_index import read_file

__all__ = ["as_png", "copied_suffix", "head_of"]

_BEGINNINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}  # of files without such an ending
_DICOM = slice(128, 132)


def head_of(path: Path) -> bytes:
    """As much of a file, or of a member of a shard, as `copied_suffix` looks at."""
    try:
        with path.open("rb") as file:
            return file.read(_DICOM.stop)
    except NotADirectoryError:
        return read_file(path)[: _DICOM.stop]


def copied_suffix(path: Path, head: bytes, suffixes: Collection[str]) -> str | None:
    """The ending under which a file is copied as it is; None if its pixels are to be written.

    Args:
        path: Its name.
        head: Its beginning, as `head_of` gives it, or all of it.
        suffixes: Of the files that may be copied.
    """
    if head[_DICOM] == b"DICM":
        return None
    if path.suffix.lower() in suffixes:
        return path.suffix.lower()
    return next((suffix for mark, suffix in _BEGINNINGS.items() if head.startswith(mark)), None)


def as_png(pixels: npt.NDArray[Any]) -> bytes:
    """An image (H, W, 3) or mask (H, W) as a PNG file; of three equal channels one is written."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
