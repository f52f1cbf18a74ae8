"""Images of every kind that users have, and what is said of those that cannot be read."""

import io
import logging
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from mdnet.data.images import as_image, load_image, load_mask
from mdnet.errors import ConfigurationError, ImageError


def picture(rows=6, columns=9, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def save(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_lossless_formats_come_back_bit_for_bit(tmp_path, name):
    array = picture()
    options = {"lossless": True} if name.endswith("webp") else {}
    result = load_image(save(Image.fromarray(array), tmp_path / name, **options))
    np.testing.assert_array_equal(result, array)
    assert result.dtype == np.uint8
    assert result.flags.writeable


def test_jpeg_comes_back_nearly(tmp_path):
    array = np.tile(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (1, 32, 3))
    result = load_image(save(Image.fromarray(array), tmp_path / "a.jpg", quality=95))
    assert np.abs(result.astype(int) - array).max() < 6


def test_the_content_counts_and_not_the_name(tmp_path):
    array = picture()
    Image.fromarray(array).save(tmp_path / "wrong.jpg", format="PNG")
    np.testing.assert_array_equal(load_image(tmp_path / "wrong.jpg"), array)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize(
    ("greatest", "divisor"), [(255, 255), (1000, 1023), (4095, 4095), (4096, 16383), (65535, 65535)]
)
def test_16_bit_grey_is_divided_by_the_least_bit_depth_that_holds_it(tmp_path, name, greatest, divisor):
    array = np.array([[0, greatest // 2], [greatest, 1]], dtype=np.uint16)
    result = load_image(save(Image.fromarray(array), tmp_path / name))
    expected = np.round(array / divisor * 255).astype(np.uint8)
    np.testing.assert_array_equal(result, np.repeat(expected[..., None], 3, axis=-1))


def test_signed_grey_is_scaled_from_its_least_to_its_greatest(tmp_path):
    Image.fromarray(np.array([[-100, 0, 300]], dtype=np.int32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif")[0, :, 0], [0, 64, 255])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.2, 0.4, 0.2], [51, 102, 51]),
        ([-10.0, 0.0, 30.0], [0, 64, 255]),
        ([np.nan, 0.0, 1.0], [0, 0, 255]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
    ],
)
def test_float_tiff(tmp_path, values, expected):
    Image.fromarray(np.array([values], dtype=np.float32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif")[0, :, 0], expected)


def test_a_float_image_without_a_finite_pixel_is_an_error(tmp_path):
    Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="no pixel is a finite number"):
        load_image(tmp_path / "a.tif")


def test_palette_one_bit_and_cmyk(tmp_path):
    rgb = Image.fromarray(picture())
    palette = rgb.quantize(16)
    np.testing.assert_array_equal(
        load_image(save(palette, tmp_path / "p.png")), np.asarray(palette.convert("RGB"))
    )
    bits = Image.fromarray(np.eye(5, dtype=bool))
    np.testing.assert_array_equal(
        load_image(save(bits, tmp_path / "b.png"))[..., 0], np.eye(5, dtype=np.uint8) * 255
    )
    red = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert np.abs(load_image(save(red, tmp_path / "c.jpg", quality=100)).astype(int) - [255, 0, 0]).max() < 4


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = [0, 51, 255]  # black, more and more opaque
    expected = [[255] * 3, [204] * 3, [0] * 3]
    np.testing.assert_array_equal(load_image(save(Image.fromarray(rgba), tmp_path / "a.png"))[0], expected)
    grey = Image.fromarray(rgba[..., [0, 3]])
    assert grey.mode == "LA"
    np.testing.assert_array_equal(load_image(save(grey, tmp_path / "la.png"))[0], expected)
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=bytes([0, 255]))
    np.testing.assert_array_equal(load_image(tmp_path / "p.png")[0], [[255, 255, 255], [40, 50, 60]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = picture(4, 7)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(path), upright)
    with Image.open(path) as image:
        np.testing.assert_array_equal(as_image(image), upright)


def test_a_broken_exif_block_does_not_stop_the_image(tmp_path):
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), array)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tif", "a.png"])
def test_of_several_frames_the_first_is_used_and_one_warning_logged(tmp_path, caplog, name):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("black", "white", "red")]
    options = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    with caplog.at_level(logging.WARNING):
        first, again = load_image(tmp_path / name), load_image(tmp_path / name)
    assert first.max() == again.max() == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / name}: 3 frames; the first is used"
    ]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(columns, rows):
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def encoded(format):
    buffer = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(buffer, format)
    return buffer.getvalue()


def without_rows(data, format):
    if format == "BMP":
        return data[:22] + struct.pack("<i", 0) + data[26:]
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + b"\0\0" + data[frame + 7 :]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"these are words", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image, or a damaged one|damaged image"),
        (encoded("PNG")[:500], "damaged image"),
        (encoded("JPEG")[:900], "damaged image"),
        (encoded("TIFF")[:500], "damaged image"),
        (encoded("BMP")[:500], "damaged image"),
        (encoded("WEBP")[:-200], "damaged"),
        (png_header(0, 5), "an image of 0 pixels"),
        (png_header(5, 0), "an image of 0 pixels"),
        (without_rows(encoded("BMP"), "BMP"), "an image of 0 pixels"),
        (without_rows(encoded("JPEG"), "JPEG"), "an image of 0 pixels"),
        (png_header(10_000, 10_000), "more than 89478485 pixels"),
        (png_header(60_000, 60_000), "more than 89478485 pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n", "not an image"),
    ],
)
def test_what_cannot_be_read_gives_one_line_with_file_problem_and_mend(tmp_path, content, problem):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=problem) as caught:
        load_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.count("; ") >= 1
    assert "\n" not in message
    assert "object at 0x" not in message


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: no such file; correct the path"):
        load_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="a folder, not an image"):
        load_image(tmp_path)


