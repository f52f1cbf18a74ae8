"""The members under contract: all names and a user's own ones, what makes each small, how outputs compare."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mdnet.models import registry
from mdnet.models.outputs import MDNetOutput
from mdnet.models.registry import get_architecture, list_models

OWN = {  # by the file that a user would write
    "patch_gru": "own_member",
    "prototypes": "own_prototypes",
    "bottleneck": "own_bottleneck",
    "tandem": "own_tandem",
    "bcos": "own_bcos",
}
MEMBERS = [*list_models(), *OWN]
WRITERS = [name for name in list_models() if get_architecture(name).writes]
WRITERS += [name for name in OWN if name != "bcos"]
LIMIT = 8  # words of a section


@contextmanager
def registered_own() -> Iterator[None]:
    """Inside the block a user's own are members, as they are once their files are imported."""
    for name, file in OWN.items():
        module = importlib.import_module(file)
        registry._ARCHITECTURES[name] = getattr(module, name)  # an earlier import may have been undone
    yield
    for name in OWN:
        del registry._ARCHITECTURES[name]


def narrow_options(name: str) -> dict[str, Any]:
    """What makes a member small, and in nothing else another."""
    options = get_architecture(name).options
    narrow: dict[str, Any] = {"embedding_size": 5, "hidden_size": 7, "attention_size": 6, "dropout": 0.0}
    wide = "backbone" in options or name == "patch_gru"
    narrow |= {"image_size": 64 if wide else 32, "maximum_words": LIMIT}
    if "backbone" not in options:
        narrow["widths"] = [4, 6, 8, 10][: len(options["widths"])]
        narrow["depths"] = [min(depth, 2) for depth in options["depths"]]
    return narrow


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def outputs_of(output: MDNetOutput) -> dict[str, Tensor]:
    """Every tensor of an output that a user reads, by name."""
    named = {f"logits of {aspect}": logits for aspect, logits in output.logits.items()}
    texts = {
        name: output[name] for name in ("report_logits", "attention", "log_likelihood") if name in output
    }
    return named | texts
