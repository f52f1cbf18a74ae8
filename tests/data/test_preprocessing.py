"""Preprocessing: sizes, normalisation against the formula, saving, the warning for strange images."""

import json

import numpy as np
import pytest
import torch

from mdnet.data.images import DecodedImage
from mdnet.data.preprocessing import FILE_NAME, Intensity, Preprocessing
from mdnet.errors import ConfigurationError, WeightsError


def picture(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "shape"), [(16, (16, 16)), ((8, 20), (8, 20))])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_array_has_the_models_shape(size, shape, mode):
    channels = {"RGB": 3, "L": 1}[mode]
    preprocessing = Preprocessing(size, mode, (0.5,) * channels, (0.2,) * channels)
    array = preprocessing.to_array(picture(31, 47))
    assert array.shape == (channels, *shape)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert (preprocessing.rows, preprocessing.columns) == shape


def test_an_image_of_the_right_size_is_not_touched():
    image = picture(12, 12)
    np.testing.assert_array_equal(Preprocessing(12).to_array(image), image.transpose(2, 0, 1))


def test_grey_is_luminance():
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 1] = 200
    array = Preprocessing(2, "L", (0.5,), (0.5,)).to_array(image)
    np.testing.assert_array_equal(array, np.full((1, 2, 2), round(0.587 * 200)))


def test_the_whole_image_is_stretched_and_nothing_cut_off():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:4] = 255  # a bar along the top: a tenth of the rows
    image[:, -8:] = 255  # and along the right
    array = Preprocessing(10).to_array(image)[0]
    assert array[0, 0] > 200
    assert array[-1, -1] > 200
    assert array[-1, 0] == 0


def test_reduction_averages_and_does_not_skip():
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 255
    array = Preprocessing(8).to_array(image).astype(int)
    assert np.abs(array - 127).max() < 12


def test_normalise_follows_the_formula():
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4)
    batch = np.random.default_rng(1).integers(0, 256, (4, 3, 5, 6), dtype=np.uint8)
    expected = np.empty(batch.shape)
    for channel in range(3):
        expected[:, channel] = (batch[:, channel] / 255.0 - mean[channel]) / std[channel]
    preprocessing = Preprocessing((5, 6), "RGB", mean, std)
    result = preprocessing.normalise(torch.from_numpy(batch))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_calling_it_is_resizing_and_normalising():
    preprocessing = Preprocessing(8)
    image = picture(20, 30)
    expected = preprocessing.normalise(torch.from_numpy(preprocessing.to_array(image))[None])[0]
    torch.testing.assert_close(preprocessing(image), expected, rtol=0, atol=0)


