"""What a person watches a run by, written while it runs.

In the run folder:

- `tensorboard/`: event files (`mdnet.training.events`). Every ten steps the losses apart and joint,
  learning rates, gradient norm, speed and memory; after every epoch its row, gradient flow by layer,
  dead units, attention by section, histograms of weights and gradients, and the sample reports;
- `samples.png`: a few fixed studies after the last epoch, with evidence, attention and both reports;
- `health.json`: the tables of the last epoch's examination (`mdnet.training.health`).

What looks wrong is logged as a warning after the epoch, a line each. Nothing here changes a training:
no random number is drawn that is not put back, and a full disk is said and survived.
"""

from __future__ import annotations

import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mdnet.data.loading import StudyBatch, StudyDataset, collate
from mdnet.data.study import Study
from mdnet.explain.layers import restored_modes
from mdnet.files import write_bytes, write_text
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet
from mdnet.report.samples_picture import samples_picture
from mdnet.training.events import EventWriter
from mdnet.training.health import Health, collapse_warning, examine, gradients_kept, uncompiled
from mdnet.training.history import Row
from mdnet.training.random_state import random_state, set_random_state

__all__ = ["Watcher", "watched_batch"]

_log = logging.getLogger(__name__)

WINDOW = 10  # steps between two looks at what the device holds: a look waits for it
SHOWN = 4  # studies whose reports are drawn
MOST_LINES = 8  # warnings logged an epoch
HISTOGRAM_VALUES = 100_000  # of a part, evenly spread; a histogram of more looks the same

Item = TypeVar("Item")


def watched_batch(model: MDNet, studies: Sequence[Study], *, size: int = 16) -> StudyBatch:
    """The fixed batch that `Watcher.on_epoch` examines: studies evenly spread over those given.

    Draws nothing at random, and so leaves the training's random state alone.
    """
    assert model.preprocessing is not None
    dataset = StudyDataset(
        _spread(studies, size),
        label_space=model.config.space,
        sections=model.config.sections,
        tokenizer=model.tokenizer,
        preprocessing=model.preprocessing,
        views=model.views,
    )
    items = [dataset[place] for place in range(len(dataset))]
    return collate(items, pad_id=model.config.pad_id, views=model.views)


