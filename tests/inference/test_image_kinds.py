"""An image of another kind than the training images is warned of, in one line that names both."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.data.images import decode_image
from mdnet.data.preprocessing import Preprocessing
from mdnet.inference.predictor import Predictor


@pytest.fixture
def deep_grey(tmp_path):
    """Makes 16-bit files whose values need `bits` bits, of equal brightness as pictures."""

    def make(name, bits):
        values = np.random.default_rng(0).integers(0, 2**bits, (32, 32)).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / name)
        return tmp_path / name

    return make


def test_a_path_is_asked_for_its_kind_and_pixels_are_not(build_model, deep_grey, tmp_path, caplog):
    model = build_model(dtype=torch.float32)
    twelve, sixteen = deep_grey("twelve.png", 12), deep_grey("sixteen.png", 16)
    eight = tmp_path / "eight.png"
    Image.fromarray(decode_image(twelve).pixels).save(eight)
    model.preprocessing = Preprocessing.measure([decode_image(twelve)], size=32)
    predictor = Predictor(model, device="cpu")
    with caplog.at_level(logging.WARNING):
        predictor([twelve, decode_image(sixteen).pixels, Image.open(sixteen)])
        assert not caplog.records
        predictor([sixteen, str(eight)])
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: the image was {kind}, the training images grey, 12 bits: check its scaling and its kind"
        for path, kind in ((sixteen, "grey, 16 bits"), (eight, "grey, 8 bits"))
    ]
