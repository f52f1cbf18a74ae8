"""The training loop.

`Trainer` takes a model and loaded studies and trains it by the joint objective (formula 6 of
docs/method.md). What a run reads and writes is `mdnet.training.run`'s.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mdnet.data.loading import SeededSampler, StudyBatch, StudyDataset, make_loader
from mdnet.models.mdnet import MDNet
from mdnet.training.checkpoint import load_checkpoint, save_checkpoint
from mdnet.training.configuration import TrainingConfig
from mdnet.training.schedules import scheduled, warmup_cosine

__all__ = ["Trainer"]

_log = logging.getLogger(__name__)

Row = dict[str, float]


class Trainer:
    """Trains a model.

    Args:
        model: Of random weights, or of weights to go on from.
        dataset: The training split.
        config: The run's configuration.
        validate: Called after every epoch with the model in evaluation mode; what it returns
            becomes part of the epoch's row.
    """

    def __init__(
        self, model: MDNet, dataset: StudyDataset, config: TrainingConfig, *, validate: Callable[[MDNet], Row]
    ) -> None:
        self.config = config
        self.validate = validate
        self.accelerator = Accelerator(mixed_precision=config.precision)
        self.sampler = SeededSampler(len(dataset), seed=config.seed)
        self.loader: DataLoader[Any] = make_loader(
            dataset, batch_size=config.batch_size, sampler=self.sampler, workers=config.workers
        )
        self.steps = len(self.loader) * config.epochs
        self.image_count = dataset.image_count
        if self.accelerator.device.type == "cpu":
            # Channels last is quicker on a CPU: 15 to 25% more images a second, measured at 128 px.
            nn.Module.to(model, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        assert model.preprocessing is not None
        self.preprocessing = model.preprocessing

    def train(self, checkpoint: Path, *, resume: bool, on_epoch: Callable[[list[Row]], None]) -> list[Row]:
        """Trains to the last epoch.

        Args:
            checkpoint: Folder of the checkpoint, written after every epoch.
            resume: Go on from it where it is there.
            on_epoch: Called with the history so far after every epoch, and where a run goes on.

        Returns:
            The history, a row an epoch.
        """
        history: list[Row] = []
        # Without accelerate's wrapper around forward: validation computes in full precision, and a
        # step enters autocast by itself.
        bare = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if resume and (progress := load_checkpoint(checkpoint, bare, self.optimizer.optimizer)) is not None:
            history = progress["history"]
            _log.info("goes on after epoch %d of %d", len(history), self.config.epochs)
            on_epoch(history)  # again: the run may have been killed between checkpoint and call
        done = len(history) * len(self.loader)
        quiet = not sys.stderr.isatty() or not self.accelerator.is_main_process
        with (
            tqdm(total=self.steps, initial=done, disable=quiet, unit="step") as bar,
            logging_redirect_tqdm(),  # a log line goes above the bar, not into it
        ):
            for epoch in range(len(history), self.config.epochs):
                row = self.epoch(epoch, bar)
                row |= self.validate(bare.eval())
                history.append(row)
                if self.accelerator.is_main_process:
                    save_checkpoint(checkpoint, bare, self.optimizer.optimizer, {"history": history})
                    on_epoch(history)
                _log.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        return history

    def epoch(self, epoch: int, bar: tqdm[Any]) -> Row:
        """One pass over the training split; its mean losses."""
        self.model.train()
        self.sampler.set_epoch(epoch)
        begun = time.perf_counter()
        sums: dict[str, Tensor] = {}  # stay on the device: reading one there would wait for it
        for step, batch in enumerate(self.loader, start=epoch * len(self.loader)):
            losses = self.step(batch, step)
            for name, loss in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(loss)) + loss.detach()
            bar.update()
            if not bar.disable and step % 10 == 0:
                shown = {name: f"{loss.item():.3f}" for name, loss in losses.items()}
                bar.set_postfix(epoch=epoch + 1, **shown)
        seconds = time.perf_counter() - begun
        row: Row = {"epoch": epoch + 1}
        row |= {f"train_{name}_loss": total.item() / len(self.loader) for name, total in sums.items()}
        row["images_per_second"] = self.image_count / seconds
        return row

    def step(self, batch: StudyBatch, step: int) -> dict[str, Tensor]:
        """One step of the joint objective; the losses apart."""
        config, progress = self.config, step / self.steps
        factor = warmup_cosine(step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        batch = batch.to(self.accelerator.device, non_blocking=True)
        pixel_values = self.preprocessing.normalise(batch.images)
        if self.accelerator.device.type == "cpu":
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            output = self.model(
                pixel_values,
                batch.labels,
                batch.tokens,
                present=batch.present,
                beta=scheduled(config.schedule, config.beta, progress),
                eta=scheduled(config.schedule, config.eta, progress),
            )
        self.accelerator.backward(output.loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        losses: dict[str, Tensor] = output.losses
        return losses


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels with weight decay, vectors (biases, BatchNorm) without."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
