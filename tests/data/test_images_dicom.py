"""DICOM files, written here: the grey pipeline, colours, and what is said of those that cannot be read."""

import io
import logging
import traceback

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from mdnet.data.images import decode_image, load_image
from mdnet.errors import ImageError

PATIENT = "Doe^Jane"


def write(path, values, *, photometric="MONOCHROME2", bits=None, syntax=ExplicitVRLittleEndian, **tags):
    """A secondary capture image of `values`: (H, W), (H, W, 3) or (frames, H, W)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    dataset.PatientName = PATIENT
    dataset.PhotometricInterpretation = photometric
    colour = photometric in ("RGB", "YBR_FULL")
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    shape = values.shape[:2] if colour or values.ndim == 2 else values.shape[1:]
    dataset.Rows, dataset.Columns = shape
    if values.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(values)
    dataset.BitsAllocated = values.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in tags.items():
        setattr(dataset, name, value)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)
    return path


def grey(path):
    image = load_image(path)
    assert image.dtype == np.uint8
    assert (image[..., :1] == image).all()
    return image[..., 0]


RAMP = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_8_bit_values_are_kept(tmp_path, syntax):
    np.testing.assert_array_equal(grey(write(tmp_path / "a.dcm", RAMP, syntax=syntax)), RAMP)


def test_monochrome1_is_inverted(tmp_path):
    np.testing.assert_array_equal(
        grey(write(tmp_path / "a.dcm", RAMP, photometric="MONOCHROME1")), 255 - RAMP
    )


def test_a_file_is_known_by_its_mark_without_its_suffix(tmp_path):
    np.testing.assert_array_equal(grey(write(tmp_path / "IM0001", RAMP)), RAMP)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_rescale_and_window_follow_the_standard(tmp_path, function):
    stored = np.random.default_rng(0).integers(0, 4096, (9, 7)).astype(np.uint16)
    slope, intercept, centre, width = 2.0, -1024.0, 400.0, 1500.0
    tags = {
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "WindowCenter": centre,
        "WindowWidth": width,
    }
    if function:
        tags["VOILUTFunction"] = function
    result = grey(write(tmp_path / "a.dcm", stored, bits=12, **tags))
    x = stored * slope + intercept
    share = {  # PS3.3 C.11.2.1.2.1, C.11.2.1.3.1, C.11.2.1.3.2
        "LINEAR": ((x - (centre - 0.5)) / (width - 1) + 0.5),
        "LINEAR_EXACT": ((x - centre) / width + 0.5),
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - centre) / width)),
    }[function or "LINEAR"]
    np.testing.assert_array_equal(result, np.round(np.clip(share, 0, 1) * 255).astype(np.uint8))
    assert result.min() < 10
    assert result.max() > 250


def test_of_several_windows_the_first_is_used(tmp_path):
    stored = np.array([[0, 50, 100, 150]], dtype=np.uint16)
    path = write(tmp_path / "a.dcm", stored, WindowCenter=[50.5, 5000], WindowWidth=[101, 9], bits=12)
    np.testing.assert_array_equal(grey(path), [[0, 128, 255, 255]])


def test_without_a_window_the_image_spans_the_whole_range(tmp_path):
    stored = np.array([[-1000, 0, 1000]], dtype=np.int16)
    np.testing.assert_array_equal(grey(write(tmp_path / "a.dcm", stored)), [[0, 128, 255]])
    flat = np.full((2, 2), 700, dtype=np.uint16)
    np.testing.assert_array_equal(grey(write(tmp_path / "b.dcm", flat)), np.zeros((2, 2)))


def test_lookup_tables_are_applied(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTData = [0, 0xFFFF, 0x8000, 0]
    table["LUTDescriptor"].VR = "US"
    table["LUTData"].VR = "US"
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    path = write(tmp_path / "a.dcm", stored, VOILUTSequence=Sequence([table]), bits=12)
    np.testing.assert_array_equal(grey(path), [[0, 255, 128, 0]])


def test_colours(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_image(write(tmp_path / "a.dcm", rgb, photometric="RGB")), rgb)
    white = np.full((2, 2, 3), [255, 128, 128], dtype=np.uint8)
    result = load_image(write(tmp_path / "b.dcm", white, photometric="YBR_FULL"))
    np.testing.assert_array_equal(result, np.full((2, 2, 3), 255))


def test_palette_colours(tmp_path):
    tags = {}
    for name, values in (("Red", [0, 255]), ("Green", [9, 10]), ("Blue", [7, 200])):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 8]
        tags[f"{name}PaletteColorLookupTableData"] = bytes(values)
    path = write(tmp_path / "a.dcm", np.array([[0, 1]], dtype=np.uint8), photometric="PALETTE COLOR", **tags)
    np.testing.assert_array_equal(load_image(path), [[[0, 9, 7], [255, 10, 200]]])


def test_of_several_frames_the_first_is_used_and_a_warning_logged(tmp_path, caplog):
    frames = np.stack([RAMP, 255 - RAMP])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(grey(write(tmp_path / "a.dcm", frames)), RAMP)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'a.dcm'}: 2 frames; the first is used"
    ]


def failure(path):
    with pytest.raises(ImageError) as caught:
        load_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "Doe" not in message
    assert "\n" not in message
    return message


def test_a_file_that_is_no_dicom(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"words" * 100)
    assert "not a DICOM file" in failure(tmp_path / "a.dcm")


def test_a_header_without_pixels(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    assert "without pixel data" in failure(path)


def test_an_image_of_0_pixels(tmp_path):
    assert "0 pixels" in failure(write(tmp_path / "a.dcm", RAMP, Rows=0))


def test_an_image_that_is_too_large(tmp_path):
    assert "more than" in failure(write(tmp_path / "a.dcm", RAMP, Rows=60_000, Columns=60_000))


def test_a_transfer_syntax_that_cannot_be_decoded(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xc3" + b"\0" * 40])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    message = failure(path)
    assert "JPEG Lossless" in message
    assert "pylibjpeg" in message


def test_truncated_pixels(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged DICOM file" in failure(path)


def test_wrong_header_values_neither_warn_nor_name_the_patient(tmp_path, caplog):
    path = write(tmp_path / "a.dcm", RAMP)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"MONOCHROME2 ", b"Doe^Jane\xff   "))
    failure(path)
    assert not caplog.records


def test_random_damage_is_always_an_image_error(tmp_path, caplog):
    rng = np.random.default_rng(3)
    tags = {"WindowCenter": 100, "WindowWidth": 50, "RescaleSlope": 1, "RescaleIntercept": 0}
    path = write(tmp_path / "a.dcm", RAMP.astype(np.uint16), **tags)
    whole, messages = path.read_bytes(), []
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(132, len(whole) - RAMP.nbytes * 2, 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert load_image(path).dtype == np.uint8
        except ImageError as error:
            messages.append(str(error))
    assert messages
    assert not any("Doe" in message for message in messages)
    assert not [record for record in caplog.records if record.name.startswith("pydicom")]


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        (np.arange(256, dtype=np.uint16).reshape(16, 16) * 16, 12),
        (np.arange(256, dtype=np.uint16).reshape(16, 16) * 257, 16),
        ((np.arange(256).reshape(16, 16) * 16 - 2048).astype(np.int16), 12),
        ((np.arange(256).reshape(16, 16) - 128).astype(np.int8), 8),
    ],
)
def test_depths_and_signs_span_the_whole_range(tmp_path, values, bits):
    path = write(tmp_path / "a.dcm", values, bits=bits)
    np.testing.assert_array_equal(grey(path), RAMP)
    assert decode_image(path).kind == "grey, scaled from its least to its greatest value"
    inverted = write(tmp_path / "b.dcm", values, bits=bits, photometric="MONOCHROME1")
    np.testing.assert_array_equal(grey(inverted), 255 - RAMP)


def test_kinds_name_depth_and_window(tmp_path):
    assert decode_image(write(tmp_path / "a.dcm", RAMP)).kind == "grey, 8 bits"
    windowed = {"WindowCenter": 100, "WindowWidth": 50}
    path = write(tmp_path / "b.dcm", RAMP.astype(np.uint16), bits=12, **windowed)
    assert decode_image(path).kind == "grey, 12 bits, DICOM window"
    rgb = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    assert decode_image(write(tmp_path / "c.dcm", rgb, photometric="RGB")).kind == "colour, 8 bits"


def test_12_bit_colours_in_16_are_not_black(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 4096, (9, 8, 3)).astype(np.uint16)
    path = write(tmp_path / "a.dcm", rgb, photometric="RGB", bits=12)
    np.testing.assert_array_equal(load_image(path), np.round(rgb / 4095 * 255).astype(np.uint8))


@pytest.mark.parametrize("tags", [{}, {"PixelPaddingRangeLimit": -1990}])
def test_padding_does_not_squeeze_what_was_measured(tmp_path, tags):
    stored = np.array([[-2000, -1000, 0, 1000]], dtype=np.int16)
    path = write(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000, **tags)
    np.testing.assert_array_equal(grey(path), [[0, 0, 128, 255]])
    nothing = write(tmp_path / "b.dcm", np.full((2, 2), -2000, np.int16), PixelPaddingValue=-2000)
    np.testing.assert_array_equal(grey(nothing), np.zeros((2, 2)))


def test_modality_tables_are_applied_before_the_window(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTData = [100, 300, 200, 0]
    table.ModalityLUTType = "US"
    table["LUTDescriptor"].VR = "US"
    table["LUTData"].VR = "US"
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    tags = {"ModalityLUTSequence": Sequence([table]), "WindowCenter": 150.5, "WindowWidth": 301}
    path = write(tmp_path / "a.dcm", stored, bits=12, **tags)
    np.testing.assert_array_equal(grey(path), [[85, 255, 170, 0]])


def test_an_empty_window_is_none(tmp_path):
    stored = np.array([[0, 500, 1000]], dtype=np.uint16)
    path = write(tmp_path / "a.dcm", stored, bits=12, WindowCenter="", WindowWidth="")
    np.testing.assert_array_equal(grey(path), [[0, 128, 255]])


@pytest.mark.parametrize(
    ("syntax", "format", "options", "tolerance"),
    [
        (JPEGBaseline8Bit, "JPEG", {"quality": 100}, 3),
        (JPEG2000Lossless, "JPEG2000", {"irreversible": False}, 0),
    ],
)
def test_compressed_pixels_are_decoded_where_a_decoder_is_there(tmp_path, syntax, format, options, tolerance):
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, format, **options)
    path = write(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate([buffer.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert np.abs(grey(path).astype(int) - RAMP).max() <= tolerance


PERSONAL = {
    "PatientName": PATIENT,
    "PatientID": "Doe-4711",
    "PatientBirthDate": "19010203",
    "PatientAddress": "Doe Street 9",
    "InstitutionName": "Doe Clinic",
    "ReferringPhysicianName": "Doe^Referring",
    "StudyDescription": "chest of Doe",
    "ImageComments": "Doe was here",
}


def break_nothing(raw):
    return raw


def break_photometric(raw):
    return raw.replace(b"MONOCHROME2 ", b"Doe^Jane    ")


def break_pixels(raw):
    return raw[:-300]


def break_syntax(raw):
    return raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")


def break_rows(raw):
    return raw.replace(b"\x28\0\x10\0US\2\0\x10\0", b"\x28\0\x10\0US\2\0\xff\xff")


def break_bits(raw):
    return raw.replace(b"\x28\0\0\1US\2\0\x08\0", b"\x28\0\0\1US\2\0\x07\0")


def break_length(raw):
    """Two bytes of a number that has four: an error of pydicom's own kind, which quotes them."""
    return raw.replace(b"\x28\0\1\1US", b"\x28\0\1\1UL")


