"""NIfTI volumes as pictures: the middle axial slice, (H, W, 3) uint8 RGB. Needs the extra `nifti` (nibabel).

The slice lies as a radiologist looks at it, whatever the file's own axes: the patient's front on top and
the patient's right on the left. Its grey values are those between the 0.5th and the 99.5th percentile of
the slice, from black to white; a file that holds colours keeps them. A file with one slice gives that one.

As of DICOM, no text of the header, and none of nibabel's messages about it, reaches an error or a log.
"""

from __future__ import annotations

import gzip
import io
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from mdnet.data.quiet import Quiet
from mdnet.errors import ImageError

__all__ = ["read_nifti"]

_PERCENTILES = (0.5, 99.5)
_RIGHT, _FRONT, _UP = range(3)  # of the world's axes, which point to the right, the front and up (RAS+)
_NIFTI_2 = 540  # size of its header in bytes, the first number in the file
_COPY_AGAIN = "copy it again from its source, or take it out of the data"
_logger = logging.getLogger(__name__)
_quiet = Quiet("", logger="nibabel.global")


def read_nifti(file: BinaryIO, path: Path) -> tuple[npt.NDArray[np.uint8], str]:
    """The middle axial slice of a volume as (H, W, 3) uint8, and how its values were scaled.

    Args:
        file: `.nii` or `.nii.gz`, open for reading; of several volumes in it the first is taken.
        path: Its name, for messages.

    Raises:
        ImageError: nibabel is not installed, or the file is no NIfTI, damaged, or without a finite value.
    """
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise ImageError(
            path, "a NIfTI file, and nibabel is not installed", "pip install 'mdnet[nifti]'"
        ) from None
    with _quiet:
        try:
            values, slices, volumes = _middle_slice(_opened(file), path)
        except ImageError:
            raise
        # Of nibabel, of whatever kind: it may quote the header, so it is not passed on.
        except Exception:  # noqa: BLE001
            raise ImageError(path, "no NIfTI file, or a damaged one", _COPY_AGAIN) from None
    if slices * volumes > 1:
        _say_slice(str(path), slices, volumes)
    if values.ndim == 3:
        return np.ascontiguousarray(values, dtype=np.uint8), "8 bits"
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ImageError(path, "no voxel of the slice is a finite number", _COPY_AGAIN)
    low, high = np.percentile(finite, _PERCENTILES)
    shares = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    grey = np.round(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), "NIfTI, scaled between its percentiles"


def _opened(file: BinaryIO) -> Any:
    """The volume, its header read."""
    import nibabel

    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    # unpacked whole, though a part would do: the check sum stands at the end
    stream: Any = io.BytesIO(gzip.decompress(file.read())) if packed else file
    head = stream.read(4)
    stream.seek(0)
    second = _NIFTI_2 in (int.from_bytes(head, "little"), int.from_bytes(head, "big"))
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(stream)


def _middle_slice(volume: Any, path: Path) -> tuple[npt.NDArray[Any], int, int]:
    """The slice (rows, columns) or, in colour, (rows, columns, 3); slices a volume; volumes."""
    import nibabel

    shape = (*volume.shape, 1, 1)[:3] if volume.ndim < 3 else volume.shape
    if 0 in shape or len(shape) < 3:
        raise ImageError(path, "an image of 0 pixels", _COPY_AGAIN)
    # Of each axis of the file: the world's axis that it follows, and 1 or -1.
    orientation = nibabel.io_orientation(volume.affine)
    if np.isnan(orientation).any():
        raise ImageError(path, "an affine matrix without three axes", _COPY_AGAIN)
    world = orientation[:, 0].astype(int).tolist()
    up = world.index(_UP)
    slices, volumes = shape[up], int(np.prod(shape[3:]))
    sides = [side for axis, side in enumerate(shape[:3]) if axis != up]
    if Image.MAX_IMAGE_PIXELS is not None and sides[0] * sides[1] > Image.MAX_IMAGE_PIXELS:
        raise ImageError(path, f"more than {Image.MAX_IMAGE_PIXELS} pixels", "scale it down")

    place: list[Any] = [slice(None)] * min(3, volume.ndim) + [0] * (volume.ndim - 3)
    if up < volume.ndim:
        # of an even number of slices, the upper one of the middle two
        place[up] = slices // 2 if orientation[up, 1] > 0 else (slices - 1) // 2
    values = np.asarray(volume.dataobj[tuple(place)])
    if volume.ndim < 3:
        values = values.reshape([side for axis, side in enumerate(shape) if axis != up])
    if values.dtype.names:  # colours are a structured type
        values = np.stack([values[name] for name in values.dtype.names[:3]], axis=-1)
    else:
        values = values.astype(np.float64)
    first, second = [axis for axis in range(3) if axis != up]
    if world[first] == _RIGHT:  # the file's first remaining axis runs along the columns
        values, first, second = values.swapaxes(0, 1), second, first
    # rows run from the front backwards, columns from the patient's right to the left
    return values[:: -int(orientation[first, 1]), :: -int(orientation[second, 1])], slices, volumes


@lru_cache(maxsize=4096)
def _say_slice(name: str, slices: int, volumes: int) -> None:
    """Once a file, so that an epoch does not repeat it."""
    of_volumes = f"{volumes} volumes of " if volumes > 1 else ""
    _logger.warning("%s: %s%d axial slices; the middle one is used", name, of_volumes, slices)
