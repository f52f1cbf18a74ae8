"""Gradient flow of one batch: how much of each loss reaches each layer.

Both losses of the joint objective (formula 6 of docs/method.md) go back separately through one forward
pass. In training the image module's gradient is scaled at the fork, by 1 - beta and by beta eta; here it
is reported unscaled, so that the two losses compare, and so that a schedule does not look like vanishing.

References:
    1. Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
       AISTATS 2010 (gradients layer by layer).
    2. You, Gitman & Ginsburg, "Large Batch Training of Convolutional Networks", 2017, arXiv 1708.03888
       (the ratio of gradient to weights, layer by layer).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from mdnet.data.loading import StudyBatch
from mdnet.errors import ConfigurationError
from mdnet.explain.layers import restored_modes, set_training_mode
from mdnet.models.mdnet import MDNet
from mdnet.models.objective import is_of_labels
from mdnet.models.outputs import MDNetOutput

__all__ = ["GradientFlow", "LayerGradient", "batch_gradient_flow", "gradient_flow"]

FAR = 1000.0  # a ratio this many times under or over the loss's median layer is warned of


@dataclass(frozen=True)
class LayerGradient:
    """One layer that has parameters of its own.

    Attributes:
        layer: Its name, as in `list_layers`.
        parameters: Their number.
        weight_norm: Euclidean norm of all of them.
        gradient_norm: Loss name to the Euclidean norm of its gradient; None where the loss does not
            reach the layer at all.
    """

    layer: str
    parameters: int
    weight_norm: float
    gradient_norm: Mapping[str, float | None]

    @property
    def spread(self) -> float:
        """Root mean square of its weights."""
        return self.weight_norm / math.sqrt(self.parameters)

    def ratio(self, loss: str) -> float | None:
        """Gradient norm over weight norm; None where the loss does not reach, or all weights are 0."""
        norm = self.gradient_norm[loss]
        return None if norm is None or self.weight_norm == 0 else norm / self.weight_norm


@dataclass(frozen=True)
class GradientFlow:
    """The gradient of each loss, layer by layer.

    Attributes:
        losses: Loss name, as in `MDNetOutput.losses`, to its value.
        layers: In the order in which the model defines them, which is that of the forward pass.
    """

    losses: Mapping[str, float]
    layers: tuple[LayerGradient, ...]

    @property
    def warnings(self) -> list[str]:
        """Layers whose ratio is a thousand times under or over the loss's median, or is no number.

        A gradient is over it only if it is large for weights of usual size, too: the root mean square of the
        median layer's. Heads begin with next to nothing, and any gradient is large beside that.
        """
        found = []
        usual = statistics.median(entry.spread for entry in self.layers) if self.layers else 0.0
        smaller = {entry.layer: max(1.0, usual / entry.spread) for entry in self.layers if entry.spread}
        for loss in self.losses:
            ratios = {entry.layer: ratio for entry in self.layers if (ratio := entry.ratio(loss)) is not None}
            finite = [ratio for ratio in ratios.values() if math.isfinite(ratio)]
            median = statistics.median(finite) if finite else 0.0
            for layer, ratio in ratios.items():
                if not math.isfinite(ratio):
                    found.append(f"{layer}: exploding: the gradient of {loss} is {ratio}")
                elif ratio > FAR * median * smaller[layer]:
                    found.append(f"{layer}: exploding: {_compared(loss, ratio, median)}")
                elif ratio * FAR < median or ratio == 0:
                    found.append(f"{layer}: vanishing: {_compared(loss, ratio, median)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON: `layers` holds norms and ratios by loss."""
        return {
            "losses": dict(self.losses),
            "layers": [
                {
                    "layer": entry.layer,
                    "parameters": entry.parameters,
                    "weight_norm": entry.weight_norm,
                    "gradient_norm": dict(entry.gradient_norm),
                    "ratio": {loss: entry.ratio(loss) for loss in self.losses},
                }
                for entry in self.layers
            ],
            "warnings": self.warnings,
        }


