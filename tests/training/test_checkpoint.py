"""A checkpoint brings everything back, and a kill at any moment of writing leaves one that works."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mdnet.errors import WeightsError
from mdnet.training import checkpoint
from mdnet.training.checkpoint import load_checkpoint, save_checkpoint


class Killed(BaseException):
    """Stands for a process that ends here."""


def make_pair(seed: int, width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.randn(2, 2, 8, 8)).square().sum().backward()  # the input is drawn, too
    optimizer.step()
    optimizer.zero_grad()


def same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_weights_statistics_optimizer_and_random_state_come_back(tmp_path):
    model, optimizer = make_pair(1)
    step(model, optimizer)
    save_checkpoint(tmp_path / "c", model, optimizer, {"history": [{"epoch": 1}]})
    other, its_optimizer = make_pair(2)
    assert not same(model, other)
    assert load_checkpoint(tmp_path / "c", other, its_optimizer) == {"history": [{"epoch": 1}]}
    assert same(model, other)
    for pair in ((model, optimizer), (other, its_optimizer)):
        load_checkpoint(tmp_path / "c", *pair)
        step(*pair)
        step(*pair)
    assert same(model, other)


def test_there_is_nothing_to_load_before_the_first_one(tmp_path):
    assert load_checkpoint(tmp_path / "c", *make_pair(1)) is None


def test_only_safetensors_and_json_are_written(tmp_path):
    pair = make_pair(1)
    save_checkpoint(tmp_path / "c", *pair, {})
    assert {path.suffix for path in (tmp_path / "c").iterdir()} == {".safetensors", ".json"}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("write", range(3))
def test_killed_while_it_writes_a_file_the_one_before_stays(tmp_path, monkeypatch, write):
    model, optimizer = make_pair(1)
    save_checkpoint(tmp_path / "c", model, optimizer, {"epoch": 1})
    written = []

    def save_file(tensors, path):
        Path(path).write_bytes(b"half a file")
        written.append(path)
        if len(written) > write:
            raise Killed

    step(model, optimizer)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", save_file)
        with pytest.raises(Killed):
            save_checkpoint(tmp_path / "c", model, optimizer, {"epoch": 2})
    other, its_optimizer = make_pair(2)
    assert load_checkpoint(tmp_path / "c", other, its_optimizer) == {"epoch": 1}
    save_checkpoint(tmp_path / "c", model, optimizer, {"epoch": 2})  # over what was left behind
    assert load_checkpoint(tmp_path / "c", other, its_optimizer) == {"epoch": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(("rename", "epoch"), [(0, 1), (1, 1), (2, 2)])
def test_killed_between_two_renames_a_whole_one_is_found(tmp_path, monkeypatch, rename, epoch):
    model, optimizer = make_pair(1)
    save_checkpoint(tmp_path / "c", model, optimizer, {"epoch": 1})
    renames = []
    plain_rename, plain_remove = Path.rename, checkpoint.shutil.rmtree

    def kill_at(count):
        if len(renames) == count:
            raise Killed

    def rename_or_die(path, target):
        kill_at(rename)
        renames.append(path)
        return plain_rename(path, target)

    def remove_or_die(path, **options):
        if len(renames) == 2:
            kill_at(rename)
        plain_remove(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        patch.setattr(checkpoint.shutil, "rmtree", remove_or_die)
        with pytest.raises(Killed):
            save_checkpoint(tmp_path / "c", model, optimizer, {"epoch": 2})
    assert load_checkpoint(tmp_path / "c", *make_pair(2)) == {"epoch": epoch}
    save_checkpoint(tmp_path / "c", model, optimizer, {"epoch": 3})
    assert load_checkpoint(tmp_path / "c", *make_pair(2)) == {"epoch": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    save_checkpoint(tmp_path / "c", *make_pair(1), {})
    with pytest.raises(WeightsError, match="does not fit the run") as caught:
        load_checkpoint(tmp_path / "c", *make_pair(1, width=4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "progress.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, name, damage):
    save_checkpoint(tmp_path / "c", *make_pair(1), {})
    file = tmp_path / "c" / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="does not fit the run") as caught:
        load_checkpoint(tmp_path / "c", *make_pair(1))
    assert "\n" not in str(caught.value)
