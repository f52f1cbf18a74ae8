"""What is said when a batch does not fit in memory: how many studies would, and how to go on with them.

A batch may be taken in parts (`accumulate`): the step is then of as many studies, and its gradient is the
same but for the statistics of BatchNorm, which are those of each part. What looks at the model after an epoch
goes on with fewer studies by itself, for the result is the same.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch.nn.modules.batchnorm import _BatchNorm

from mdnet.data.loading import StudyBatch
from mdnet.errors import TrainingError
from mdnet.explain.layers import restored_modes, set_training_mode
from mdnet.training.random_state import set_torch_state, torch_state

if TYPE_CHECKING:
    from mdnet.training.trainer import Trainer

__all__ = ["explain_memory", "fits", "with_fewer"]

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


def explain_memory(trainer: Trainer, batches: Sequence[StudyBatch], error: RuntimeError) -> None:
    """Finds the largest part of a step's batches that fits, where the step failed for want of memory.

    Args:
        trainer: In the middle of a step; its checkpoints stay as they are.
        batches: Of the step.
        error: That ended the step. If it is about anything else, nothing is done.

    Raises:
        TrainingError: It names the batch size that fits and what to set.
    """
    if not should_reduce_batch_size(error):
        return
    traceback.clear_frames(error.__traceback__)  # they hold the failed step's tensors
    trainer.optimizer.zero_grad()
    config = trainer.config
    largest = max(batches, key=lambda batch: len(batch.ids))
    asked = f"batch_size {config.batch_size} does not fit in the memory of {trainer.device}"
    sharded = trainer.twin is not None  # a forward pass would wait for the other processes
    for size in _parts(config.batch_size):
        if size < len(largest.ids) and (sharded or fits(trainer, largest.first(size))):
            accumulate = config.accumulate * config.batch_size // size
            raise TrainingError(
                f"{asked}; {size} {'may' if sharded else 'does'}: --batch-size {size} --accumulate "
                f"{accumulate} takes steps of as many studies, and --resume auto goes on from the last "
                "checkpoint"
            ) from error
    raise TrainingError(f"{asked}, and no part of it does; take a smaller model or image_size") from error


def fits(trainer: Trainer, batch: StudyBatch) -> bool:
    """Whether a forward and a backward pass of a batch fit in memory, beside AdamW's two moments.

    Weights, gradients, moments, BatchNorm's statistics and the random state stay as they are.
    """
    clear_device_cache(garbage_collection=True)
    model = trainer.bare
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state = torch_state(trainer.device)
    try:
        with restored_modes(model):
            set_training_mode(model)
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()  # it collects no statistics, and waits for no other process
            moments = [] if trainer.optimizer.state else [torch.empty_like(p) for p in trained * 2]
            batch = batch.to(trainer.device)
            with trainer.accelerator.autocast():
                loss = model(
                    trainer.pixel_values(batch),
                    batch.labels,
                    batch.tokens,
                    present=batch.present,
                    terms=trainer.terms,
                ).loss
            # Not `backward`, which adds to the gradients and makes other processes wait for theirs.
            torch.autograd.grad(loss, trained, allow_unused=True)
            del moments
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        set_torch_state(state, trainer.device)
    return True


def with_fewer(look: Callable[[int], Result], *, at_once: int, what: str) -> tuple[Result, int]:
    """What `look` gives with so many studies at once, or with half of them for as long as memory runs out.

    Args:
        look: Takes the number of studies at once.
        at_once: The first to be tried.
        what: `look` is about, for what is said.

    Returns:
        Its result, and the number that fitted.

    Raises:
        TrainingError: A single study does not fit.
    """
    while True:
        try:
            return look(at_once), at_once
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if at_once == 1:
                raise TrainingError(
                    f"{what}: one study does not fit in memory, beside what training keeps there; take a "
                    "smaller model or image_size"
                ) from error
            traceback.clear_frames(error.__traceback__)
        _log.warning("%s: %d studies do not fit in memory at once; goes on with half of them", what, at_once)
        at_once //= 2
        clear_device_cache(garbage_collection=True)


def _parts(size: int) -> list[int]:
    """The proper divisors of a batch size, the largest first."""
    return [part for part in range(size // 2, 0, -1) if size % part == 0]
