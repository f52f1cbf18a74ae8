"""Files of 16 bits and more, written here byte by byte: read as they are, or an error says why not."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mdnet.data.images import OWN_RANGE, decode_image, load_image
from mdnet.errors import ImageError

VALUES = np.random.default_rng(0).integers(0, 4096, (7, 10))
RGB = np.random.default_rng(1).integers(0, 4096, (7, 10, 3))


def write_tiff(path, values, *, order="<", compress=False, photometric=None, separate=False):
    """A TIFF 6.0 file of one strip (of one a channel if `separate`): values (H, W) or (H, W, C)."""
    rows, columns = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    planes = [values] if not separate else [values[..., channel] for channel in range(channels)]
    strips = [plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if compress else strips
    tags = {  # number: (type, values); type 3 is of 16 bits, 4 of 32
        256: (3, [columns]),
        257: (3, [rows]),
        258: (3, [values.dtype.itemsize * 8] * channels),
        259: (3, [8 if compress else 1]),
        262: (3, [(1 if channels == 1 else 2) if photometric is None else photometric]),
        273: (4, []),
        277: (3, [channels]),
        278: (3, [rows]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [2 if separate else 1]),
        339: (3, [format] * channels),
    }
    if channels == 4:
        tags[338] = (3, [2])  # the fourth is transparency
    directory = 8 + 2 + 12 * len(tags) + 4
    long = {number: entry for number, entry in tags.items() if len(entry[1]) > 1}
    start = directory + sum(4 * max(2, len(entry[1])) for entry in long.values()) + 64
    offsets = [start + sum(map(len, strips[:place])) for place in range(len(strips))]
    tags[273] = (4, offsets)
    head, behind = b"", b""
    for number, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) > 4:
            packed, behind = struct.pack(f"{order}I", directory + len(behind)), behind + packed
        head += struct.pack(f"{order}HHI", number, kind, len(numbers)) + packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    content = mark + struct.pack(f"{order}IH", 8, len(tags)) + head + b"\0" * 4 + behind
    path.write_bytes(content.ljust(start, b"\0") + b"".join(strips))
    return path


def write_png(path, values):
    """A 16-bit PNG of values (H, W, 3) or (H, W, 4)."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(
        ">IIBBBBB", values.shape[1], values.shape[0], 16, {3: 2, 4: 6}[values.shape[2]], 0, 0, 0
    )
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def divided(values, bits):
    return np.round(values / (2**bits - 1) * 255).astype(np.uint8)


def stretched(values):
    return np.round((values - values.min()) / (values.max() - values.min()) * 255).astype(np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("values", "expected", "kind"),
    [
        (VALUES.astype(np.uint16), divided(VALUES, 12), "grey, 12 bits"),
        (VALUES.astype(np.int16) - 2000, stretched(VALUES), f"grey, {OWN_RANGE}"),
        (VALUES.astype(np.int32) - 2000, stretched(VALUES), f"grey, {OWN_RANGE}"),
        ((VALUES / 4095).astype(np.float32), divided(VALUES, 12), "grey, floats in 0..1"),
        (RGB.astype(np.uint16), divided(RGB, 12), "colour, 12 bits"),
        ((RGB * 16).astype(np.uint16), divided(RGB * 16, 16), "colour, 16 bits"),
    ],
)  # fmt: skip
def test_every_kind_of_deep_tiff_is_read_exactly(tmp_path, order, compress, values, expected, kind):
    image = decode_image(write_tiff(tmp_path / "a.tif", values, order=order, compress=compress))
    np.testing.assert_array_equal(
        image.pixels, expected if values.ndim == 3 else expected[..., None].repeat(3, -1)
    )
    assert image.kind == kind


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressions_of_16_bit_grey(tmp_path, compression):
    Image.fromarray(VALUES.astype(np.uint16)).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif")[..., 0], divided(VALUES, 12))


def test_16_bit_colour_of_png_keeps_its_depth(tmp_path):
    image = decode_image(write_png(tmp_path / "a.png", RGB))
    np.testing.assert_array_equal(image.pixels, divided(RGB, 12))
    assert image.kind == "colour, 12 bits"


def test_16_bit_transparency_is_laid_over_white(tmp_path):
    values = np.zeros((1, 3, 4), np.uint16)
    values[0, :, 3] = [0, 65535 // 5, 65535]
    for path in (
        write_png(tmp_path / "a.png", values),
        write_tiff(tmp_path / "a.tif", values),
    ):
        np.testing.assert_array_equal(load_image(path)[0], [[255] * 3, [204] * 3, [0] * 3])


def test_16_bit_colour_is_turned_as_exif_says(tmp_path):
    path = write_png(tmp_path / "a.png", RGB)
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"  # orientation 3
    chunk = b"eXIf" + exif
    whole = path.read_bytes()
    chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(whole[:33] + chunk + whole[33:])
    np.testing.assert_array_equal(load_image(path), divided(RGB, 12)[::-1, ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_0_is_white_it_stays_white(tmp_path, dtype):
    values = VALUES.astype(dtype)
    expected = 255 - (divided(values, 12) if dtype is np.uint16 else values)
    path = write_tiff(tmp_path / "a.tif", values, photometric=0)
    np.testing.assert_array_equal(load_image(path)[..., 0], expected)


@pytest.mark.parametrize("compress", [False, True])
def test_deep_colours_in_separate_planes_are_refused_and_8_bits_are_not(tmp_path, compress):
    path = write_tiff(tmp_path / "a.tif", RGB.astype(np.uint16), separate=True, compress=compress)
    with pytest.raises(ImageError, match="separate planes; save it with the colours of a pixel side by side"):
        load_image(path)
    eight = (RGB // 16).astype(np.uint8)
    path = write_tiff(tmp_path / "b.tif", eight, separate=True, compress=compress)
    np.testing.assert_array_equal(load_image(path), eight)


@pytest.mark.parametrize(
    "values", [VALUES.astype(np.float64), VALUES.astype(np.float16), VALUES.astype(np.uint64)]
)
def test_a_tiff_that_nobody_here_reads_says_how_to_save_it(tmp_path, values):
    with pytest.raises(ImageError, match=r"kind of TIFF that cannot be read.*; save it in 8 or 16 bits"):
        load_image(write_tiff(tmp_path / "a.tif", values))


@pytest.mark.parametrize(
    ("name", "image", "kind"),
    [
        ("a.png", Image.fromarray((RGB // 16).astype(np.uint8)), "colour, 8 bits"),
        ("a.jpg", Image.fromarray((VALUES // 16).astype(np.uint8)).convert("RGB"), "grey, 8 bits"),
        ("a.png", Image.fromarray(VALUES > 2000), "grey, 8 bits"),
        ("a.png", Image.fromarray((VALUES * 4).astype(np.uint16)), "grey, 14 bits"),
    ],
)
def test_kinds_of_common_files(tmp_path, name, image, kind):
    image.save(tmp_path / name)
    assert decode_image(tmp_path / name).kind == kind


def test_a_small_coloured_mark_leaves_an_image_grey(tmp_path):
    pixels = np.full((100, 100, 3), 90, np.uint8)
    pixels[:10, :10] = [255, 0, 0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert decode_image(tmp_path / "a.png").kind == "grey, 8 bits"
