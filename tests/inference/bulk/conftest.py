"""A small model on disk, and folders of small images, one of them broken."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.inference.bulk.serving import Request
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet


@pytest.fixture(scope="session")
def weights(build_model, draw_batch, let_sections_end, tmp_path_factory) -> Path:
    model = build_model(dtype=torch.float32, maximum_words=6)
    let_sections_end(model, draw_batch(4).pixel_values.float())
    folder = tmp_path_factory.mktemp("weights") / "small"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def draw_image() -> Callable[[Path, int], Path]:
    def draw(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(seed)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        return path

    return draw


@pytest.fixture(scope="session")
def folder(draw_image, tmp_path_factory) -> Path:
    """Eleven images, the fifth of which is broken."""
    found = tmp_path_factory.mktemp("images") / "tiles"
    for number in range(11):
        draw_image(found / f"{number:02d}.png", number)
    (found / "04.png").write_bytes(b"no image")
    return found


@pytest.fixture
def make_request(weights, folder) -> Callable[..., Request]:
    def make(**changed) -> Request:
        options = {"inputs": (str(folder),), "weights": str(weights), "format": "jsonl", "batch_size": 3}
        return Request(**options | {"decoding": DecodingConfig()} | changed)

    return make


@pytest.fixture(scope="session")
def predict(weights) -> Callable[[DecodingConfig], Predictor]:
    model = MDNet.from_pretrained(weights)

    def make(decoding: DecodingConfig) -> Predictor:
        return Predictor(model, name=str(weights), device="cpu", batch_size=3, decoding=decoding)

    return make


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch) -> None:
    """Nothing here outlives the machine, and hundreds of files are written."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
