"""Checkpoints: all that a run needs to go on to the same bits. Safetensors and JSON, nothing pickled.

A checkpoint is a folder written under a temporary name and renamed when whole, so a run killed
while it writes still has the one before.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from mdnet.errors import WeightsError
from mdnet.files import writing_tensors

__all__ = ["load_checkpoint", "replace_folder", "save_checkpoint"]


def save_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, progress: dict[str, Any]) -> None:
    """Writes weights, optimizer state, random state and `progress` in place of an older checkpoint."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with writing_tensors(partial):
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
            partial / "model.safetensors",
        )
        save_file(_optimizer_tensors(optimizer), partial / "optimizer.safetensors")
        save_file(_random_state(), partial / "random.safetensors")
    (partial / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
    for file in partial.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    replace_folder(folder, partial)


def replace_folder(folder: Path, whole: Path) -> None:
    """Puts `whole` in the place of `folder`; killed in between, it leaves the old one as `.previous`."""
    previous = folder.with_name(folder.name + ".previous")
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    whole.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def load_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
    """Restores what `save_checkpoint` wrote; returns its `progress`, or None where there is no checkpoint."""
    previous = folder.with_name(folder.name + ".previous")
    if not folder.exists() and previous.exists():  # killed between the two renames
        previous.rename(folder)
    if not folder.exists():
        return None
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
        _restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
        _restore_random_state(load_file(folder / "random.safetensors"))
        progress: dict[str, Any] = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{folder}: this checkpoint does not fit the run ({reason}); "
            "train with the configuration that wrote it, or into another --out"
        ) from error
    return progress


def _random_state() -> dict[str, Tensor]:
    """State of the generators that dropout draws from: the CPU's, and every CUDA device's."""
    devices = enumerate(torch.cuda.get_rng_state_all())
    return {"cpu": torch.get_rng_state()} | {f"cuda:{index}": state for index, state in devices}


def _restore_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if (state := states.get(f"cuda:{index}")) is not None:  # None: the run began on other devices
            torch.cuda.set_rng_state(state, index)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state[parameter].items()
    }


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
