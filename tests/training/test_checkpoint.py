"""A checkpoint is whole or passed over; a kill or a full disk at any moment leaves one that works."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import torch

from mdnet.errors import WeightsError
from mdnet.training import checkpoint
from mdnet.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    replace_folder,
    save_checkpoint,
)

TENSORS = {
    "model": {"a.weight": torch.arange(12.0).view(3, 4), "a.count": torch.tensor(3)},
    "optimizer": {"a.weight.step": torch.tensor(2.0)},
    "sums": {},
}


class Killed(BaseException):
    """Stands for a process that ends here."""


def save(run: Path, step: int) -> Path:
    return save_checkpoint(run, step, TENSORS, {"history": [{"epoch": step}]})


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def test_what_is_saved_comes_back(tmp_path):
    weights = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    tensors = TENSORS | {"model": {"conv": weights}}
    folder = save_checkpoint(tmp_path, 7, tensors, {"place": {"epoch": 2}, "history": [{"x": 0.1}]})
    assert folder == tmp_path / "checkpoint-7" == newest_checkpoint(tmp_path)
    found, progress = load_checkpoint(folder)
    assert progress == {"place": {"epoch": 2}, "history": [{"x": 0.1}]}
    assert found.keys() == tensors.keys()
    assert torch.equal(found["model"]["conv"], weights)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_there_is_nothing_to_load_before_the_first_one(tmp_path):
    assert newest_checkpoint(tmp_path) is None


def test_the_last_two_are_kept_in_order_of_their_steps(tmp_path):
    for step in (8, 9, 10, 11):
        save(tmp_path, step)
    (tmp_path / "checkpoint-of-mine").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-11"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-11"


@pytest.mark.parametrize("write", range(3))
def test_killed_while_it_writes_a_file_the_one_before_stays(tmp_path, monkeypatch, write):
    save(tmp_path, 1)
    written = []

    def save_file(tensors, path):
        Path(path).write_bytes(b"half a file")
        written.append(path)
        if len(written) > write:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", save_file)
        with pytest.raises(Killed):
            save(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    save(tmp_path, 2)  # over what was left behind
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("file", ["model.safetensors", "sums.safetensors", "progress.json", "manifest.json"])
def test_a_full_disk_leaves_the_earlier_ones_and_nothing_half_written(tmp_path, monkeypatch, problem, file):
    save(tmp_path, 1)
    save(tmp_path, 2)

    def fail(path):
        if Path(path).name == file:
            Path(path).write_bytes(b"half")
            raise OSError(problem, "full")

    plain_save, plain_write = checkpoint.save_file, Path.write_text
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", lambda tensors, path: (fail(path), plain_save(tensors, path)))
        patch.setattr(Path, "write_text", lambda path, *a, **o: (fail(path), plain_write(path, *a, **o))[1])
        with pytest.raises(OSError, match="full"):
            save(tmp_path, 3)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


@pytest.mark.parametrize("rename", range(2))
def test_killed_between_two_renames_of_a_replaced_folder_one_is_whole(tmp_path, monkeypatch, rename):
    for name in ("model", "model.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    renames, plain_rename = [], Path.rename

    def rename_or_die(path, target):
        if len(renames) == rename:
            raise Killed
        renames.append(path)
        return plain_rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        with pytest.raises(Killed):
            replace_folder(tmp_path / "model", tmp_path / "model.partial")
    kept = tmp_path / ("model" if rename == 0 else "model.previous")
    assert (kept / "x").read_text() == "model"
    assert (tmp_path / "model.partial" / "x").read_text() == "model.partial"
    replace_folder(tmp_path / "model", tmp_path / "model.partial")
    assert (tmp_path / "model" / "x").read_text() == "model.partial"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "progress.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, caplog, name, damage):
    save(tmp_path, 1)
    file = save(tmp_path, 2) / name
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-3])
    else:
        place = content.index(b'": "') + 4 if name == "manifest.json" else len(content) // 2
        content[place] ^= 1
        file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    (line,) = caplog.messages
    assert "checkpoint-2: damaged (" in line
    assert "\n" not in line


def test_a_run_all_of_whose_checkpoints_are_damaged_does_not_begin_anew_in_silence(tmp_path):
    for step in (1, 2):
        (save(tmp_path, step) / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="checkpoint-2: damaged, and so is every other; remove them"):
        newest_checkpoint(tmp_path)
