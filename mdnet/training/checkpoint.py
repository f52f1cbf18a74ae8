"""Checkpoints: all that a run needs to go on to the same bits. Safetensors and JSON, nothing pickled.

A checkpoint is a folder `checkpoint-STEP`. It is written under a temporary name, forced to the disk and
renamed when whole, so a process killed at any moment, or a disk that fills up, costs the one being
written and no other. `manifest.json` has the SHA-256 of every file; a checkpoint whose files do not have
theirs is passed over for the one before, which is why two are kept.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from mdnet.errors import WeightsError
from mdnet.files import writing_tensors
from mdnet.models.weights import sha256

__all__ = [
    "Tensors",
    "list_checkpoints",
    "load_checkpoint",
    "newest_checkpoint",
    "replace_folder",
    "save_checkpoint",
]

_log = logging.getLogger(__name__)

Tensors = Mapping[str, Mapping[str, Tensor]]  # file to name to tensor

_KEPT = 2
_NAME = "checkpoint-"
_MANIFEST, _PROGRESS = "manifest.json", "progress.json"


def save_checkpoint(run: Path, step: int, tensors: Tensors, progress: Mapping[str, Any]) -> Path:
    """Writes a checkpoint and removes all but the last two.

    Args:
        run: Run folder.
        step: Steps taken so far.
        tensors: File name, without `.safetensors`, to the tensors in it.
        progress: What is no tensor, as JSON has it.

    Returns:
        Its folder.

    Raises:
        OSError: It could not be written. Nothing of it is left, and the earlier ones are as they were.
    """
    folder = run / f"{_NAME}{step}"
    partial = folder.with_name(folder.name + ".partial")
    try:
        for suffix in ("partial", "previous"):
            for abandoned in run.glob(f"{_NAME}*.{suffix}"):  # by a process that was killed
                shutil.rmtree(abandoned)
        partial.mkdir(parents=True)
        with writing_tensors(partial):
            for name, content in tensors.items():
                plain = {key: tensor.detach().cpu().contiguous() for key, tensor in content.items()}
                save_file(plain, partial / f"{name}.safetensors")
        (partial / _PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
        hashes = {file.name: sha256(file) for file in sorted(partial.iterdir())}
        (partial / _MANIFEST).write_text(json.dumps({"sha256": hashes}, indent=1), encoding="utf-8")
        replace_folder(folder, partial)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in list_checkpoints(run)[:-_KEPT]:
        shutil.rmtree(old)
    return folder


def list_checkpoints(run: Path) -> list[Path]:
    """Checkpoint folders of a run, the newest last; not looked into."""
    steps = {int(step): path for path in run.glob(f"{_NAME}*") if (step := path.name[len(_NAME) :]).isdigit()}
    return [steps[step] for step in sorted(steps)]


def newest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint that is whole; a damaged one is named in a warning and passed over.

    Returns:
        None where there is none, so that a run begins anew.

    Raises:
        WeightsError: There are some, and all are damaged.
    """
    found = list_checkpoints(run)
    for folder in reversed(found):
        if (fault := _fault(folder)) is None:
            return folder
        _log.warning("%s: damaged (%s), so the one before is gone on from", folder, fault)
    if found:
        raise WeightsError(
            f"{found[-1]}: damaged, and so is every other; remove them to begin anew, or copy one back"
        )
    return None


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `save_checkpoint` was given: tensors by file, and progress."""
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    progress: dict[str, Any] = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
    return tensors, progress


def replace_folder(folder: Path, whole: Path) -> None:
    """Puts `whole` in the place of `folder`, on the disk when this returns.

    Killed between the two renames it leaves the old one as `.previous`; `whole` is then at hand, too.
    """
    for file in whole.iterdir():
        _force_to_disk(file)
    _force_to_disk(whole)
    previous = folder.with_name(folder.name + ".previous")
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    whole.rename(folder)
    _force_to_disk(folder.parent)  # the names
    shutil.rmtree(previous, ignore_errors=True)


def _fault(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None where all have the hash that was written."""
    try:
        hashes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["sha256"]
        wrong = [name for name, expected in hashes.items() if sha256(folder / name) != expected]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{wrong[0]} is not as it was written" if wrong else None


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