def test_measured_mean_and_std_are_those_of_all_pixels():
    images = [picture(10, 10, seed) // (seed + 1) for seed in range(4)]
    preprocessing = Preprocessing.measure(iter(images), size=10)
    pixels = np.stack(images).reshape(-1, 3) / 255.0
    np.testing.assert_allclose(preprocessing.mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(preprocessing.std, pixels.std(axis=0), atol=1e-6)
    means = [image.mean() for image in images]
    assert preprocessing.intensity == Intensity(round(np.mean(means), 3), round(np.std(means), 3))
    normalised = preprocessing.normalise(
        torch.from_numpy(np.stack([preprocessing.to_array(i) for i in images]))
    )
    assert abs(normalised.mean().item()) < 1e-4


def test_measuring_constant_images_does_not_divide_by_0():
    preprocessing = Preprocessing.measure([np.full((4, 4, 3), 9, np.uint8)], size=4, mode="L")
    assert preprocessing.std[0] > 0
    assert torch.isfinite(preprocessing(picture(4, 4))).all()


def test_measuring_nothing_is_an_error():
    with pytest.raises(ConfigurationError, match="no image to measure"):
        Preprocessing.measure([], size=4)


def test_images_like_the_training_images_are_not_warned_of():
    images = [picture(16, 16, seed) for seed in range(20)]
    preprocessing = Preprocessing.measure(images, size=16)
    assert all(preprocessing.warning_for(image) is None for image in images)


def test_strange_images_are_warned_of():
    preprocessing = Preprocessing.measure([picture(16, 16, seed) for seed in range(20)], size=16)
    assert "every pixel is 255" in preprocessing.warning_for(np.full((4, 4, 3), 255, np.uint8))
    wrongly_scaled = (picture(16, 16) > 127).astype(np.uint8)
    message = preprocessing.warning_for(wrongly_scaled)
    assert "mean is 0 of 255" in message
    assert f"training images {preprocessing.intensity.mean:.0f}" in message
    assert Preprocessing(16).warning_for(wrongly_scaled) is None


def grey_picture(seed=0):
    return picture(16, 16, seed)[..., :1].repeat(3, axis=-1)


def test_the_kinds_of_the_training_images_are_measured_saved_and_asked_for(tmp_path):
    images = [DecodedImage(grey_picture(seed), scale) for seed, scale in enumerate(["12 bits", "8 bits"] * 5)]
    preprocessing = Preprocessing.measure(images, size=16)
    assert preprocessing.intensity.kinds == ("grey, 12 bits", "grey, 8 bits")
    assert Preprocessing.measure([i.pixels for i in images], size=16).mean == preprocessing.mean
    preprocessing.save(tmp_path)
    loaded = Preprocessing.load(tmp_path)
    assert loaded == preprocessing
    assert loaded.warning_for(grey_picture(), kind="grey, 12 bits") is None
    assert loaded.warning_for(grey_picture(), kind=None) is None
    warning = loaded.warning_for(grey_picture(), kind="grey, 16 bits")
    assert "the image was grey, 16 bits, the training images grey, 12 bits or grey, 8 bits" in warning
    assert "\n" not in warning
    dark = grey_picture() // 100
    both = loaded.warning_for(dark, kind="grey, 16 bits")
    assert "grey, 16 bits" in both
    assert f"mean is {dark.mean():.0f} of 255" in both
    assert "\n" not in both


def test_colour_where_training_was_grey_is_warned_of():
    preprocessing = Preprocessing.measure(
        [DecodedImage(grey_picture(s), "8 bits") for s in range(5)], size=16
    )
    colour = DecodedImage(picture(16, 16), "8 bits")
    assert "the image was colour, 8 bits, the training images grey, 8 bits" in preprocessing.warning_for(
        colour.pixels, kind=colour.kind
    )


def test_weights_saved_before_kinds_were_measured_load_and_do_not_warn():
    record = Preprocessing(16).to_dict() | {"intensity": {"mean": 127.0, "std": 20.0}}
    preprocessing = Preprocessing.from_dict(record)
    assert preprocessing.intensity == Intensity(127.0, 20.0, ())
    assert preprocessing.warning_for(picture(16, 16), kind="grey, 12 bits") is None


@pytest.mark.parametrize("size", [32, (16, 24)])
def test_saving_and_loading_gives_the_same_record(tmp_path, size):
    measured = Preprocessing.measure([picture(8, 8)], size=size, mode="L")
    for preprocessing in (measured, Preprocessing(size)):
        preprocessing.save(tmp_path)
        assert Preprocessing.load(tmp_path) == preprocessing
        assert hash(Preprocessing.load(tmp_path)) == hash(preprocessing)


def test_an_unknown_key_in_the_file_is_an_error(tmp_path):
    record = Preprocessing(8).to_dict() | {"means": [1]}
    (tmp_path / FILE_NAME).write_text(json.dumps(record))
    with pytest.raises(WeightsError, match=r"no 'means' \(did you mean 'mean'\?\)"):
        Preprocessing.load(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"size": 8, "intensity": {"a": 1}}', '{"size": "big"}']
)
def test_a_damaged_file_is_an_error(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(WeightsError, match="copy the model folder again"):
        Preprocessing.load(tmp_path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        Preprocessing.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": (4, 5, 6)}, "size is"),
        ({"size": 4, "mode": "BGR"}, "mode is 'BGR': one of RGB, L"),
        ({"size": 4, "mode": "L"}, "mode L takes 1"),
        ({"size": 4, "std": (0.1, 0.0, 0.1)}, "above 0"),
        ({"size": 4, "resize": "crop"}, "resize is 'crop': one of stretch"),
        ({"size": 4, "interpolation": "cubic"}, "interpolation is 'cubic'"),
    ],
)
def test_errors_name_what_is_allowed(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Preprocessing(**arguments)
