"""What a result depends on besides data, seed and configuration; it is written beside every number."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

import mdnet.torchvision_compat

import torch
import transformers

import mdnet

__all__ = ["start_record", "versions"]


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


def start_record(device: torch.device, *, processes: int) -> dict[str, Any]:
    """When, how and on what a process was started; a run has one every time that it goes on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "device": " ".join(filter(None, (str(device), name))),
        "processes": processes,
        **versions(),
    }
