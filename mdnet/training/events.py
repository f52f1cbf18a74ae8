"""TensorBoard's event files of a run; without the package `tensorboard` there are none.

https://www.tensorflow.org/tensorboard. Its own writer, and so `torch.utils.tensorboard.SummaryWriter`,
writes from a thread, where a full disk ends in a traceback that nobody can catch. Here whoever calls
`flush` writes.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mdnet.errors import MissingExtraError

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

__all__ = ["EventWriter"]

_log = logging.getLogger(__name__)

_BINS = 60  # of a histogram


class EventWriter:
    """Writes what TensorBoard shows. What goes wrong is said once, and the run goes on without.

    Nothing is on the disk before `flush`.

    Args:
        folder: Of the event files.
        step: The first step to come: what a run that was killed wrote from there on is no longer shown.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        self._file: Path | None = None
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.summary.writer.record_writer import RecordWriter
            from torch.utils.tensorboard import summary
        except ImportError:
            _log.warning(
                "%s; the run is watched by history.png, samples.png and health.json alone",
                MissingExtraError("tensorboard", "tensorboard"),
            )
            return
        # Unlike any other of this folder, and in the order of time, as TensorBoard reads them.
        self._file = folder / f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._summary: Any = summary
        self._unwritten = io.BytesIO()
        self._records = RecordWriter(self._unwritten)
        self._put(Event(step=step, file_version="brain.Event:2"))
        self._put(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
        self.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """A number each."""
        for name, value in values.items():
            self._add("scalar", step, name, value)

    def histogram(self, name: str, values: npt.NDArray[np.floating], step: int) -> None:
        """A distribution; what is not finite is left out."""
        values = values[np.isfinite(values)]
        if values.size:
            self._add("histogram", step, name, values, bins=_BINS)

    def picture(self, name: str, pixels: npt.NDArray[np.uint8], step: int) -> None:
        """An image (rows, columns, 3)."""
        self._add("image", step, name, pixels, dataformats="HWC")

    def text(self, name: str, text: str, step: int) -> None:
        """Markdown."""
        self._add("text", step, name, text)

    def flush(self) -> None:
        """Writes what was added since the last time; a full disk must not end a training."""
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                file.write(self._unwritten.getvalue())
        except OSError as error:
            _log.warning("TensorBoard's event files end here: %s", error)
            self._file = None
        self._unwritten.seek(0)
        self._unwritten.truncate()

    def _add(self, kind: str, step: int, *arguments: Any, **options: Any) -> None:
        """Adds what a function of `torch.utils.tensorboard.summary` makes."""
        if self._file is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event

        made = getattr(self._summary, kind)(*arguments, **options)
        self._put(Event(step=step, summary=made))

    def _put(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
