"""One program for one process and for several: what the processes do together.

`python train.py ...` and `accelerate launch train.py ...` run the same code; accelerate finds out which it
is, on one machine or several (gloo on CPUs, NCCL on GPUs). Every process computes its share of a step, and
gradients are averaged: of replicas by DistributedDataParallel, of shards as `mdnet.training.sharding` says.
For a step in several processes to be the step that one would take, two things that are not sums over studies
are made one by hand: BatchNorm's statistics, here, and the numbers of labels and of words that the losses are
divided by, in `mdnet.training.trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from torch import Tensor, nn

from mdnet.errors import ConfigurationError
from mdnet.models.mdnet import MDNet
from mdnet.training.configuration import TrainingConfig
from mdnet.training.optimisation import build_optimizer, freeze
from mdnet.training.sharding import Twin, is_sharded, shard, sharding_plugin

__all__ = [
    "Prepared",
    "SynchronisedBatchNorm",
    "add_up",
    "make_accelerator",
    "prepare",
    "synchronise_batch_norm",
]

# The other processes wait where the main one validates and writes, and a large val split takes hours.
_PATIENCE = timedelta(hours=12)


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """The process's device, precision and fellow processes.

    Raises:
        ConfigurationError: The device has no such precision, or accelerate was launched for what is not
            done here.
    """
    try:
        accelerator = Accelerator(
            mixed_precision=config.precision,
            fsdp_plugin=sharding_plugin(config.precision),
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=_PATIENCE),
                DistributedDataParallelKwargs(
                    find_unused_parameters=config.schedule == "phases",  # L_L rests in the first of them
                    gradient_as_bucket_view=True,
                ),
            ],
        )
    except ValueError as error:
        raise ConfigurationError(f"precision {config.precision}: {error}; set precision to no") from error
    if config.precision != "no" and not accelerator.native_amp:  # accelerate would compute in float32
        raise ConfigurationError(
            f"precision {config.precision}: not on device {accelerator.device.type}; "
            "set precision to bf16 or no"
        )
    if accelerator.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_CPU,
        DistributedType.MULTI_GPU,
        DistributedType.FSDP,
    ):
        raise ConfigurationError(
            f"accelerate was launched for {accelerator.distributed_type.value}, and this trainer knows "
            "replicas and FSDP alone: launch it with --multi_gpu, or --use_fsdp --fsdp_version 2"
        )
    return accelerator


class Prepared(NamedTuple):
    """A model made ready to be trained by these processes.

    Attributes:
        model: What a step calls.
        bare: The same without the wrappers of several processes and mixed precision.
        optimizer: Of its parameters.
        twin: A whole one beside the sharded one; None where it is not sharded.
    """

    model: nn.Module
    bare: MDNet
    optimizer: AcceleratedOptimizer
    twin: Twin | None


def prepare(model: MDNet, config: TrainingConfig, accelerator: Accelerator) -> Prepared:
    """Makes the model one of the processes' replicas, or shards it; and its optimizer, which freezes first.

    Raises:
        ConfigurationError: `config.freeze` leaves nothing, or names nothing.
    """
    if is_sharded(accelerator):
        freeze(model, config.freeze)
        twin = Twin(model, accelerator)
        synchronise_batch_norm(model, accelerator)
        if config.compile:
            model.image.compile()
        shard(model, accelerator)
        optimizer = accelerator.prepare_optimizer(build_optimizer(model, config))
        return Prepared(model, model, optimizer, twin)
    if accelerator.device.type == "cpu":
        # Channels last is quicker on a CPU: 15 to 25% more images a second, measured at 128 px.
        nn.Module.to(model, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, config)
    synchronise_batch_norm(model, accelerator)
    if config.compile:
        model.image.compile()
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    # Without accelerate's wrapper around forward: validation computes in full precision, and a step
    # enters autocast by itself.
    return Prepared(wrapped, accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False), optimizer, None)


def add_up(accelerator: Accelerator, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scalars by name, each the sum over all processes; one exchange, and no process reads them."""
    if accelerator.num_processes == 1:
        return dict(values)
    summed = accelerator.reduce(torch.stack([value.double() for value in values.values()]), "sum")
    return {name: total.to(value.dtype) for (name, value), total in zip(values.items(), summed, strict=True)}


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is summed over them likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradients[0])


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """BatchNorm whose statistics are of the batches of all processes together, on any device.

    `torch.nn.SyncBatchNorm` refuses tensors of a CPU. Mean and variance are taken in two passes, each
    summed over the processes: a variance from sums of squares would lose half its digits. Processes may
    have unequal batches, and some of them none.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        x = input.to(self.running_mean.dtype)  # (B, C, H, W), not in half precision
        count = x.new_full((1,), x.numel() // self.num_features)
        sums = _SumOverProcesses.apply(torch.cat([x.sum(dim=(0, 2, 3)), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def synchronise_batch_norm(model: nn.Module, accelerator: Accelerator) -> None:
    """Lets every BatchNorm of a model see the batches of all processes.

    Names of weights and statistics stay, so what several processes write one can load.
    """
    if accelerator.num_processes == 1:
        return
    if accelerator.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedBatchNorm  # the same tensors, the same names, another forward
