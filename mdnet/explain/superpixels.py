"""Parts of an image that are shown or covered as a whole: what LIME, KernelSHAP and ablation share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mdnet.errors import ConfigurationError, MissingExtraError
from mdnet.models.mdnet import MDNet

__all__ = ["SUPERPIXELS", "superpixels_of"]

SUPERPIXELS = ("grid", "slic")
# Defaults of scikit-image (no smoothing, 10) leave half as many parts as asked for, and one in noise.
_SLIC = {"sigma": 1.0, "compactness": 20.0}


def superpixels_of(kind: str, model: MDNet, pixel_values: Tensor, *, parts: int) -> Tensor:
    """Number of the part that each pixel belongs to, from 0 on without gaps: (B, H, W) int64.

    Args:
        kind: `grid`, equal rectangles; or `slic`, which follows edges (Achanta et al., "SLIC
            Superpixels", PAMI 2012; scikit-image).
        model: Its preprocessing says what the colours were.
        pixel_values: (B, channels, H, W), normalised.
        parts: About how many; a grid takes the nearest square number, SLIC some fewer.

    Raises:
        ConfigurationError: No such kind, or a number that the image cannot be cut into.
        MissingExtraError: SLIC without scikit-image.
    """
    rows, columns = pixel_values.shape[-2:]
    most = min(rows, columns) ** 2
    if not 4 <= parts <= most:
        raise ConfigurationError(f"parts is {parts}: {rows} x {columns} pixels are cut into 4 to {most}")
    if kind == "grid":
        side = round(parts**0.5)
        row, column = torch.arange(rows) * side // rows, torch.arange(columns) * side // columns
        return (row[:, None] * side + column).expand(len(pixel_values), -1, -1).to(pixel_values.device)
    if kind == "slic":
        return torch.stack([_slic(model, image, parts) for image in pixel_values])
    raise ConfigurationError(f"no superpixels {kind!r}; there are {', '.join(SUPERPIXELS)}")


def _slic(model: MDNet, image: Tensor, parts: int) -> Tensor:
    """SLIC of one image (channels, H, W), in CIELAB: (H, W)."""
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise MissingExtraError("skimage", "slic") from error
    assert model.preprocessing is not None  # a Predictor makes sure
    colours = model.preprocessing.to_image(image.detach()[None])[0]  # (H, W, 3)
    segments = slic(colours, n_segments=parts, start_label=0, channel_axis=-1, **_SLIC)
    numbers = np.unique(segments, return_inverse=True)[1].reshape(segments.shape)
    return torch.from_numpy(numbers).to(image.device)