def break_birth_date(raw):
    return raw.replace(b"19010203", b"Doe\xff\xfe\0\0\0")


@pytest.mark.parametrize(
    "damage",
    [
        break_nothing, break_photometric, break_pixels, break_syntax, break_rows, break_bits, break_length,
        break_birth_date,
    ],
)  # fmt: skip
def test_no_personal_data_reaches_an_error_a_log_or_a_picture(tmp_path, caplog, capfd, damage):
    tags = PERSONAL | {"RescaleSlope": 1, "RescaleIntercept": 0}
    path = write(tmp_path / "a.dcm", RAMP, **tags)
    raw = path.read_bytes()
    assert raw.count(b"Doe") >= 7
    path.write_bytes(damage(raw))
    assert (path.read_bytes() == raw) == (damage is break_nothing)
    said = ""
    with caplog.at_level(logging.DEBUG):
        try:
            image = decode_image(path)
            said += f"{image.kind}"
            assert image.pixels.shape[2] == 3
        except ImageError as error:
            said += f"{error} {error.__cause__} {''.join(traceback.format_exception(error))}"
    out, err = capfd.readouterr()
    said += caplog.text + out + err
    for secret in ("Doe", "4711", "1901"):
        assert secret not in said.replace(str(tmp_path), "")
    assert damage in (break_nothing, break_birth_date) or "a.dcm: " in said
