"""Sharded weights: every process keeps a part of each weight, of its gradient and of AdamW's moments.

`accelerate launch --use_fsdp --fsdp_version 2 train.py ...` asks for it [1], and torch's `fully_shard` does
it; not through `Accelerator.prepare`, which shards on GPUs alone and makes units of its own.

A unit is gathered whole when its `forward` is called. Each stage of the image module is one: whole in its own
forward and backward pass only. All else is the root's unit, whole from the beginning of a forward pass to the
end of the backward pass, since heads, attention and report module are used by other methods than `forward`
(class weights, one word's step), before which nothing would gather them. Statistics of BatchNorm are not
sharded. The numbers are those of replicas: gradients are summed in the format of the weights.

References:
    1. Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", VLDB 2023,
       arXiv 2304.11277.
"""

from __future__ import annotations

import copy
import itertools
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from mdnet.errors import ConfigurationError
from mdnet.models.mdnet import MDNet

__all__ = [
    "Twin",
    "gathered",
    "gradients_kept_apart",
    "is_sharded",
    "own_part",
    "part_like",
    "shard",
    "sharding_plugin",
    "whole",
]


def sharding_plugin(precision: str) -> FullyShardedDataParallelPlugin | None:
    """What accelerate is told of the sharding that it was launched for; None where it was not.

    Raises:
        ConfigurationError: It was launched for what is not done here, or in fp16.
    """
    if not _launched_for_it():
        return None
    # Every process loads the weights: transformers would else leave those of all but the first empty.
    plugin = FullyShardedDataParallelPlugin(cpu_ram_efficient_loading=False)
    refused = {
        "--fsdp_version 1": plugin.fsdp_version != 2,
        "--fsdp_reshard_after_forward false": plugin.fsdp_version == 2 and not plugin.reshard_after_forward,
        "--fsdp_offload_params true": os.environ.get("FSDP_OFFLOAD_PARAMS", "false") == "true",
        "--fsdp_activation_checkpointing true": plugin.activation_checkpointing,
    }
    for option, asked in refused.items():
        if asked:
            raise ConfigurationError(
                f"accelerate was launched with {option}, which this trainer does not know: launch it with "
                "--use_fsdp --fsdp_version 2 alone, or with --multi_gpu (docs/training.md)"
            )
    if precision == "fp16":
        raise ConfigurationError("precision fp16: not with sharded weights; set precision to bf16 or no")
    return plugin


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether weights are to be sharded; on CPUs accelerate calls that `MULTI_CPU`, as it does replicas."""
    return _launched_for_it() and accelerator.distributed_type != DistributedType.NO


def shard(model: MDNet, accelerator: Accelerator) -> None:
    """Shards a model in place, from the first process's weights; its parameters are others afterwards."""
    nn.Module.to(model, accelerator.device)
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        dist.broadcast(tensor.detach(), src=0)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for unit in (*model.image.stages, model):
        fully_shard(unit, mesh=mesh)
    # Some outputs are views, and whoever changed one in place would lose a hook: nobody does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")


class Twin:
    """A whole model beside a sharded one, for what the main process does alone; the others have none.

    It lies in the main memory, and on the device inside `of`.

    Args:
        model: Of which it is a copy; before it is sharded.
        accelerator: Of the processes.
    """

    def __init__(self, model: MDNet, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.model = copy.deepcopy(model) if accelerator.is_main_process else None

    @contextmanager
    def of(self, sharded: MDNet) -> Iterator[MDNet | None]:
        """The twin with the weights of the sharded model in the main process; None in others.

        All processes must enter.
        """
        weights = gathered(sharded.state_dict(), self.accelerator)
        if self.model is None:
            yield None
            return
        self.model.load_state_dict(weights)
        nn.Module.to(self.model, self.accelerator.device)  # transformers' own has no types
        try:
            yield self.model
        finally:
            nn.Module.to(self.model, "cpu")


@contextmanager
def gradients_kept_apart(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Inside the block a backward pass exchanges no gradients: a later one does, with the sum of all."""
    if not isinstance(model, FSDPModule):
        with accelerator.no_sync(model):
            yield
        return
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all processes, who must all ask; one that is not sharded is itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has; not a copy."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which all processes have, sharded as another one is."""
    if not isinstance(like, DTensor):
        return tensor
    placed = tensor.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def gathered(tensors: Mapping[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    """Tensors made whole one after the other, those that were sharded on the CPU of the main process.

    All processes must call it with the same names; the others are left with what is not sharded.
    """
    kept = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            kept[name] = tensor
            continue
        full = whole(tensor.detach())
        if accelerator.is_main_process:
            kept[name] = full.cpu()
    return kept


def _launched_for_it() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
