"""Keeps a decoding library from telling the user, in warnings and log lines, what we tell in errors."""

from __future__ import annotations

import logging
import threading
import warnings
from types import TracebackType

__all__ = ["Quiet"]


class Quiet:
    """A context in which a library's warnings are ignored; any number of threads may be in it at once.

    Filters of warnings belong to the whole process, and `warnings.catch_warnings` in two threads may
    leave them changed for good. So the first thread in sets them, and the last one out restores them.

    Args:
        modules: Regular expression; warnings from modules that match its beginning are ignored.
        errors: A category of warnings that is raised instead.
        logger: Name of a logger that is disabled too.
    """

    def __init__(self, modules: str, *, errors: type[Warning] | None = None, logger: str = "") -> None:
        self._modules = modules
        self._errors = errors
        self._logger = logging.getLogger(logger) if logger else None
        self._lock = threading.Lock()
        self._inside = 0
        self._was_disabled = False

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=self._modules)
                if self._errors is not None:
                    warnings.simplefilter("error", self._errors)
                if self._logger is not None:
                    self._was_disabled, self._logger.disabled = self._logger.disabled, True
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)
                if self._logger is not None:
                    self._logger.disabled = self._was_disabled
