"""What heads set between epochs, with C(I) of the whole training split before them (`Heads.end_epoch`).

The main process computes it, and the others take over what it has set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from mdnet.data.loading import make_loader
from mdnet.errors import ConfigurationError
from mdnet.explain.layers import restored_modes
from mdnet.models.heads import Heads
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet
from mdnet.training.configuration import TrainingConfig
from mdnet.training.sharding import is_sharded

if TYPE_CHECKING:
    from mdnet.training.trainer import Trainer

__all__ = ["check_end_epoch", "end_epoch"]

_BAR_AFTER = 2.0  # seconds


def check_end_epoch(model: MDNet, config: TrainingConfig, accelerator: Accelerator) -> None:
    """Raises `ConfigurationError` where what heads set between epochs would not stay."""
    if not _sets_something(model):
        return
    name = model.config.architecture
    if config.ema:
        raise ConfigurationError(
            f"ema {config.ema}: the heads of {name} set weights between epochs, and an average over steps is "
            "not what they set; set ema to 0"
        )
    if is_sharded(accelerator):
        raise ConfigurationError(
            f"the heads of {name} set weights between epochs, for which these must be whole: launch without "
            "--use_fsdp (docs/training.md)"
        )


@torch.no_grad()
def end_epoch(trainer: Trainer) -> None:
    """Lets the heads of a model that is trained set what they set; all processes must call it."""
    model, accelerator = trainer.bare, trainer.accelerator
    if not _sets_something(model):
        return
    assert model.heads is not None
    if accelerator.is_main_process:
        with restored_modes(model):
            model.eval()
            model.heads.end_epoch(_training_split(trainer))
    if accelerator.num_processes > 1:
        for tensor in itertools.chain(model.heads.parameters(), model.heads.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def _sets_something(model: MDNet) -> bool:
    return model.heads is not None and type(model.heads).end_epoch is not Heads.end_epoch


def _training_split(trainer: Trainer) -> Iterator[tuple[ImageFeatures, dict[str, Tensor]]]:
    """C(I) and labels, in the order of the studies; no more of them at once than a step takes."""
    config = trainer.config
    batches = make_loader(trainer.dataset, batch_size=config.batch_size, workers=config.workers)
    for batch in tqdm(batches, unit="batch", delay=_BAR_AFTER, leave=False, disable=None):
        there = batch.to(trainer.device, non_blocking=True)
        yield trainer.bare.encode(trainer.pixel_values(there), there.present), there.labels