def test_random_damage_is_always_an_image_error(tmp_path):
    rng = np.random.default_rng(5)
    path = tmp_path / "a"
    for format in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"):
        whole = encoded(format)
        for _ in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 400), 6):
                damaged[place] = rng.integers(0, 256)
            path.write_bytes(damaged)
            try:
                result = load_image(path)
            except ImageError:
                continue
            assert result.dtype == np.uint8
            assert result.ndim == 3


def test_as_image_takes_arrays_of_one_three_and_four_channels():
    rgb = picture()
    np.testing.assert_array_equal(as_image(rgb), rgb)
    grey = rgb[..., 0]
    np.testing.assert_array_equal(as_image(grey), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(as_image(grey[..., None]), np.stack([grey] * 3, axis=-1))
    opaque = np.concatenate([rgb, np.full((*grey.shape, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(as_image(opaque), rgb)
    np.testing.assert_array_equal(as_image(rgb[::-1, ::2]), rgb[::-1, ::2])


def test_as_image_takes_paths_and_pil_images(tmp_path):
    rgb = picture()
    path = save(Image.fromarray(rgb), tmp_path / "a.png")
    for source in (path, str(path), Image.fromarray(rgb)):
        np.testing.assert_array_equal(as_image(source), rgb)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3)), r"float64 of shape \(4, 4, 3\).*\(array \* 255\)"),
        (np.zeros((4, 4), dtype=np.uint16), "uint16.*give uint8"),
        (np.zeros((4, 4), dtype=bool), "bool.*give uint8"),
        (np.zeros((3, 8, 8), dtype=np.uint8), r"np\.moveaxis\(array, 0, -1\)"),
        (np.zeros((8, 8, 2), dtype=np.uint8), r"\(8, 8, 2\).*give \(H, W\)"),
        (np.zeros((0, 8, 3), dtype=np.uint8), "at least one pixel"),
        (np.zeros(8, dtype=np.uint8), r"\(8,\)"),
        ([[1, 2]], "not list"),
        (None, "not NoneType"),
        (Image.new("RGB", (0, 4)), r"size \(0, 4\)"),
    ],
)
def test_as_image_says_what_it_takes(source, message):
    with pytest.raises(ConfigurationError, match=message):
        as_image(source)


def test_a_mask_is_true_where_the_file_is_not_zero(tmp_path):
    values = np.array([[0, 1, 255]], dtype=np.uint8)
    expected = [[False, True, True]]
    grey = Image.fromarray(values)
    palette = Image.fromarray(values).convert("P")
    palette.putpalette([9] * 768)  # the index counts, not the colour
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[..., 0] = [[7, 7, 7]]
    rgba[..., 3] = [[0, 9, 255]]
    for image in (
        grey,
        grey.convert("RGB"),
        palette,
        Image.fromarray(values.astype(np.uint16)),
        Image.fromarray(rgba),
    ):
        result = load_mask(save(image, tmp_path / "m.png"))
        assert result.dtype == bool
        np.testing.assert_array_equal(result, expected)
    bits = Image.fromarray(values > 0)
    np.testing.assert_array_equal(load_mask(save(bits, tmp_path / "m.png")), expected)


def test_a_mask_is_brought_to_a_size(tmp_path):
    mask = np.eye(4, dtype=np.uint8) * 255
    path = save(Image.fromarray(mask), tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(path, (8, 4)), np.repeat(np.eye(4, dtype=bool), 2, axis=0))
    with pytest.raises(ImageError, match="no such file"):
        load_mask(tmp_path / "none.png")


def test_many_threads_leave_the_warning_filters_as_they_were(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    path = save(Image.fromarray(picture(40, 40)), tmp_path / "a.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(load_image, [path] * 200))
    assert list(warnings.filters) == before
    assert all(np.array_equal(result, results[0]) for result in results)
