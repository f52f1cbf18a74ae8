"""Writing files so that a full disk or a killed process costs no earlier file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["write_text", "writing_tensors"]


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text in one step: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # A file name in the text may hold bytes that are no UTF-8; they become question marks.
        with partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


@contextmanager
def writing_tensors(path: Path) -> Iterator[None]:
    """Turns safetensors' own error for a full disk or a closed folder into the `OSError` that it is."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        problem = f"cannot be written ({error}); free some space or name another folder"
        raise OSError(errno.EIO, problem, str(path)) from error
