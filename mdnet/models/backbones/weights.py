"""torchvision's pretrained weights into an image module; only a new model ever asks for them.

A name of torchvision's is fetched once into torch's hub cache; a file is taken as it is, so a machine with
no network needs nothing but a copy of it. Nothing that is not a tensor is unpickled.
"""

from __future__ import annotations

import pickle  # for the name of its error: torch.load reads with weights_only
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import mdnet.torchvision_compat  # noqa: F401

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

from mdnet.errors import WeightsError
from mdnet.models.backbones.module import build_network, cut
from mdnet.models.image_module import ImageModule

__all__ = ["load_backbone_weights"]

_FILES = (".pth", ".pt", ".safetensors")
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    SafetensorError,
)
_CLASSIFIER = ("fc.", "classifier.")
# DenseNet's published files have names from before a dot was forbidden in them, as in
# torchvision/models/densenet.py.
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


def load_backbone_weights(image: ImageModule, backbone: str, weights: str) -> None:
    """Fills an image module with pretrained weights, all but the classifier's.

    Args:
        image: Of `backbone`, for RGB images.
        backbone: A name of `mdnet.models.backbones.shapes.BACKBONES`.
        weights: A name of torchvision's, such as `IMAGENET1K_V1`, or a file `.pth`, `.pt` or `.safetensors`
            of a state dict with torchvision's names.

    Raises:
        WeightsError: There are no such weights, they could not be had, or they are of another network.
    """
    found = _from_file(Path(weights)) if weights.endswith(_FILES) else _from_torchvision(backbone, weights)
    features = [key for key in found if not key.startswith(_CLASSIFIER)]
    state = {_OLD_NAME.sub(r"\1\2", key): found[key] for key in features}
    network = build_network(backbone)
    _check_fit(state, network.state_dict(), f"{weights}: not the weights of {backbone}")
    network.load_state_dict(state, strict=False)  # what may lack is BatchNorm's count of batches
    parts = nn.ModuleDict(cut(network)._asdict())
    image.load_state_dict(parts.state_dict())


def _from_torchvision(backbone: str, name: str) -> Mapping[str, Any]:
    known: type[WeightsEnum] = get_model_weights(backbone)
    if name not in known.__members__:
        raise WeightsError(
            f"torchvision has no weights {name!r} of {backbone}; it has {', '.join(known.__members__)}; "
            f"or name a file {', '.join(_FILES)}"
        )
    weights = known[name]
    try:
        with redirect_stdout(sys.stderr):  # torch says there what it fetches
            return weights.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
            )
    except _UNREADABLE as error:  # no network, or a file in the cache that is not what it says
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise WeightsError(
            f"{backbone} {name}: cannot be had ({_line(error)}); fetch {weights.url} elsewhere and put it at "
            f"{place}, or name the file as backbone_weights"
        ) from error


def _from_file(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; name a state dict of torchvision's") from None
    except _UNREADABLE as error:
        raise WeightsError(
            f"{path}: no state dict of tensors ({_line(error)}); save one with "
            f"torch.save(model.state_dict(), {path.name!r})"
        ) from error


def _check_fit(state: Mapping[str, Any], expected: Mapping[str, Tensor], problem: str) -> None:
    needed = {key for key in expected if not key.endswith("num_batches_tracked")}
    odd = sorted((needed - state.keys()) | (state.keys() - expected.keys()))
    if odd:
        raise WeightsError(f"{problem}: missing or unexpected: {', '.join(odd[:5])}")
    for key, tensor in state.items():
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if shape != tuple(expected[key].shape):
            raise WeightsError(f"{problem}: {key} is {shape}, not {tuple(expected[key].shape)}")


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
