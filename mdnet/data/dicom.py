"""DICOM images as pictures: (H, W, 3) uint8 RGB, as a viewer would first show them.

The grey pipeline of the standard (PS3.3, C.7.6.3.1.2, C.11.1, C.11.2): stored value -> modality LUT
or rescale -> VOI LUT or window (the first one) -> 0..255; MONOCHROME1 is inverted. Without a window,
8-bit values are kept as they are, and others are scaled from the image's least to its greatest, padding
(PS3.3, C.7.5.1.1.2) left out.

A header names people. So no text of it, and none of pydicom's messages about it, reaches an error,
a warning or a log: only the file's name and the standard's own words do.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from mdnet.data.images import EIGHT_BITS, OWN_RANGE, scale_to_uint8, warn_of_frames
from mdnet.data.quiet import Quiet
from mdnet.errors import ImageError

__all__ = ["read_dicom"]

_COPY_AGAIN = "copy it again from its source, or take it out of the data"
_quiet = Quiet("", logger="pydicom")


def read_dicom(file: BinaryIO, path: str | PathLike[str]) -> tuple[npt.NDArray[np.uint8], str]:
    """The first frame of a DICOM file, as (H, W, 3) uint8 RGB, and how its values were scaled.

    Args:
        file: The file, open for reading.
        path: Its name, for messages.

    Raises:
        ImageError: No DICOM file, no pixel data, a transfer syntax that cannot be decoded, or damage.
    """
    with _quiet:
        try:
            return _read(file, Path(path))
        except ImageError:
            raise
        # Of pydicom or a decoder, of whatever kind: it may quote the header, so it is not passed on.
        except Exception:  # noqa: BLE001
            raise ImageError(path, "damaged DICOM file", _COPY_AGAIN) from None


def _read(file: BinaryIO, path: Path) -> tuple[npt.NDArray[np.uint8], str]:
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels.utils import pixel_array

    try:
        dataset = pydicom.dcmread(file)
    except InvalidDicomError:
        raise ImageError(
            path, "not a DICOM file (it lacks the DICM mark)", "write it again as DICOM"
        ) from None
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError(path, "a DICOM file without pixel data", "give the image object of the series")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows * columns == 0:
        raise ImageError(path, "an image of 0 pixels", _COPY_AGAIN)
    if Image.MAX_IMAGE_PIXELS is not None and rows * columns > Image.MAX_IMAGE_PIXELS:
        raise ImageError(
            path, f"more than {Image.MAX_IMAGE_PIXELS} pixels", "cut it into tiles or scale it down"
        )
    _require_decoder(dataset, path)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        warn_of_frames(str(path), frames)

    values = pixel_array(dataset, index=0)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        values = apply_color_lut(values, dataset)
    if values.ndim == 3:  # (H, W, 3), RGB: pixel_array has converted YBR
        colours, scale = scale_to_uint8(values[..., :3], path)
        return np.ascontiguousarray(colours), scale
    grey, scale = _grey(values, dataset)
    return np.repeat(grey[..., None], 3, axis=-1), scale


def _require_decoder(dataset: Any, path: Path) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        available = not syntax.is_compressed or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):  # a syntax that pydicom does not know at all
        available = False
    if not available:
        name = f" {syntax.name!r}" if syntax.is_transfer_syntax else ""
        raise ImageError(
            path,
            f"the DICOM transfer syntax{name} cannot be decoded here",
            "pip install 'pylibjpeg[all]', or save it uncompressed (Explicit VR Little Endian)",
        )


def _grey(values: npt.NDArray[Any], dataset: Any) -> tuple[npt.NDArray[np.uint8], str]:
    """Stored values (H, W) through modality LUT and VOI LUT to 0..255, and how."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing

    rescaled = apply_modality_lut(values, dataset)
    scale = f"{int(dataset.BitsStored)} bits, DICOM window"
    if dataset.get("VOILUTSequence"):
        shown = apply_voi_lut(rescaled, dataset)
        low, high = 0.0, 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif _has_window(dataset):
        shown = apply_windowing(rescaled, dataset)
        with np.errstate(over="ignore"):  # the window's own ends: what it gives far below and far above
            low, high = (float(end) for end in apply_windowing(np.array([-1e12, 1e12]), dataset))
    elif values.dtype == np.uint8:
        shown, low, high, scale = values, 0.0, 255.0, EIGHT_BITS
    else:
        shown, scale = rescaled, OWN_RANGE
        tissue = rescaled[~_is_padding(values, dataset)]
        low, high = (float(tissue.min()), float(tissue.max())) if tissue.size else (0.0, 0.0)
    grey = _scaled(shown, low, high)
    return (255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey), scale


def _has_window(dataset: Any) -> bool:
    """Whether there is a window; some writers leave its numbers empty."""
    return all(dataset.get(name) not in (None, "", []) for name in ("WindowCenter", "WindowWidth"))


def _is_padding(values: npt.NDArray[Any], dataset: Any) -> npt.NDArray[np.bool_]:
    """Where stored values stand for no measurement: those from the padding value to its limit."""
    ends = [dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    given = [int(end) for end in ends if end is not None]
    if not given or ends[0] is None:
        return np.zeros(values.shape, bool)
    return (values >= min(given)) & (values <= max(given))


def _scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    scale = 255.0 / (high - low) if high != low else 0.0
    return np.round(np.clip((values.astype(np.float64) - low) * scale, 0.0, 255.0)).astype(np.uint8)