class Watcher:
    """Watches a run; the main process has one.

    >>> with Watcher(out, studies=validation, step=done) as watcher:
    ...     watcher.on_step(step, losses, gradient_norm, {"image": 3e-3, "report": 3e-3}, len(batch.ids))
    ...     row |= watcher.on_epoch(row, model, batch)

    Args:
        out: Run folder.
        studies: Those that are validated (of the train split, where there is no other): their references
            are what the share of distinct reports is compared with, and a few of them are drawn.
        step: The first step to come; not 0 where a run goes on.
    """

    def __init__(self, out: Path, *, studies: Sequence[Study] = (), step: int = 0) -> None:
        self.out = out
        self.events = EventWriter(out / "tensorboard", step=step)
        self.references = [texts[0] for study in studies if (texts := study.references())]
        self.shown = _spread(studies, SHOWN)
        self._step = max(step - 1, 0)  # the last one made
        self._kept: list[tuple[dict[str, Tensor], Tensor]] = []  # losses and gradient norm of steps to write
        self._rates: dict[str, float] = {}
        self._since: float | None = None  # when the step before these ended; None: not begun
        self._until = 0.0  # when the last one did
        self._studies = 0  # seen in between

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def on_step(
        self,
        step: int,
        losses: Mapping[str, Tensor],
        gradient_norm: Tensor,
        learning_rates: Mapping[str, float],
        studies: int,
    ) -> None:
        """Keeps what a step made; it is read and written every ten steps.

        Args:
            step: Its number, from 0.
            losses: By name, scalars on any device.
            gradient_norm: Before it was clipped.
            learning_rates: By parameter group; groups of one part (`image.matrices`, `image.vectors`)
                have one rate.
            studies: Of the step, in all processes.
        """
        self._until = time.perf_counter()
        if self._since is None:
            self._since = self._until
        else:
            self._studies += studies
        self._kept.append(({name: loss.detach() for name, loss in losses.items()}, gradient_norm.detach()))
        self._rates = {group.partition(".")[0]: rate for group, rate in learning_rates.items()}
        self._step = step
        if len(self._kept) >= WINDOW:
            self._write_steps()

    def on_epoch(self, row: Row, model: MDNet, batch: StudyBatch) -> Row:
        """Examines the model and writes what an epoch has.

        Args:
            row: The epoch's, the validation's columns included.
            model: Bare, as it was validated. It is left as it was.
            batch: From `watched_batch`; the same every epoch.

        Returns:
            Further columns of the row: `learning_rate_...`, and `dead_units` and `attention_entropy` as
            shares of the greatest possible.
        """
        self._write_steps()
        state = random_state(model.device)
        try:
            with uncompiled(model), restored_modes(model):
                with gradients_kept(model) as gradients:
                    health = examine(model, batch.to(model.device))
                findings = list(Predictor(model, device=model.device).stream(self.shown))
        finally:
            set_random_state(state, model.device)
        columns = self._columns(health)
        warnings = health.warnings
        if (collapse := collapse_warning(row, self.references)) is not None:
            warnings = [collapse, *warnings]
        self._warn(row, warnings)
        self._write_files(row, health, warnings, findings)
        self._write_epoch(row | columns, health)
        self._write_histograms(model, gradients)
        self.events.flush()
        self._since = None
        return columns

    def close(self) -> None:
        """Writes what is left."""
        self._write_steps()

    def _columns(self, health: Health) -> Row:
        columns: Row = {f"learning_rate_{name}": rate for name, rate in self._rates.items()}
        if health.dead_share is not None:
            columns["dead_units"] = health.dead_share
        if health.entropy_share is not None and math.isfinite(health.entropy_share):
            columns["attention_entropy"] = health.entropy_share
        return columns

    def _warn(self, row: Row, warnings: Sequence[str]) -> None:
        epoch = round(row.get("epoch", 0))
        for line in warnings[:MOST_LINES]:
            _log.warning("epoch %d: %s", epoch, line)
        if (more := len(warnings) - MOST_LINES) > 0:
            _log.warning("epoch %d: and %d more, in %s", epoch, more, self.out / "health.json")
        if warnings:
            self.events.text("warnings", "\n".join(f"- {line}" for line in warnings), self._step)

    def _write_steps(self) -> None:
        """Reads the kept steps in one transfer; writes the means of losses and norm over them."""
        if not self._kept:
            return
        kept = [tensor for losses, norm in self._kept for tensor in (*losses.values(), norm)]
        numbers = iter(torch.stack([tensor.float() for tensor in kept]).tolist())
        losses: dict[str, list[float]] = {"joint": []}
        norms = []
        for names, _ in self._kept:
            values = {name: next(numbers) for name in names}
            for name, value in values.items():
                losses.setdefault(name, []).append(value)
            losses["joint"].append(math.fsum(values.values()))
            norms.append(next(numbers))
        scalars = {f"loss/{name}": float(np.mean(values)) for name, values in losses.items()}
        scalars["gradient/norm"] = float(np.mean(norms))
        scalars |= {f"learning_rate/{name}": rate for name, rate in self._rates.items()}
        if self._studies and self._since is not None:
            scalars["speed/studies_per_second"] = self._studies / (self._until - self._since)
        self.events.scalars(scalars | _memory(), self._step)
        self.events.flush()
        self._kept, self._studies, self._since = [], 0, self._until

    def _write_files(
        self, row: Row, health: Health, warnings: Sequence[str], findings: Sequence[Finding]
    ) -> None:
        record = {"epoch": row.get("epoch"), "step": self._step} | health.to_dict()
        record["warnings"] = list(warnings)
        text = json.dumps(record, indent=2, allow_nan=False) + "\n"
        self._tried("health.json", lambda path: write_text(path, text))
        if not findings:
            return
        picture = samples_picture(findings, self.shown)
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "png")
        self._tried("samples.png", lambda path: write_bytes(path, png.getvalue()))
        self.events.picture("samples", picture, self._step)
        reports = [
            f"**{study.id}**\n\ntrue: {true}\n\nwritten: {finding.report.text}"
            for study, finding in zip(self.shown, findings, strict=True)
            for true in study.references()[:1]
        ]
        self.events.text("reports", "\n\n".join(reports), self._step)

    def _tried(self, name: str, write: Callable[[Path], object]) -> None:
        """A file that cannot be written ends no training."""
        try:
            write(self.out / name)
        except OSError as error:
            _log.warning("%s: %s; the run goes on without it", name, error)

    def _write_epoch(self, row: Row, health: Health) -> None:
        scalars = {}
        for name, value in row.items():
            group, _, rest = name.partition("_")
            scalars[f"{group}/{rest}" if group in ("train", "val") else f"epoch/{name}"] = value
        if health.flow is not None:
            for layer in health.flow.layers:
                for loss in health.flow.losses:
                    if (norm := layer.gradient_norm[loss]) is not None:
                        scalars[f"gradient_norm_{loss}/{layer.layer}"] = norm
                    if (ratio := layer.ratio(loss)) is not None:
                        scalars[f"gradient_ratio_{loss}/{layer.layer}"] = ratio
        scalars |= {f"dead_units/{units.layer}": units.share for units in health.units}
        for focus in health.attention:
            scalars |= {
                f"attention_entropy/{focus.section}": focus.entropy,
                f"attention_entropy_share/{focus.section}": focus.share,
                f"attention_positions/{focus.section}": focus.positions,
                f"attention_maximum/{focus.section}": focus.maximum,
            }
        self.events.scalars(scalars, self._step)

    def _write_histograms(self, model: MDNet, gradients: Mapping[str, Tensor]) -> None:
        """Weights, and gradients of the joint objective at beta 1/2 and eta 1, of every part."""
        for kind, tensors in (("weights", dict(model.named_parameters())), ("gradients", gradients)):
            parts: dict[str, list[Tensor]] = {}
            for name, tensor in tensors.items():
                part = ".".join(name.split(".")[:-1][:3])  # image.stages.1, report.lstm
                parts.setdefault(part, []).append(tensor.detach().flatten())
            for part, flat in parts.items():
                values = torch.cat(flat)
                values = values[:: math.ceil(len(values) / HISTOGRAM_VALUES)].float().cpu()
                self.events.histogram(f"{kind}/{part}", values.numpy(), self._step)


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items at even distances."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def _memory() -> dict[str, float]:
    """The greatest memory in use so far, in GiB: of this process, and of its GPU."""
    used = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        used["memory/process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    if torch.cuda.is_initialized():
        used["memory/device"] = torch.cuda.max_memory_allocated() / 2**30
    return used
