"""What is kept of a run and put back: weights, optimizer, place in the epoch, and the state before a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mdnet.training.random_state import set_torch_state, torch_state
from mdnet.training.sharding import part_like

__all__ = ["BeforeStep", "Place", "load_optimizer_tensors", "optimizer_tensors"]


@dataclass
class Place:
    """Where a run is, and the sums of the epoch so far.

    Attributes:
        epoch: Whole epochs before this one.
        step: Steps of it that were taken.
        seconds: That they took.
        steps_with: Name of a loss to the steps of this epoch that had it.
        sums: Over the steps: every loss, the gradient's norm, and the diagnoses that were `correct` and
            `known`; and `largest_norm`. On the device, where reading one would wait for it; the same in
            all processes.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    steps_with: dict[str, int] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, losses: Mapping[str, Tensor], diagnoses: Mapping[str, Tensor], norm: Tensor) -> None:
        """Takes in one step."""
        self.step += 1
        self.sums["largest_norm"] = torch.maximum(norm, self.sums.get("largest_norm", norm))
        for name, value in (*losses.items(), *diagnoses.items(), ("norm", norm)):
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        for name in losses:
            self.steps_with[name] = self.steps_with.get(name, 0) + 1

    def row(self) -> dict[str, float]:
        """The epoch's mean losses, the share of diagnoses that were right, and the gradient's norms."""
        row: dict[str, float] = {"epoch": self.epoch + 1}
        for name, steps in self.steps_with.items():
            row[f"train_{name}_loss"] = self.sums[name].item() / steps
        if known := int(self.sums.get("known", 0)):
            row["train_diagnosis_accuracy"] = int(self.sums["correct"]) / known
        row["gradient_norm"] = self.sums["norm"].item() / self.step
        row["gradient_norm_max"] = self.sums["largest_norm"].item()
        return row


class BeforeStep:
    """The statistics of BatchNorm and the random state before a step, so that it can be taken again."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        self.buffers = list(model.buffers())
        self.kept = [buffer.clone() for buffer in self.buffers]
        self.random = torch_state(device)

    @torch.no_grad()
    def keep(self) -> None:
        """Copies them."""
        if self.buffers:  # a network need not have BatchNorm
            torch._foreach_copy_(self.kept, self.buffers)
        self.random = torch_state(self.device)

    @torch.no_grad()
    def put_back(self) -> None:
        """Puts back what was copied last."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.kept)
        set_torch_state(self.random, self.device)


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by the name of the parameter, `name.exp_avg` and so on."""
    return {
        f"{name}.{key}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave.

    Raises:
        KeyError: The model has no parameter of such a name, or the optimizer does not train it.
    """
    parameters = dict(model.named_parameters())
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    number = {id(parameter): index for index, parameter in enumerate(trained)}
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        of, _, key = name.rpartition(".")
        parameter = parameters[of]
        if tensor.shape == parameter.shape:
            # Laid out in memory as the parameter is (channels last): a fused AdamW goes through both side by
            # side, and takes the wrong elements together if they are not.
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(part_like(tensor, parameter))
        state.setdefault(number[id(parameter)], {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
