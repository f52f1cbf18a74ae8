"""What stands where a part of the image is taken away.

No choice is neutral (Sturmfels et al., "Visualizing the Impact of Feature Attribution Baselines",
Distill 2020), so each method names the one it used:

- `mean`: the mean colour of the training images, 0 in normalised units;
- `blur`: the image out of focus, by a Gaussian of a sixteenth of the shorter side;
- `black`.
"""

from __future__ import annotations

import mdnet.torchvision_compat  # noqa: F401

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from mdnet.errors import ConfigurationError
from mdnet.models.mdnet import MDNet

__all__ = ["BASELINES", "baseline_images"]

BASELINES = ("mean", "blur", "black")
_BLUR = 1 / 16  # of the shorter side: 8 pixels of 128, which leaves nothing of a nucleus


def baseline_images(name: str, model: MDNet, pixel_values: Tensor) -> Tensor:
    """The images taken away as a whole, of the shape of `pixel_values` (B, channels, H, W), normalised.

    Raises:
        ConfigurationError: No baseline of that name.
    """
    if name == "mean":
        return torch.zeros_like(pixel_values)
    if name == "blur":
        deviation = min(pixel_values.shape[-2:]) * _BLUR
        return gaussian_blur(pixel_values, 2 * round(3 * deviation) + 1, deviation)
    if name == "black":
        assert model.preprocessing is not None  # a Predictor makes sure
        black = torch.zeros(1, *pixel_values.shape[1:], dtype=torch.uint8, device=pixel_values.device)
        return model.preprocessing.normalise(black).to(pixel_values).expand_as(pixel_values)
    raise ConfigurationError(f"no baseline {name!r}; there are {', '.join(BASELINES)}")
