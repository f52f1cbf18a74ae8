"""What is left behind by a step whose gradient is no number, in full precision too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from accelerate.utils import gather_object
from torch import Tensor

from mdnet.data.loading import StudyBatch
from mdnet.errors import TrainingError
from mdnet.files import write_text
from mdnet.training.resuming import keep

if TYPE_CHECKING:
    from mdnet.training.trainer import Trainer

__all__ = ["FAILED_BATCH", "stop_at"]

FAILED_BATCH = "failed_batch.json"


def stop_at(
    trainer: Trainer, batches: Sequence[StudyBatch], step: int, losses: Mapping[str, Tensor]
) -> NoReturn:
    """Writes the studies of the step and a checkpoint of the state before it, and ends the run.

    `failed_batch.json` has the `step`, counted from 0, the `losses` and the ids of the `studies` of all
    processes. `--resume auto` takes this very step again.

    Raises:
        TrainingError: Always, in every process.
    """
    studies = gather_object([name for batch in batches for name in batch.ids])
    trainer.before.put_back()
    keep(trainer, trainer.run)
    values = {name: f"{loss.item():.3g}" for name, loss in losses.items()}
    path = trainer.run / FAILED_BATCH
    if trainer.accelerator.is_main_process:
        record = {"step": step, "losses": values, "studies": studies}  # losses as text: JSON has no NaN
        write_text(path, json.dumps(record, indent=1) + "\n")
    trainer.accelerator.wait_for_everyone()
    shown = ", ".join(studies[:3]) + (f" and {len(studies) - 3} more" if len(studies) > 3 else "")
    told = ", ".join(f"{name} {value}" for name, value in values.items())
    raise TrainingError(
        f"step {step}: the gradient is no number, in full precision too ({told}; studies {shown}, "
        f"all named in {path}); check these studies with `mdnet data check`, or lower learning_rate"
    )
