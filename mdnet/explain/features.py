"""Features of images at any layer of any model: zoo members, torchvision backbones, one's own.

>>> extract_features(model, pixel_values, ["image.activations.0", "image.activations.2"])
>>> extract_features(torchvision.models.vgg16(), pixel_values, "features.28")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mdnet.data.images import load_image
from mdnet.errors import ConfigurationError
from mdnet.explain.layers import evaluation_mode, watching

if TYPE_CHECKING:
    from mdnet.inference.predictor import Predictor

__all__ = ["extract_features", "pixel_batches"]


@torch.no_grad()
def extract_features(
    model: nn.Module, pixel_values: Tensor, layers: str | Sequence[str], **inputs: Any
) -> dict[str, Tensor]:
    """What the named layers give for a batch, in evaluation mode and without gradients.

    Args:
        model: Any module; its modes are put back and no hook stays.
        pixel_values: (B, channels, H, W), normalised as the model wants it.
        layers: One name of `list_layers(model)` or several. Of a layer that runs several times in a
            pass, such as the ReLUs of torchvision's ResNets, name the call: `layer1.0.relu:0`.
        **inputs: Handed on to the forward pass; MDNet's report layers need `tokens`.

    Returns:
        Layer name to its output, a copy that no later layer overwrites.

    Raises:
        ConfigurationError: A layer that there is not, that gives no tensor, that did not run, or
            that ran several times.
    """
    features: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        if name in features:
            raise ConfigurationError(
                f"layer {name!r} runs several times in a forward pass: name the call, {name}:0, {name}:1, ..."
            )
        features[name] = output.clone()  # the next layer may work in place

    names = [layers] if isinstance(layers, str) else list(layers)
    with evaluation_mode(model), watching(model, names, keep):
        model(pixel_values, **inputs)
    return {name: features[name] for name in names}


def pixel_batches(predictor: Predictor, images: Iterable[Path]) -> Iterator[Tensor]:
    """Image files as the model's input, `predictor.batch_size` at a time: (B, channels, H, W)."""
    remaining = iter(images)
    while batch := list(islice(remaining, predictor.batch_size)):
        yield predictor.pixel_values([load_image(path) for path in batch])