def gradient_flow(model: MDNet, output: MDNetOutput, *, beta: float, eta: float) -> GradientFlow:
    """Gradient flow of a forward pass that has been made.

    The graph stays whole and no parameter's `grad` is touched, so a training step can call this
    between its forward and its backward pass; it costs one backward pass a loss.

    Args:
        model: The model.
        output: Of its forward pass, with losses.
        beta: That of the forward pass; where it cuts a loss off from the image module (0 or 1), that
            loss does not reach there.
        eta: That of the forward pass.

    Raises:
        ConfigurationError: The output has no losses.
    """
    if not output.losses:
        raise ConfigurationError("no loss to take the gradient of: give the forward pass labels or tokens")
    if model.heads is None:  # as in MDNet.forward
        beta = 1.0
    elif output.report_logits is None:
        beta = 0.0
    scaled = set(model.image.modules())
    owners = {
        name: (module, parameters)
        for name, module in model.named_modules()
        if (parameters := [p for p in module.parameters(recurse=False) if p.requires_grad])
    }
    everything = [parameter for _, parameters in owners.values() for parameter in parameters]
    weight_norms = [_norm(parameters) for _, parameters in owners.values()]
    # Norms stay tensors until all are there: reading each one would wait for the device.
    columns: dict[str, list[Tensor | None]] = {}
    for loss, value in output.losses.items():
        gradients = iter(
            torch.autograd.grad(value, everything, retain_graph=True, allow_unused=True)
            if value.requires_grad
            else [None] * len(everything)
        )
        columns[loss] = []
        scale = 1.0 - beta if is_of_labels(loss) else beta * eta
        for module, parameters in owners.values():
            own = [g for _, g in zip(parameters, gradients, strict=False) if g is not None]
            factor = scale if module in scaled else 1.0
            columns[loss].append(_norm(own) / factor if own and factor else None)
    numbers = iter(
        torch.stack(
            weight_norms + [n for column in columns.values() for n in column if n is not None]
        ).tolist()
    )
    weights = [next(numbers) for _ in weight_norms]
    norms = {
        loss: [None if norm is None else next(numbers) for norm in column] for loss, column in columns.items()
    }
    return GradientFlow(
        {loss: float(value.detach()) for loss, value in output.losses.items()},
        tuple(
            LayerGradient(
                name,
                sum(parameter.numel() for parameter in parameters),
                weights[index],
                {loss: column[index] for loss, column in norms.items()},
            )
            for index, (name, (_, parameters)) in enumerate(owners.items())
        ),
    )


def batch_gradient_flow(model: MDNet, batch: StudyBatch) -> GradientFlow:
    """Gradient flow of one batch as a training step would see it: BatchNorm with the batch's statistics,
    but one that is frozen.

    Dropout is off, so that the same batch gives the same numbers. Modes and running statistics are
    put back.

    Args:
        model: With its preprocessing.
        batch: On the model's device.
    """
    assert model.preprocessing is not None
    with _training_without_dropout(model), torch.enable_grad():
        pixel_values = model.preprocessing.normalise(batch.images)
        output = model(pixel_values, batch.labels, batch.tokens, present=batch.present, beta=0.5, eta=1.0)
        return gradient_flow(model, output, beta=0.5, eta=1.0)


@contextmanager
def _training_without_dropout(model: nn.Module) -> Iterator[None]:
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with restored_modes(model):
            set_training_mode(model)
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.eval()
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _norm(tensors: list[Tensor]) -> Tensor:
    """Euclidean norm of all tensors together."""
    return get_total_norm([tensor.detach() for tensor in tensors])


def _compared(loss: str, ratio: float, median: float) -> str:
    return f"the gradient of {loss} is {ratio:.1e} of the weights, that of the median layer {median:.1e}"
