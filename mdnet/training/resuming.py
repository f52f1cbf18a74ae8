"""How a trainer is kept in a checkpoint, and goes on from one to the same bits.

Besides weights, optimizer and average that is: the place in the epoch with its sums, the history, the
scale of fp16 gradients, and the random state of every process. Loader processes have no state to keep
(`mdnet.data.sampling`). One process writes, and all read; the run folder is one that all of them see.

Sharded weights are written whole: any number of processes, with shards or without, goes on from them.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list, gather_object
from safetensors import SafetensorError

from mdnet.errors import ConfigurationError, WeightsError
from mdnet.training.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint, save_checkpoint
from mdnet.training.random_state import random_state, set_random_state
from mdnet.training.sharding import gathered, part_like
from mdnet.training.state import Place, load_optimizer_tensors, optimizer_tensors

if TYPE_CHECKING:
    from mdnet.training.trainer import Trainer

__all__ = ["go_on", "keep"]

_log = logging.getLogger(__name__)


def keep(trainer: Trainer, run: Path) -> None:
    """Writes a checkpoint of where the trainer is.

    One that cannot be written, as on a full disk, is an error in the log and no more: the earlier ones
    are there, the next one may succeed, and stopping would lose what training on may still save.
    """
    accelerator = trainer.accelerator
    states = gather_object([random_state(trainer.device)])  # of every process
    parts = {
        "model": trainer.bare.state_dict(),
        "optimizer": optimizer_tensors(trainer.bare, trainer.optimizer.optimizer),
    }
    if trainer.average is not None:
        parts["average"] = trainer.average.state_dict()
    tensors = {name: gathered(content, accelerator) for name, content in parts.items()}
    if not accelerator.is_main_process:
        return
    place = dataclasses.asdict(trainer.place)
    tensors |= {"sums": place.pop("sums"), **{f"random-{n}": state for n, state in enumerate(states)}}
    progress: dict[str, Any] = {
        "place": place,
        "history": trainer.history,
        "step_size": trainer.sampler.step_size,
        "processes": accelerator.num_processes,
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }
    try:
        save_checkpoint(run, trainer.step_number, tensors, progress)
    except OSError as error:
        last = list_checkpoints(run)
        _log.error(
            "the checkpoint of step %d could not be written (%s); training goes on, but a kill now costs all "
            "since %s: free some space",
            trainer.step_number,
            error.strerror or error,
            last[-1] if last else "the beginning",
        )


def go_on(trainer: Trainer, run: Path) -> bool:
    """Puts the trainer where the newest whole checkpoint was written; False where there is none.

    Raises:
        WeightsError: None of the checkpoints is whole, or it is of another model.
        ConfigurationError: It was written within an epoch, by steps of another size.
    """
    accelerator = trainer.accelerator
    found = [str(newest_checkpoint(run) or "")] if accelerator.is_main_process else [""]
    broadcast_object_list(found)
    if not found[0]:
        return False
    folder = Path(found[0])
    tensors, progress = load_checkpoint(folder)
    place = Place(**progress["place"])
    if place.step and progress["step_size"] != trainer.sampler.step_size:
        raise ConfigurationError(
            f"{folder}: written within an epoch, of steps of {progress['step_size']} studies, now "
            f"{trainer.sampler.step_size}; go on with {progress['processes']} processes"
        )
    try:
        own = trainer.bare.state_dict()
        trainer.bare.load_state_dict(
            {name: part_like(each, own.get(name, each)) for name, each in tensors["model"].items()}
        )
        load_optimizer_tensors(trainer.bare, trainer.optimizer.optimizer, tensors["optimizer"])
        if trainer.average is not None:
            trainer.average.load_state_dict(tensors["average"])
        if accelerator.scaler is not None and progress["scaler"] is not None:
            accelerator.scaler.load_state_dict(progress["scaler"])
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{folder}: this checkpoint does not fit the run ({reason}); "
            "train with the configuration that wrote it, or into another --out"
        ) from error
    place.sums = {name: value.to(trainer.device) for name, value in tensors["sums"].items()}
    trainer.place, trainer.history = place, progress["history"]
    if (state := tensors.get(f"random-{accelerator.process_index}")) is not None:
        set_random_state(state, trainer.device)
    if progress["processes"] != accelerator.num_processes:
        _log.warning(
            "%s: written by %d processes, now %d: the run goes on, but not to the same bits",
            folder,
            progress["processes"],
            accelerator.num_processes,
        )
    _log.info(
        "goes on from %s: %d of %d epochs and %d of %d steps of the next are done",
        folder.name,
        place.epoch,
        trainer.config.epochs,
        place.step,
        trainer.sampler.steps,
    )
    return True
