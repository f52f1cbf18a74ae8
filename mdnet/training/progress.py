"""How far a run is: a bar where the output is a terminal, a line now and then where it is not."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

__all__ = ["Progress"]

_log = logging.getLogger(__name__)

_BAR_SECONDS = 1.0  # between two looks at the losses: a look waits for the device
_LINE_SECONDS = 30.0


class Progress:
    """Loss, accuracy, images a second and time left of the training loop.

    >>> with Progress(steps, initial=done, enabled=accelerator.is_main_process) as progress:
    ...     progress.update(len(batch.ids), losses, accuracy)
    ...     progress.end_epoch(row)

    Args:
        total: Steps of the whole run.
        initial: Steps that were done before; not 0 where a run goes on.
        enabled: False is silent, as every process but the main one should be.
        images: Images of a study, on average.
    """

    def __init__(self, total: int, *, initial: int = 0, enabled: bool = True, images: float = 1.0) -> None:
        self.total, self.step, self.images = total, initial, images
        self.enabled = enabled
        self.bar: tqdm[Any] | None = None
        self._open = ExitStack()
        self._begun = self._looked = time.monotonic()
        self._begun_at = initial
        self._studies = 0  # since the last look

    def __enter__(self) -> Progress:
        if self.enabled and sys.stderr.isatty():
            self.bar = self._open.enter_context(
                tqdm(total=self.total, initial=self.step, unit="step", dynamic_ncols=True)
            )
            self._open.enter_context(logging_redirect_tqdm())  # a log line goes above the bar, not into it
        self._begun = self._looked = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def update(self, studies: int, losses: Mapping[str, Tensor], accuracy: Tensor | None = None) -> None:
        """Counts one step.

        Args:
            studies: Of the step, in all processes.
            losses: Of the step, by name; they may lie on a device, and are seldom read.
            accuracy: Of the step's diagnoses, in 0..1; None where there is none.
        """
        self.step += 1
        if not self.enabled:
            return
        self._studies += studies
        if self.bar is not None:
            self.bar.update()
        now = time.monotonic()
        seconds = now - self._looked
        if seconds < (_BAR_SECONDS if self.bar is not None else _LINE_SECONDS):
            return
        shown = {name: f"{float(loss):.3f}" for name, loss in losses.items()}
        if accuracy is not None:
            shown["accuracy"] = f"{float(accuracy):.2f}"
        speed = f"{self._studies * self.images / seconds:.3g} images/s"
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join([*(f"{k} {v}" for k, v in shown.items()), speed]))
        else:
            values = "  ".join(f"{name} {value}" for name, value in shown.items())
            left = (self.total - self.step) * (now - self._begun) / (self.step - self._begun_at)
            _log.info("step %d of %d  %s  %s  %s left", self.step, self.total, values, speed, _spoken(left))
        self._looked, self._studies = now, 0

    def end_epoch(self, row: Mapping[str, float]) -> None:
        """Says an epoch's row in one line."""
        if self.enabled:
            _log.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        self._looked, self._studies = time.monotonic(), 0  # validation is no training


def _spoken(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
