"""The val split after every epoch: decoded once, and with as many studies at once as fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdnet.data.readers import read_studies
from mdnet.inference import reading
from mdnet.inference.predictor import Predictor
from mdnet.inference.reading import ReadStudy
from mdnet.training import validator as validator_module
from mdnet.training.validation import validation_row
from mdnet.training.validator import KeptStudies, Validator

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The images that are decoded."""
    plain, seen = reading.as_decoded, []

    def as_decoded(image):
        seen.append(image)
        return plain(image)

    monkeypatch.setattr(reading, "as_decoded", as_decoded)
    return seen


@pytest.fixture
def larger_sample(tmp_path):
    """Studies whose images are larger than the model takes, and not square; with their masks."""
    data = read_studies(SAMPLE)
    studies = []
    for study in data.studies[:6]:
        files = {}
        for name, path in {"image": study.images[0], **study.masks}.items():
            with Image.open(path) as picture:
                picture.resize((300, 200), Image.Resampling.NEAREST).save(tmp_path / f"{study.id}-{name}.png")
            files[name] = tmp_path / f"{study.id}-{name}.png"
        image = files.pop("image")
        studies.append(replace(study, images=(image,), masks=files))
    return data, tuple(studies)


def test_images_are_decoded_in_the_first_epoch_only_and_no_number_changes(larger_sample, decoded):
    data, studies = larger_sample
    predictor = Predictor.from_pretrained("mdnet_tiny/phantom")
    expected = validation_row(predictor, studies, data)
    assert any(name.endswith("pointing") for name in expected)  # which depend on the image's size
    decoded.clear()
    validate = Validator(studies, data, cache=True)
    assert [validate(predictor.model) for _ in range(3)] == [expected] * 3
    assert len(decoded) == len(studies)
    decoded.clear()
    validate = Validator(studies, data, cache=False)
    assert [validate(predictor.model) for _ in range(2)] == [expected] * 2
    assert len(decoded) == 2 * len(studies)


def test_what_has_no_room_is_decoded_every_time():
    read = ReadStudy("a", (np.zeros((3, 8, 8), np.uint8),), (np.ones((50, 40, 3), np.uint8),), ("dark",))
    kept = KeptStudies(room=300)
    kept.keep("a", read)
    kept.keep("b", read)
    assert list(kept.studies) == ["a"]
    (picture,) = kept.studies["a"].pictures
    assert picture.shape == (50, 40, 3)
    assert sum(step * (side - 1) for step, side in zip(picture.strides, picture.shape, strict=True)) == 0
    assert kept.studies["a"].warnings == ()  # said once


def test_a_validation_that_does_not_fit_takes_fewer_at_once_from_then_on(monkeypatch):
    sizes = []

    def row(predictor, studies, data):
        sizes.append(predictor.batch_size)
        if predictor.batch_size > 8:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return {"val_score": 0.5}

    monkeypatch.setattr(validator_module, "validation_row", row)
    data = read_studies(SAMPLE)
    validate = Validator(data.studies[:2], data, cache=True)
    model = Predictor.from_pretrained("mdnet_tiny/phantom").model
    assert [validate(model), validate(model)] == [{"val_score": 0.5}] * 2
    assert sizes == [32, 16, 8, 8]
    assert Validator((), data, cache=True)(model) == {}
