"""The training loop.

`Trainer` takes a model and loaded studies and trains it by the joint objective (formula 6 of
docs/method.md), in one process or as one of several. What a run reads and writes beside checkpoints is
`mdnet.training.run`'s.

A step is of `accumulate` batches in each process. All of them are fetched first, so that the numbers of
labels and of words in the whole step are known, and every batch's sum of losses is divided by these: the
gradient is that of one large batch, whatever is missing in which part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from mdnet.data.loading import StudyBatch, StudyDataset, make_loader
from mdnet.data.sampling import StepSampler
from mdnet.data.study import MISSING
from mdnet.explain.layers import set_training_mode
from mdnet.models.mdnet import MDNet
from mdnet.models.objective import loss_counts, loss_terms
from mdnet.training.averaging import WeightAverage
from mdnet.training.between_epochs import check_end_epoch, end_epoch
from mdnet.training.configuration import TrainingConfig
from mdnet.training.distributed import add_up, make_accelerator, prepare
from mdnet.training.failure import stop_at
from mdnet.training.history import Row
from mdnet.training.memory import explain_memory, with_fewer
from mdnet.training.optimisation import set_learning_rate
from mdnet.training.progress import Progress
from mdnet.training.random_state import seed_everything
from mdnet.training.resuming import go_on, keep
from mdnet.training.schedules import StepValues, at_step, check_schedule
from mdnet.training.sharding import gradients_kept_apart, whole
from mdnet.training.state import BeforeStep, Place
from mdnet.training.validation import should_stop
from mdnet.training.watching import Watcher

__all__ = ["Trainer"]

Scalars = dict[str, Tensor]
OnEpoch = Callable[[list[Row], MDNet], None]


class StepSums(NamedTuple):
    """Of all processes: losses apart, how many diagnoses were `correct` and `known`, gradient's norm."""

    losses: Scalars
    diagnoses: Scalars
    norm: Tensor


