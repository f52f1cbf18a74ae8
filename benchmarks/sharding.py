"""What sharded weights (FSDP) would save: weights, gradients and AdamW's moments beside the activations.

    python benchmarks/sharding.py

Shards divide the first three by the number of processes; the activations stay where they are. What is
counted as activations is what a forward pass keeps for the backward pass, every storage once and without
the weights, in float32. It is linear in the batch, so that two small batches tell of a usual one.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from recording import record
from torch import Tensor, nn
from training_speed import draw_batch, make_model

from mdnet.models.mdnet import MDNet
from mdnet.training.configuration import TrainingConfig
from mdnet.training.optimisation import build_optimizer

MODELS = ("mdnet_tiny", "mdnet_base", "mdnet_resnet50")
BATCH = 32  # studies a process
SMALL = (2, 4)
PROCESSES = (2, 8)
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    rows = [row_of(name) for name in options.models]
    record(
        "sharding",
        rows,
        title="What sharding the weights would save",
        reading=f"MiB a process, {BATCH} studies of six sections of 16 words. Whole: weights, gradients and "
        "AdamW's two moments of a replica. Saved: the share of whole and activations that shards over so "
        "many processes do without, at most: what is gathered for the time being is not counted.",
    )


def row_of(name: str) -> dict[str, Any]:
    """One model's memory."""
    model = make_model(name).train()
    optimizer = build_optimizer(model, TrainingConfig(data=".", out="."))
    few, more = (kept_by_forward(model, size) for size in SMALL)
    study = (more - few) / (SMALL[1] - SMALL[0])
    activations = few + (BATCH - SMALL[0]) * study
    model(*arguments(model, 2)).loss.backward()
    optimizer.step()
    weights = size_of(list(model.parameters()))
    gradients = size_of([p.grad for p in model.parameters() if p.grad is not None])
    moments = size_of([each for state in optimizer.state.values() for each in state.values()])
    whole = weights + gradients + moments
    row: dict[str, Any] = {
        "model": name,
        "weights": round(weights / MIB, 1),
        "gradients": round(gradients / MIB, 1),
        "AdamW": round(moments / MIB, 1),
        "activations": round(activations / MIB),
        "whole / activations": f"{whole / activations:.1%}",
    }
    for processes in PROCESSES:
        saved = whole * (1 - 1 / processes)
        row[f"saved by {processes}"] = f"{saved / (whole + activations):.1%}"
    return row


def kept_by_forward(model: MDNet, studies: int) -> int:
    """Bytes that a forward pass of so many studies keeps for the backward pass."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}
    alive = []  # a storage that is gone would give its place to another

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(*arguments(model, studies))
    return sum(kept.values())


def arguments(model: MDNet, studies: int) -> tuple[Any, ...]:
    batch = draw_batch(model, studies, seed=0)
    assert model.preprocessing is not None
    return model.preprocessing.normalise(batch.images), batch.labels, batch.tokens


def size_of(tensors: list[Tensor] | list[nn.Parameter]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


if __name__ == "__main__":
    main()
