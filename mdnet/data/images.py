"""Images and masks from files: anything that a user may have becomes (H, W, 3) uint8 RGB.

What is settled here, once, for training, check and `Predictor`:

- palette, CMYK, 1-bit, YCbCr and grey become RGB; transparency is laid over white;
- the camera's EXIF orientation is applied;
- of an animation or a stack the first frame is taken, and a warning logged;
- values of more than 8 bits, grey or colour, are divided by the range of the smallest even bit depth
  that holds them (12-bit data in a 16-bit file by 4095), so that images of one device keep their
  brightness relative to each other; floats in 0..1 are multiplied by 255; negative values, and
  anything beyond 16 bits, are scaled from the image's own least to its greatest value;
- DICOM is read in mdnet/data/dicom.py, NIfTI in mdnet/data/nifti.py.

What an image was before it became 8-bit, its kind, is given beside it (`decode_image`), so that a
model can be asked whether it was trained on such.

Everything that cannot be decoded is an `ImageError` of one line: the file, the problem, the mend.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from mdnet.data import sixteen_bit
from mdnet.data.quiet import Quiet
from mdnet.data.shard_index import read_member
from mdnet.errors import ConfigurationError, ImageError

__all__ = [
    "EIGHT_BITS", "OWN_RANGE", "SUFFIXES", "DecodedImage", "as_decoded", "as_image", "decode_image",
    "is_grey", "load_image", "load_mask", "scale_to_uint8", "warn_of_frames",
]  # fmt: skip

ImageArray = npt.NDArray[np.uint8]
MaskArray = npt.NDArray[np.bool_]

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".dcm", ".dicom", ".nii",
    ".nii.gz",
)  # fmt: skip
"""Endings of file names by which images are found in a folder: `path.name.lower().endswith(SUFFIXES)`."""

# Pillow's other formats are left out: some of them start other programs (EPS starts Ghostscript).
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
_READABLE = "PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, DICOM or NIfTI"
_COPY_AGAIN = "copy it again from its source, or take it out of the data"
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {  # EXIF 2.32, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on damaged files.
_DAMAGE = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, SyntaxError, TypeError,
    ValueError, struct.error, zlib.error,
)  # fmt: skip

EIGHT_BITS = "8 bits"
OWN_RANGE = "scaled from its least to its greatest value"
_LEAST_CHROMA = 3.0  # mean distance of the greatest from the least channel, of 255

_logger = logging.getLogger(__name__)
_quiet = Quiet(r"PIL\.", errors=Image.DecompressionBombWarning)


class DecodedImage(NamedTuple):
    """An image, and what it was.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        scale: What its values were, or how they were brought to 0..255; None where nobody knows, as of an
            array.
    """

    pixels: ImageArray
    scale: str | None

    @property
    def kind(self) -> str | None:
        """Colour and scale in words: "grey, 12 bits"; None where nobody knows the scale."""
        if self.scale is None:
            return None
        return f"{'grey' if is_grey(self.pixels) else 'colour'}, {self.scale}"


def decode_image(path: str | PathLike[str]) -> DecodedImage:
    """The image in a file, with its kind.

    Raises:
        ImageError: The file is missing, empty, no image, damaged, of 0 pixels, or larger than
            `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    path = Path(path)
    with _opened(path) as file:
        if _is_dicom(path, file):
            from mdnet.data.dicom import read_dicom

            return DecodedImage(*read_dicom(file, path))
        if path.name.lower().endswith((".nii", ".nii.gz")):
            from mdnet.data.nifti import read_nifti

            return DecodedImage(*read_nifti(file, path))
        image, deep, inverted = _decoded(file, path)
        if deep:
            file.seek(0)
            lower = _decoded(file, path, lower_bytes=True).image
            return DecodedImage(*_deep_to_rgb(image, lower, path))
        if image.mode[0] in "IF":
            grey, scale = scale_to_uint8(np.asarray(image), path)
            return DecodedImage(_grey_as_rgb(255 - grey if inverted else grey), scale)
        return DecodedImage(_to_rgb(image, path), EIGHT_BITS)


def load_image(path: str | PathLike[str]) -> ImageArray:
    """The image in a file, as (H, W, 3) uint8 RGB; raises as `decode_image`."""
    return decode_image(path).pixels


def load_mask(path: str | PathLike[str], size: tuple[int, int] | None = None) -> MaskArray:
    """The mask in a file, as (H, W) bool: true where the file is not zero.

    A palette image counts by its index. Of an image with transparency, what is wholly transparent
    is outside.

    Args:
        path: PNG, or any other image file.
        size: (rows, columns) to which the mask is brought, by nearest neighbour.
    """
    path = Path(path)
    with _opened(path) as file:
        image = _decoded(file, path).image
        if image.mode in ("LA", "PA", "RGBA"):
            colour = np.asarray(image.convert("RGBA"))
            inside = colour[..., :3].any(axis=-1) & (colour[..., 3] > 0)
        else:
            values = np.asarray(image)
            inside = values != 0 if values.ndim == 2 else (values != 0).any(axis=-1)
    if size is not None and inside.shape != tuple(size):
        rows, columns = size
        resized = Image.fromarray(inside).resize((columns, rows), Image.Resampling.NEAREST)
        inside = np.asarray(resized)
    return np.ascontiguousarray(inside)


def as_image(source: str | PathLike[str] | Image.Image | npt.NDArray[Any]) -> ImageArray:
    """A path, a PIL image or a uint8 array, as (H, W, 3) uint8 RGB.

    Args:
        source: An array is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 in 0..255; a fourth
            channel is transparency, laid over white.

    Raises:
        ConfigurationError: The array's type or shape leaves open what it means.
        ImageError: As `decode_image`.
    """
    return as_decoded(source).pixels


def as_decoded(source: str | PathLike[str] | Image.Image | npt.NDArray[Any]) -> DecodedImage:
    """As `as_image`, with the kind where `source` is a path."""
    if isinstance(source, str | PathLike):
        return decode_image(source)
    return DecodedImage(_as_rgb(source), None)


def is_grey(pixels: ImageArray) -> bool:
    """Whether an image (H, W, 3) uint8 shows grey values, but for a small mark or the noise of a JPEG."""
    step = max(1, min(pixels.shape[:2]) // 256)
    sample = pixels[::step, ::step].astype(np.int16)
    return float((sample.max(axis=-1) - sample.min(axis=-1)).mean()) < _LEAST_CHROMA


def _as_rgb(source: Image.Image | npt.NDArray[Any]) -> ImageArray:
    """A PIL image or a uint8 array, as (H, W, 3) uint8 RGB."""
    if isinstance(source, Image.Image):
        if 0 in source.size:
            raise ConfigurationError(f"the PIL image has size {source.size}: give one with pixels")
        try:
            with _quiet:
                source.load()
        except _DAMAGE as error:
            raise ImageError(_name_of(source), f"damaged image ({_reason(error)})", _COPY_AGAIN) from error
        upright = _upright(source)
        if upright.mode[0] in "IF":
            return _grey_as_rgb(scale_to_uint8(np.asarray(upright), _name_of(source))[0])
        return _to_rgb(upright, _name_of(source))
    if not isinstance(source, np.ndarray):
        raise ConfigurationError(
            f"an image is a path, a PIL image or a uint8 array, not {type(source).__name__}: convert it first"
        )
    found = f"the image array is {source.dtype} of shape {source.shape}"
    if source.dtype != np.uint8:
        mend = "give uint8 in 0..255"
        if np.issubdtype(source.dtype, np.floating):
            mend += "; from values in 0..1: (array * 255).round().astype('uint8')"
        raise ConfigurationError(f"{found}: {mend}")
    if source.ndim == 3 and source.shape[0] in (1, 3, 4) and source.shape[2] not in (1, 3, 4):
        raise ConfigurationError(f"{found}: channels come last, so give np.moveaxis(array, 0, -1)")
    if (
        source.ndim not in (2, 3)
        or (source.ndim == 3 and source.shape[2] not in (1, 3, 4))
        or source.size == 0
    ):
        raise ConfigurationError(
            f"{found}: give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), at least one pixel"
        )
    if source.ndim == 3 and source.shape[2] == 4:
        return _to_rgb(Image.fromarray(np.ascontiguousarray(source)), "the image array")
    return _grey_as_rgb(source) if source.ndim == 2 or source.shape[2] == 1 else np.ascontiguousarray(source)


def scale_to_uint8(values: npt.NDArray[Any], where: str | PathLike[str]) -> tuple[ImageArray, str]:
    """Values of any type and shape as uint8, and how; the rule stands at the head of this module."""
    scale = OWN_RANGE
    if np.issubdtype(values.dtype, np.floating):
        finite = np.isfinite(values)
        if not finite.any():
            raise ImageError(where, "no pixel is a finite number", "write the image again, or take it out")
        low, high = float(values[finite].min()), float(values[finite].max())
        values = np.where(finite, values, low)
        if low >= 0.0 and high <= 1.0:
            low, high, scale = 0.0, 1.0, "floats in 0..1"
    else:
        low, high = int(values.min()), int(values.max())
        if low >= 0 and high <= 0xFFFF:
            bits = max(8, high.bit_length() + high.bit_length() % 2)
            low, high, scale = 0, 2**bits - 1, f"{bits} bits"
    factor = 255.0 / (high - low) if high > low else 0.0
    return np.round((values.astype(np.float64) - low) * factor).astype(np.uint8), scale


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open; every way of not being a file with content is an `ImageError`."""
    try:
        file: BinaryIO = path.open("rb")
    except NotADirectoryError:  # what should be a folder may be a shard
        file = io.BytesIO(read_member(path))
    except FileNotFoundError:
        raise ImageError(path, "no such file", "correct the path, or take it out of the data") from None
    except IsADirectoryError:
        raise ImageError(path, "a folder, not an image", "name the images in it") from None
    except OSError as error:
        raise ImageError(
            path, f"cannot be opened ({error.strerror})", "check path and permissions"
        ) from error
    with file:
        if not file.read(1):
            raise ImageError(path, "the file is empty", _COPY_AGAIN)
        file.seek(0)
        yield file


def _is_dicom(path: Path, file: BinaryIO) -> bool:
    head = file.read(132)
    file.seek(0)
    return head[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")


class _Frame(NamedTuple):
    """A decoded frame, upright, in the mode that the file has.

    `deep`: of 16-bit colours `image` holds the upper bytes alone, or the lower. `inverted`: 0 is white.
    """

    image: Image.Image
    deep: bool
    inverted: bool


def _decoded(file: BinaryIO, path: Path, *, lower_bytes: bool = False) -> _Frame:
    """The first frame of a file."""
    try:
        with _quiet:
            image: Image.Image = Image.open(file, formats=_FORMATS)
            frames = getattr(image, "n_frames", 1)
            separate = sixteen_bit.has_separate_deep_planes(image)
            deep, inverted = sixteen_bit.is_deep_colour(image), sixteen_bit.is_inverted_grey(image)
            sixteen_bit.mend_byte_order(image)
            if lower_bytes:
                sixteen_bit.keep_lower_bytes(image)
            image.load()
            upright = _upright(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            path,
            f"more than {Image.MAX_IMAGE_PIXELS} pixels",
            "cut it into tiles or scale it down (or raise PIL.Image.MAX_IMAGE_PIXELS)",
        ) from None
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(1 << 16)
        if _declares_no_pixels(head):
            raise ImageError(path, "an image of 0 pixels", _COPY_AGAIN) from None
        if head.startswith(_TIFF_MARKS):
            raise ImageError(
                path,
                "a kind of TIFF that cannot be read, or a damaged one",
                "save it in 8 or 16 bits, or as 32-bit floats",
            ) from None
        raise ImageError(path, "not an image, or a damaged one", f"give {_READABLE}") from None
    except _DAMAGE as error:
        raise ImageError(path, f"damaged image ({_reason(error)})", _COPY_AGAIN) from error
    if separate:
        raise ImageError(
            path,
            "a TIFF of more than 8 bits with its colours in separate planes",
            "save it with the colours of a pixel side by side (planar configuration 1)",
        )
    if frames > 1 and image.format != "MPO":  # MPO: a photograph with its preview
        warn_of_frames(str(path), frames)
    return _Frame(upright, deep, inverted)


@lru_cache(maxsize=4096)
def warn_of_frames(name: str, frames: int) -> None:
    """Once a file, so that an epoch does not repeat it."""
    _logger.warning("%s: %d frames; the first is used", name, frames)


def _reason(error: BaseException) -> str:
    """Pillow's words on one line, without the file object that they may name."""
    text = re.sub(r"<.*?>", "", str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _declares_no_pixels(head: bytes) -> bool:
    """Whether a header says that the image has no row or no column (Pillow only says "unknown")."""
    if head.startswith(b"\x89PNG") and len(head) >= 24:
        return 0 in struct.unpack(">II", head[16:24])
    if head.startswith(b"BM") and len(head) >= 26:
        return 0 in struct.unpack("<ii", head[18:26])
    frame = re.search(rb"\xff[\xc0-\xc2]..[\x08\x0c](..)(..)", head, re.DOTALL)
    return head.startswith(b"\xff\xd8") and frame is not None and b"\0\0" in frame.groups()


def _upright(image: Image.Image) -> Image.Image:
    """The image with the camera's orientation applied; a broken EXIF block counts as none."""
    try:
        with _quiet:
            orientation = image.getexif().get(_ORIENTATION_TAG)
    except _DAMAGE:
        _logger.debug("unreadable EXIF block in %s", _name_of(image))
        return image
    method = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _name_of(image: Image.Image) -> str:
    return str(getattr(image, "filename", "") or "the PIL image")


def _deep_to_rgb(upper: Image.Image, lower: Image.Image, where: Path) -> tuple[ImageArray, str]:
    """16-bit colours, given by their bytes, as (H, W, 3) uint8, and their scale."""
    values = np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower)  # (H, W, 3 or 4)
    rgb, scale = scale_to_uint8(values[..., :3], where)
    if values.shape[-1] == 3:
        return rgb, scale
    alpha, _ = scale_to_uint8(values[..., 3:], where)
    return _to_rgb(Image.fromarray(np.concatenate([rgb, alpha], axis=-1)), where), scale


def _to_rgb(image: Image.Image, where: str | PathLike[str]) -> ImageArray:
    """A decoded image of one of Pillow's 8-bit modes as (H, W, 3) uint8."""
    try:
        if image.mode == "La":
            image = image.convert("LA")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.array(image.convert("RGB"))
    except ValueError as error:  # LAB has no conversion without a colour profile
        raise ImageError(where, f"colour mode {image.mode} is not supported", "save it as RGB") from error


def _grey_as_rgb(grey: npt.NDArray[np.uint8]) -> ImageArray:
    """(H, W) or (H, W, 1) as (H, W, 3), the channels equal."""
    grey = grey.reshape(grey.shape[0], grey.shape[1], 1)
    return np.repeat(grey, 3, axis=-1)
