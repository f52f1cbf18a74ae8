"""Writing files so that a full disk or a killed process costs no earlier file; reading YAML."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdnet.errors import ConfigurationError

__all__ = [
    "file_name",
    "naming_full_disk",
    "read_yaml",
    "write_bytes",
    "write_text",
    "writing_folder",
    "writing_tensors",
]


def file_name(text: str) -> str:
    """Any text as a file name: what some file system forbids becomes its code point."""
    return re.sub(r"[^\w.-]|^\.", lambda match: f"-{ord(match[0]):x}-", text)


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8 text in one step: a reader sees the old file or the new one, never half of it."""
    # A file name in the text may hold bytes that are no UTF-8; they become question marks.
    return write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, data: bytes) -> Path:
    """Writes bytes in one step, as `write_text` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the name `folder` at the end.

    So a killed process or a full disk leaves nothing under that name that could pass for whole.

    Raises:
        ConfigurationError: `folder` holds something, or is a file, or a mounted disk.
        OSError: The disk is full; nothing of the new folder is left.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not an empty folder: name a new one, or empty it first")
    if folder.is_mount():
        raise ConfigurationError(f"{folder} is a mounted disk, which cannot be renamed: name a folder in it")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        with naming_full_disk(folder):
            yield partial
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Says of a full disk which folder has no room, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        problem = f"{error.strerror}; free some space or name another folder"
        raise OSError(error.errno, problem, str(folder)) from error


@contextmanager
def writing_tensors(path: Path) -> Iterator[None]:
    """Turns safetensors' own error for a full disk or a closed folder into the `OSError` that it is."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        problem = f"cannot be written ({error}); free some space or name another folder"
        raise OSError(errno.EIO, problem, str(path)) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigurationError: There is no such file, or it holds no mapping.
    """
    import yaml

    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; name a configuration that exists") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"{path}: no YAML ({' '.join(str(error).split())}); mend the file"
        ) from error
    if not isinstance(record, dict):
        raise ConfigurationError(f"{path}: holds no mapping of keys to values; write `key: value` lines")
    return record
