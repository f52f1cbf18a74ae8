"""A model's layers by name, and what they give in a forward pass: forward hooks that never stay behind.

Works on any `torch.nn.Module`. Hooks, and not `torchvision.models.feature_extraction` (torch.fx), for
what was measured with both:

- where the next layer works in place, fx hands out what that layer made of the tensor: `features.0` of
  VGG16, asked for together with `classifier`, is the ReLU's output and not the convolution's. A hook
  sees the tensor before that;
- fx traces the code with symbols, and the branches of `MDNet.forward` (a loss only where there is a
  truth) end that in a `TraceError`;
- fx makes a second model; a hook leaves the one there is as it was.

What only fx can name is a function that is no module, such as a bare `F.relu`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from mdnet.errors import ConfigurationError

__all__ = [
    "Layer",
    "by_channel",
    "describe_layers",
    "evaluation_mode",
    "find_layer",
    "list_layers",
    "restored_modes",
    "set_training_mode",
    "watching",
]

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)  # they compute nothing


@dataclass(frozen=True)
class Layer:
    """One layer, as `describe_layers` found it.

    Attributes:
        name: As in `list_layers`.
        kind: Its class.
        parameters: Their number, its inner layers' included.
        calls: How often it ran in the forward pass.
        shape: Of its output, in the first call; None where it did not run or gives no tensor.
    """

    name: str
    kind: str
    parameters: int
    calls: int
    shape: tuple[int, ...] | None


def list_layers(model: nn.Module) -> list[str]:
    """Names of all layers in the order in which they were defined, containers without a forward left out."""
    return [name for name, module in model.named_modules() if name and not isinstance(module, _CONTAINERS)]


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of a name, or of a call of it (`relu:1`).

    Raises:
        ConfigurationError: There is none; the nearest names.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    name, _ = _layer_and_call(name)
    if name in modules and name:
        return modules[name]
    known = list_layers(model)
    near = difflib.get_close_matches(name, known, 4, cutoff=0.5) or known[:4]
    raise ConfigurationError(
        f"{type(model).__name__} has no layer {name!r}; near it: {', '.join(near)} "
        f"(of {len(known)}: list_layers, mdnet inspect layers)"
    )


@contextmanager
def watching(
    model: nn.Module, layers: Iterable[str], on_output: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Calls `on_output(name, output)` when a named layer has run; for one forward pass inside the block.

    The tensor is the layer's own: a later layer may overwrite it in place, so a receiver copies what
    it keeps. Of a layer that gives a tuple, such as an LSTM, it is the first tensor.

    Args:
        model: Any module.
        layers: Names of `list_layers`. A layer that runs several times in a pass calls back each
            time; `name:0`, `name:1` and so on name one of the calls.
        on_output: The receiver; what it raises ends the forward pass.

    Raises:
        ConfigurationError: A layer that there is not, that gives no tensor, or that did not run.
    """
    modules = {name: find_layer(model, name) for name in layers}
    calls: Counter[str] = Counter()

    def receive(name: str, output: Any) -> None:
        calls[name] += 1
        if _layer_and_call(name)[1] in (None, calls[name] - 1):
            on_output(name, _tensor(name, output))

    with _hooks(modules, receive):
        yield
    for name in modules:
        if calls[name] <= (_layer_and_call(name)[1] or 0):
            raise ConfigurationError(
                f"layer {name!r} was not reached, its module ran {calls[name]} times; name another, or give "
                "the inputs that lead to it (the report's layers need tokens)"
            )


@torch.no_grad()
def describe_layers(model: nn.Module, pixel_values: Tensor) -> list[Layer]:
    """Every layer with its kind, size and output, from a forward pass in evaluation mode."""
    modules = {name: find_layer(model, name) for name in list_layers(model)}
    calls: Counter[str] = Counter()
    shapes: dict[str, tuple[int, ...]] = {}

    def receive(name: str, output: Any) -> None:
        calls[name] += 1
        first = _first(output)
        if isinstance(first, Tensor):
            shapes.setdefault(name, tuple(first.shape))

    with evaluation_mode(model), _hooks(modules, receive):
        model(pixel_values)
    return [
        Layer(
            name,
            type(module).__name__,
            sum(parameter.numel() for parameter in module.parameters()),
            calls[name],
            shapes.get(name),
        )
        for name, module in modules.items()
    ]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; behind it every module is in the mode it was in."""
    with restored_modes(model):
        model.eval()
        yield


def set_training_mode(model: nn.Module) -> None:
    """`model.train()`, but a BatchNorm whose parameters are frozen stays in evaluation mode.

    It would otherwise go on normalising by the batch and collecting statistics, and so would not stay
    as it is.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad:
            module.eval()


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Puts every module back into the mode (training, evaluation) that it had, each its own."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def by_channel(output: Tensor) -> Tensor:
    """A layer's output as (channels, values).

    Channels are dimension 1 of (B, C) and of (B, C, H, W), as convolutions have it, and the last one
    of (B, positions, C), as transformers have it.
    """
    channel = -1 if output.ndim == 3 else min(1, output.ndim - 1)
    return output.movedim(channel, 0).flatten(1)


@contextmanager
def _hooks(modules: dict[str, nn.Module], receive: Callable[[str, Any], None]) -> Iterator[None]:
    handles: list[RemovableHandle] = []
    try:
        for name, module in modules.items():

            def hook(_module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
                receive(name, output)

            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_and_call(name: str) -> tuple[str, int | None]:
    """`relu:1` as the layer and the call; `relu` as the layer and None."""
    layer, colon, call = name.rpartition(":")
    return (layer, int(call)) if colon and call.isdecimal() else (name, None)


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _tensor(name: str, output: Any) -> Tensor:
    first = _first(output)
    if not isinstance(first, Tensor):
        raise ConfigurationError(
            f"layer {name!r} gives no tensor but {type(output).__name__}; name one of the layers inside it "
            f"({name}...)"
        )
    return first
