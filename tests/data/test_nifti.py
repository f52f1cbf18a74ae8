"""NIfTI: which slice, which way up, how bright, and what is said of files that cannot be read."""

import logging
import sys

import numpy as np
import pytest

from mdnet.data.images import decode_image, load_image
from mdnet.errors import ImageError

nibabel = pytest.importorskip("nibabel", reason="the extra nifti is not installed")

PATIENT = "Doe^Jane"
# Corners of the middle slice: 0 back left, 1 back right, 2 front left, 3 front right of the patient.
BACK_LEFT, BACK_RIGHT, FRONT_LEFT, FRONT_RIGHT = 0.0, 100.0, 200.0, 250.0


def volume():
    """(right, front, up): a slice of corners in the middle of noise."""
    values = np.random.default_rng(0).uniform(0, 999, (2, 2, 5)).astype(np.float32)
    values[:, :, 2] = [[BACK_LEFT, FRONT_LEFT], [BACK_RIGHT, FRONT_RIGHT]]
    return values


def save(path, values, affine=None, name=PATIENT):
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header["descrip"] = name
    image.header["db_name"] = name
    image.to_filename(path)
    return path


def grey(path):
    pixels = load_image(path)
    np.testing.assert_array_equal(pixels[..., :1].repeat(3, axis=-1), pixels)
    return pixels[..., 0]


def expected(values):
    low, high = np.percentile(values, [0.5, 99.5])
    return np.round(np.clip((np.asarray(values) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


SLICE = expected([[FRONT_RIGHT, FRONT_LEFT], [BACK_RIGHT, BACK_LEFT]])  # the patient's right is on the left


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_middle_axial_slice_lies_as_a_radiologist_looks_at_it(tmp_path, suffix, caplog):
    path = save(tmp_path / f"a{suffix}", volume())
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(grey(path), SLICE)
        load_image(path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: 5 axial slices; the middle one is used"
    ]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_the_files_own_axes_do_not_matter(tmp_path, axes, signs):
    values = volume().transpose(axes)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[world, axis] = 3.0 * sign
        affine[(world + 1) % 3, axis] = 0.2  # a scanner is seldom quite straight
        values = np.flip(values, axis) if sign < 0 else values
    np.testing.assert_array_equal(grey(save(tmp_path / "a.nii", values, affine)), SLICE)


def test_the_second_version_of_the_format_is_read_too(tmp_path):
    nibabel.Nifti2Image(volume(), np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(grey(tmp_path / "a.nii.gz"), SLICE)


def test_a_single_slice_and_integers_with_their_slope(tmp_path, caplog):
    values = np.random.default_rng(1).integers(-1000, 2000, (6, 4)).astype(np.int16)
    for shape in ((6, 4), (6, 4, 1), (6, 4, 1, 1)):
        path = save(tmp_path / "a.nii", values.reshape(shape))
        np.testing.assert_array_equal(grey(path), expected(values)[::-1, ::-1].T)
    image = nibabel.Nifti1Image(values[..., None], np.eye(4))
    image.header.set_slope_inter(2.0, -50.0)
    image.to_filename(tmp_path / "b.nii")
    np.testing.assert_array_equal(grey(tmp_path / "b.nii"), expected(values)[::-1, ::-1].T)
    assert not caplog.records


def test_of_several_volumes_the_first_is_used(tmp_path, caplog):
    path = save(tmp_path / "a.nii", np.stack([volume(), volume() * 0 + 9], axis=-1))
    np.testing.assert_array_equal(grey(path), SLICE)
    assert "2 volumes of 5 axial slices; the middle one is used" in caplog.text


def test_colours_are_kept(tmp_path):
    rgb = np.random.default_rng(2).integers(0, 256, (5, 4, 1, 3), dtype=np.uint8)
    packed = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    image = decode_image(save(tmp_path / "a.nii", packed))
    np.testing.assert_array_equal(image.pixels, rgb[::-1, ::-1, 0].transpose(1, 0, 2))
    assert image.kind == "colour, 8 bits"


def test_values_that_are_no_numbers_are_black_or_white_and_the_kind_is_named(tmp_path):
    values = np.arange(300.0, dtype=np.float32).reshape(20, 15, 1)
    values[0, 0, 0], values[1, 1, 0], values[2, 2, 0] = np.nan, np.inf, -np.inf
    image = decode_image(save(tmp_path / "a.nii", values))
    assert image.kind == "grey, NIfTI, scaled between its percentiles"
    turned = image.pixels[..., 0].T[::-1, ::-1]
    assert (turned[0, 0], turned[1, 1], turned[2, 2]) == (0, 255, 0)
    flat = load_image(save(tmp_path / "b.nii", np.full((3, 3, 1), 7, np.int16)))
    assert (flat == 0).all()


def failure(path, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(ImageError) as caught:
        load_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "Doe" not in message + caplog.text
    return message


def test_damage_is_one_line_and_names_no_patient(tmp_path, caplog):
    whole = save(tmp_path / "a.nii", volume()).read_bytes()
    (tmp_path / "words.nii").write_bytes(b"words " * 100)
    (tmp_path / "short.nii").write_bytes(whole[:-40])
    (tmp_path / "words.nii.gz").write_bytes(b"words " * 100)
    (tmp_path / "short.nii.gz").write_bytes(save(tmp_path / "b.nii.gz", volume()).read_bytes()[:-40])
    for name in ("words.nii", "short.nii", "words.nii.gz", "short.nii.gz"):
        assert "no NIfTI file, or a damaged one" in failure(tmp_path / name, caplog)
    assert "no voxel" in failure(save(tmp_path / "c.nii", np.full((2, 2, 1), np.nan, np.float32)), caplog)
    (tmp_path / "empty.nii").write_bytes(b"")
    assert "the file is empty" in failure(tmp_path / "empty.nii", caplog)


def test_random_damage_is_always_an_image_error(tmp_path, caplog):
    rng = np.random.default_rng(5)
    path = save(tmp_path / "a.nii", volume())
    whole, messages = path.read_bytes(), []
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, 348, 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert load_image(path).dtype == np.uint8
        except ImageError as error:
            messages.append(str(error))
    assert messages
    assert not any("Doe" in message for message in messages)
    assert not [record for record in caplog.records if record.name.startswith("nibabel")]


def test_without_nibabel_the_extra_is_named(tmp_path, monkeypatch, caplog):
    path = save(tmp_path / "a.nii", volume())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    assert "nibabel is not installed; pip install 'mdnet[nifti]'" in failure(path, caplog)
