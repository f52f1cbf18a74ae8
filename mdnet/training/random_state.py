"""The random generators of a process: seeded, kept, and put back.

Order, writers and augmentation need none of them: they follow from the seeds that a sampler hands out
(`mdnet.data.sampling`). Dropout and scheduled sampling draw from torch's, and a third-party module may
draw from any.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

__all__ = ["random_state", "seed_everything", "set_random_state", "set_torch_state", "torch_state"]


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries that draw from the global generator)
    torch.manual_seed(seed)


def torch_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators: the CPU's, and that of the device in use."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_torch_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Puts back what `torch_state` gave; a device that it has nothing of stays as it is."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of all generators of this process, as tensors."""
    _, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return torch_state(device) | {
        "python": torch.tensor(words),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*numpy["state"]["key"].tolist(), numpy["state"]["pos"], numpy["has_gauss"]]),
        "numpy_gauss": torch.tensor([numpy["gauss"]], dtype=torch.float64),
    }


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Puts back what `random_state` gave."""
    set_torch_state(state, device)
    gauss = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), gauss[0] if gauss else None))
    *key, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(  # noqa: NPY002
        ("MT19937", np.array(key, np.uint32), position, has_gauss, state["numpy_gauss"].item())
    )