class Trainer:
    """Trains a model.

    Args:
        model: Of random weights, or of weights to go on from.
        dataset: The training split.
        config: The run's configuration.
        validate: Called after every epoch, in the main process, with the model in evaluation mode; what it
            returns becomes part of the epoch's row.
        accelerator: Of `make_accelerator`; None makes one.
        watch: Makes what looks on in the main process, from the number of the first step to come.
        watched: The batch that it examines after every epoch.
        shards: Of every study, the number of the shard it lies in; see `mdnet.data.sampling.draw_epoch`.

    Raises:
        ConfigurationError: The model cannot be trained as `config` says.

    Attributes:
        bare: The model without the wrappers of several processes and mixed precision.
        twin: What is validated and saved where `bare` is sharded; else None.
        place: Where the run is.
        history: A row an epoch.
    """

    def __init__(
        self,
        model: MDNet,
        dataset: StudyDataset,
        config: TrainingConfig,
        *,
        validate: Callable[[MDNet], Row],
        accelerator: Accelerator | None = None,
        watch: Callable[[int], Watcher] | None = None,
        watched: StudyBatch | None = None,
        shards: npt.NDArray[np.int64] | None = None,
    ) -> None:
        assert model.preprocessing is not None
        check_schedule(config, has_heads=model.heads is not None, has_sections=model.report is not None)
        self.config, self.validate, self.preprocessing = config, validate, model.preprocessing
        self.accelerator = accelerator or make_accelerator(config)
        check_end_epoch(model, config, self.accelerator)
        self.device = self.accelerator.device
        self.sampler = StepSampler(
            len(dataset),
            seed=config.seed,
            batch_size=config.batch_size,
            accumulate=config.accumulate,
            processes=self.accelerator.num_processes,
            process=self.accelerator.process_index,
            shards=shards,
        )
        self.dataset = dataset
        self.loader = make_loader(dataset, batches=self.sampler, workers=config.workers)
        self.steps = self.sampler.steps * config.epochs
        terms = loss_terms(
            dataset.studies,
            model.config.space,
            label_smoothing=config.label_smoothing,
            imbalance=config.imbalance,
        )
        self.terms = None if terms is None else terms.to(self.device)

        self.model, self.bare, self.optimizer, self.twin = prepare(model, config, self.accelerator)
        self.average = WeightAverage(self.bare, config.ema) if config.ema else None
        if process := self.accelerator.process_index:
            seed_everything(config.seed + process)  # dropout masks of its own
        self.before = BeforeStep(self.bare, self.device)
        self.place, self.history = Place(), list[Row]()
        self.watch, self.watched = watch, watched
        self.watcher: Watcher | None = None

    @property
    def step_number(self) -> int:
        """Steps taken, of `steps`."""
        return self.place.epoch * self.sampler.steps + self.place.step

    def train(self, run: Path, *, resume: bool, on_epoch: OnEpoch) -> list[Row]:
        """Trains to the last epoch, or until `config.patience` epochs were no better.

        Args:
            run: Folder of the checkpoints, one written after every epoch.
            resume: Go on from the newest of them where there is one.
            on_epoch: Called in the main process with the history so far and the model that was validated
                after every epoch; and where a run goes on from the end of an epoch, for it may have been
                killed between checkpoint and call.

        Returns:
            The history, a row an epoch.
        """
        self.run = run
        if resume and go_on(self, run) and self.history and self.place.step == 0:
            self.finish_epoch(on_epoch)
        images = self.dataset.image_count / self.sampler.size
        main = self.accelerator.is_main_process
        with (
            self.watching(),
            Progress(self.steps, initial=self.step_number, enabled=main, images=images) as progress,
        ):
            while len(self.history) < self.config.epochs and not self.stops_early():
                row = self.epoch(progress)
                end_epoch(self)
                row |= self.validated(row)
                self.history.append(row)
                self.place = Place(epoch=len(self.history))
                keep(self, run)
                self.finish_epoch(on_epoch)
                progress.end_epoch(row)
        return self.history

    def epoch(self, progress: Progress) -> Row:
        """The rest of a pass over the training split; the row of the whole of it."""
        set_training_mode(self.bare)
        place, sampler = self.place, self.sampler
        sampler.set_epoch(place.epoch, done=place.step)
        batches = iter(self.loader)
        begun = time.perf_counter() - place.seconds
        for step in range(place.step, sampler.steps):
            shares = sampler.shares(step)
            taken = [
                batch.first(share) for batch, share in zip(islice(batches, len(shares)), shares, strict=True)
            ]
            try:
                sums = self.step(taken, self.step_number)
            except RuntimeError as error:
                explain_memory(self, taken, error)
                raise
            place.add(*sums)
            place.seconds = time.perf_counter() - begun
            progress.update(sampler.studies(step), sums.losses, _share(sums.diagnoses))
            every = self.config.checkpoint_steps
            if every and self.step_number % every == 0 and place.step < sampler.steps:
                keep(self, self.run)
        row: Row = place.row()
        row["images_per_second"] = self.dataset.image_count / (time.perf_counter() - begun)
        return row

    def step(self, batches: Sequence[StudyBatch], number: int) -> StepSums:
        """One step of the joint objective.

        Args:
            batches: This process's share of it.
            number: Of the step in the run, from 0.

        Raises:
            TrainingError: A gradient is no number, in full precision too.
        """
        config, accelerator = self.config, self.accelerator
        values = at_step(config, number, self.steps)
        set_learning_rate(self.optimizer, values.learning_rate_factor)
        batches = [batch.to(self.device, non_blocking=True) for batch in batches]
        counts = self.counts(batches)
        self.before.keep()
        losses, diagnoses = self.gradients(batches, counts, values)
        norm = whole(accelerator.clip_grad_norm_(self.model.parameters(), config.clip))
        # The one value of a step that is waited for, as a GradScaler does, too: a step that is no number
        # would spoil the weights. It is the same in all processes, which so agree on what follows.
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            losses, diagnoses, norm = self.step_again(batches, counts, values)
            if not torch.isfinite(norm):
                stop_at(self, batches, number, losses)
            self.optimizer.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.bare)
        if self.watcher is not None:
            rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
            studies = self.sampler.studies(self.place.step)
            self.watcher.on_step(number, losses, norm, rates, studies)
        return StepSums(losses, diagnoses, norm)

    def counts(self, batches: Sequence[StudyBatch]) -> Scalars:
        """Labels and words in the whole step, in all processes: what the sums of losses are divided by."""
        config = self.bare.config
        each = [loss_counts(batch.labels, batch.tokens, config.space, config.pad_id) for batch in batches]
        return add_up(
            self.accelerator, {name: torch.stack([one[name] for one in each]).sum() for name in each[0]}
        )

    def gradients(
        self, batches: Sequence[StudyBatch], counts: Scalars, values: StepValues, *, full: bool = False
    ) -> tuple[Scalars, Scalars]:
        """Adds up the gradient of a step in the parameters.

        Args:
            batches: This process's share of the step.
            counts: Of labels and of words in the whole of it.
            values: What the schedules say.
            full: In full precision, and unscaled.

        Returns:
            The losses apart, and how many diagnoses were `correct` and `known`, of all processes.
        """
        losses, diagnoses = Scalars(), Scalars()
        for batch in batches:
            waits = batch is not batches[-1]  # the processes exchange gradients once a step
            with gradients_kept_apart(self.model, self.accelerator) if waits else nullcontext():
                with nullcontext() if full else self.accelerator.autocast():
                    output = self.model(
                        self.pixel_values(batch),
                        batch.labels,
                        batch.tokens if values.language else None,
                        present=batch.present,
                        beta=values.beta,
                        eta=values.eta,
                        counts=counts,
                        terms=self.terms,
                        sampling=values.sampling,
                    )
                # Their gradients are averaged; that of a sum is wanted.
                loss = output.loss * self.accelerator.num_processes
                loss.backward() if full else self.accelerator.backward(loss)
            _add(losses, {name: each.detach() for name, each in output.losses.items()})
            _add(diagnoses, self.diagnoses(output.logits, batch))
            del output, loss  # their features, which would lie beside those of the next batch
        sums = add_up(self.accelerator, losses | diagnoses)
        return {name: sums[name] for name in losses}, {name: sums[name] for name in diagnoses}

    def step_again(self, batches: Sequence[StudyBatch], counts: Scalars, values: StepValues) -> StepSums:
        """The gradient of a step once more, in full precision, from the state before it."""
        self.before.put_back()
        self.optimizer.zero_grad()
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()  # it saw the overflow: it scales less from now on
        losses, diagnoses = self.gradients(batches, counts, values, full=True)
        norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        return StepSums(losses, diagnoses, norm)

    def pixel_values(self, batch: StudyBatch) -> Tensor:
        """The batch's images normalised, in the model's number format, (B, C, H, V W)."""
        pixel_values = self.preprocessing.normalise(batch.images).to(self.bare.dtype)
        if self.device.type == "cpu":
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        return pixel_values

    def diagnoses(self, logits: Scalars | None, batch: StudyBatch) -> Scalars:
        """How many diagnoses of a batch were right, and how many are known; nothing without a diagnosis."""
        name = self.bare.config.space.diagnosis
        if logits is None or name is None or self.bare.config.space[name].multi_label:
            return {}
        known = batch.labels[name] != MISSING
        correct = (logits[name].argmax(dim=1) == batch.labels[name]) & known
        return {"correct": correct.sum(), "known": known.sum()}

    def validated(self, row: Row) -> Row:
        """What the validation adds to an epoch's row; the main process computes it and tells the others."""
        added: list[Row] = [{}]
        with self.looked_at() as model:
            if model is not None:
                added = [self.validate(model.eval())]
                added[0] |= self.examined(row | added[0], model)
        broadcast_object_list(added)
        return added[0]

    def examined(self, row: Row, model: MDNet) -> Row:
        """What the watcher adds to it."""
        if self.watcher is None or self.watched is None:
            return {}
        watcher, batch = self.watcher, self.watched.to(self.device)
        found, _ = with_fewer(
            lambda studies: watcher.on_epoch(row, model, batch.first(studies)),
            at_once=len(batch.ids),
            what="gradient flow",
        )
        return found

    def finish_epoch(self, on_epoch: OnEpoch) -> None:
        """Lets the main process write the epoch's files; the others go on when it has."""
        with self.looked_at() as model:
            if model is not None:
                on_epoch(self.history, model)
        self.accelerator.wait_for_everyone()

    def stops_early(self) -> bool:
        """Whether the last epochs were no better than one before."""
        return should_stop(self.history, self.config.metric, self.config.patience)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The main process is watched, if it is to be."""
        if self.watch is None or not self.accelerator.is_main_process:
            yield
            return
        with self.watch(self.step_number) as self.watcher:
            yield

    @contextmanager
    def looked_at(self) -> Iterator[MDNet | None]:
        """In the main process the model as it is validated and saved: averaged, and whole; in others None.

        All processes must enter.
        """
        with nullcontext() if self.average is None else self.average.applied(self.bare):
            if self.twin is None:
                yield self.bare if self.accelerator.is_main_process else None
            else:
                with self.twin.of(self.bare) as twin:
                    yield twin


def _share(diagnoses: Scalars) -> Tensor | None:
    """Of the known diagnoses, how many were right; on the device."""
    return diagnoses["correct"] / diagnoses["known"].clamp_min(1) if diagnoses else None


def _add(sums: Scalars, values: Scalars) -> None:
    for name, value in values.items():
        sums[name] = sums[name] + value if name in sums else value
