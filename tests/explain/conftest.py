"""A predictor of a small random model, its images, and the shipped one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mdnet.inference.predictor import Predictor


@pytest.fixture(scope="session")
def make_predictor(build_model, draw_batch, let_sections_end) -> Callable[..., Predictor]:
    """Makes a predictor of a small random model in float64, whose sections end."""

    def make(**options) -> Predictor:
        model = build_model(**options)
        if model.report is not None:
            let_sections_end(model, draw_batch(4).pixel_values)
        return Predictor(model, name="small", device="cpu", batch_size=2)

    return make


@pytest.fixture(scope="session")
def small(make_predictor) -> Predictor:
    return make_predictor()


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]


@pytest.fixture(scope="session")
def shipped() -> Predictor:
    return Predictor.from_pretrained("mdnet_tiny/phantom", device="cpu")
