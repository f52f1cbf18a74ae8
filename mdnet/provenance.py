"""What a result depends on besides data, seed and configuration; it is written beside every number."""

from __future__ import annotations

import platform
from typing import Any

import mdnet.torchvision_compat

import torch
import transformers

import mdnet

__all__ = ["versions"]


def versions() -> dict[str, Any]:
    """Versions, machine and threads."""
    return {
        "mdnet": mdnet.__version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
