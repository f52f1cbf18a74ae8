"""How many images go through the model at once, and with which random numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mdnet.errors import ConfigurationError

__all__ = ["IMAGES_AT_ONCE", "check_at_least", "image_by_image"]

# Of changed copies in one pass. Beyond it a CPU is no faster, and a large model's gradients fill its memory.
IMAGES_AT_ONCE = 16


def image_by_image(draw: Callable[[Tensor], Tensor], pixel_values: Tensor) -> Tensor:
    """What a randomised method draws for each image (1, channels, H, W) alone, joined along the batch.

    Every image begins with the same numbers, those of torch's current seed: its map does not depend
    on its neighbours in the batch. captum draws from NumPy's global generator too; both are left as
    they were.
    """
    seed = torch.initial_seed()
    numpy_state = np.random.get_state()  # noqa: NPY002  (captum's generator)
    drawn = []
    try:
        with torch.random.fork_rng(devices=[pixel_values.device] if pixel_values.is_cuda else []):
            for image in pixel_values.split(1):
                torch.manual_seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
                drawn.append(draw(image))
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
    return torch.cat(drawn)


def check_at_least(least: float, **settings: float) -> None:
    """Raises `ConfigurationError` for a setting below `least`."""
    for name, value in settings.items():
        if value < least:
            raise ConfigurationError(f"{name} is {value}: give at least {least}")
