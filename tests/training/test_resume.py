"""A run that was killed, wherever it was, goes on to the same bits."""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from unwatched import draw_nothing

from mdnet.errors import ConfigurationError, WeightsError
from mdnet.training import checkpoint
from mdnet.training.checkpoint import list_checkpoints
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import train_run

SMALL_NETWORK = {"image_size": 32, "embedding_size": 4, "hidden_size": 6, "dropout": 0.2}


class Stopped(BaseException):
    """Stands for a run that is killed."""


def ignore(history, model) -> None:
    pass


def without_speed(history):
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in history]


def stop_after(trainer, steps: int) -> None:
    """Ends the run when it would begin another step."""
    plain_step = trainer.step

    def step(batches, number):
        if number == steps:
            raise Stopped
        return plain_step(batches, number)

    trainer.step = step


def spoil(trainer) -> None:
    """Weights and random state as they never were: all must come from the checkpoint."""
    with torch.no_grad():
        for parameter in trainer.bare.parameters():
            parameter.zero_()
    torch.manual_seed(99)


def test_killed_between_checkpoint_and_model_the_epoch_is_finished_first(
    make_trainer, different_tensors, tmp_path
):
    whole = make_trainer(epochs=3)
    rows = whole.train(tmp_path / "whole", resume=False, on_epoch=ignore)

    def stop(history, model) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        make_trainer(epochs=3).train(tmp_path / "killed", resume=False, on_epoch=stop)
    seen = []
    resumed = make_trainer(epochs=3)
    spoil(resumed)
    history = resumed.train(
        tmp_path / "killed", resume=True, on_epoch=lambda history, model: seen.append(len(history))
    )
    assert different_tensors(whole, resumed) == []
    assert seen == [1, 2, 3]  # what the kill kept from being done for epoch 1 is done first
    assert without_speed(history) == without_speed(rows)


@pytest.mark.parametrize("steps", [1, 3, 5, 6])
@pytest.mark.parametrize(
    "options",
    [{"ema": 0.5}, {"accumulate": 2, "scheduled_sampling": (0.5, 0.5)}],
    ids=["average", "accumulation and own words"],
)
def test_killed_within_an_epoch_it_goes_on_from_the_step(
    make_trainer, different_tensors, tmp_path, steps, options
):
    options |= {"epochs": 2, "batch_size": 4 // options.get("accumulate", 1), "checkpoint_steps": 3}
    whole = make_trainer(**options)
    rows = whole.train(tmp_path / "whole", resume=False, on_epoch=ignore)
    killed = make_trainer(**options)
    stop_after(killed, steps)
    with pytest.raises(Stopped):
        killed.train(tmp_path / "killed", resume=False, on_epoch=ignore)
    resumed = make_trainer(**options)
    if list_checkpoints(tmp_path / "killed"):
        spoil(resumed)
    taken = []
    plain_step = resumed.step
    resumed.step = lambda batches, number: (taken.append(number), plain_step(batches, number))[1]
    history = resumed.train(tmp_path / "killed", resume=True, on_epoch=ignore)
    assert taken == list(range({1: 0, 3: 3, 5: 4, 6: 6}[steps], 8))
    assert different_tensors(whole, resumed) == []
    assert without_speed(history) == without_speed(rows)
    last = [list_checkpoints(tmp_path / name)[-1] for name in ("whole", "killed")]
    for file in sorted(last[0].glob("*.safetensors")):  # optimizer, average and random state
        ours, theirs = load_file(file), load_file(last[1] / file.name)
        assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


def test_a_finished_run_that_goes_on_changes_nothing(make_trainer, different_tensors, tmp_path):
    first = make_trainer(epochs=1)
    first.train(tmp_path / "c", resume=False, on_epoch=ignore)
    again = make_trainer(epochs=1, seed=9)
    assert len(again.train(tmp_path / "c", resume=True, on_epoch=ignore)) == 1
    assert different_tensors(first, again) == []


def test_a_damaged_newest_checkpoint_costs_an_epoch_and_no_bits(
    make_trainer, different_tensors, tmp_path, caplog
):
    whole = make_trainer(epochs=3)
    whole.train(tmp_path / "c", resume=False, on_epoch=ignore)
    assert [path.name for path in list_checkpoints(tmp_path / "c")] == ["checkpoint-4", "checkpoint-6"]
    weights = tmp_path / "c" / "checkpoint-6" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    again = make_trainer(epochs=3)
    with caplog.at_level(logging.WARNING):
        again.train(tmp_path / "c", resume=True, on_epoch=ignore)
    assert "checkpoint-6: damaged (model.safetensors is not as it was written)" in caplog.text
    assert different_tensors(whole, again) == []


def test_a_full_disk_costs_the_checkpoint_being_written_and_the_run_goes_on(
    make_trainer, different_tensors, tmp_path, caplog, monkeypatch
):
    plain_save, calls = checkpoint.save_file, []

    def save_file(tensors, path):
        calls.append(path)
        if "checkpoint-4" in str(path) and path.name == "optimizer.safetensors":
            Path(path).write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        plain_save(tensors, path)

    whole = make_trainer(epochs=3)
    whole.train(tmp_path / "whole", resume=False, on_epoch=ignore)
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    trainer = make_trainer(epochs=3)
    trainer.train(tmp_path / "full", resume=False, on_epoch=ignore)
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the checkpoint of step 4 could not be written (No space left on device)" in error.message
    assert "checkpoint-2" in error.message
    assert different_tensors(whole, trainer) == []
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["checkpoint-2", "checkpoint-6"]


def test_a_checkpoint_of_another_model_is_one_line(make_trainer, tmp_path):
    make_trainer(epochs=1).train(tmp_path / "c", resume=False, on_epoch=ignore)
    other = make_trainer(epochs=1, network={"widths": [6, 8, 12]})
    with pytest.raises(WeightsError, match="does not fit the run") as caught:
        other.train(tmp_path / "c", resume=True, on_epoch=ignore)
    assert "\n" not in str(caught.value)


def test_steps_of_another_size_go_on_at_the_end_of_an_epoch_only(make_trainer, tmp_path, caplog):
    trainer = make_trainer(epochs=2, batch_size=4, checkpoint_steps=3)
    stop_after(trainer, 5)
    with pytest.raises(Stopped):
        trainer.train(tmp_path / "c", resume=False, on_epoch=ignore)
    shutil.copytree(tmp_path / "c" / "checkpoint-3", tmp_path / "within" / "checkpoint-3")
    other = make_trainer(epochs=2, batch_size=8)
    with pytest.raises(ConfigurationError, match="within an epoch, of steps of 4 studies, now 8"):
        other.train(tmp_path / "within", resume=True, on_epoch=ignore)
    progress = tmp_path / "c" / "checkpoint-4" / "progress.json"
    record = json.loads(progress.read_text()) | {"processes": 2}
    progress.write_text(json.dumps(record))
    manifest = progress.with_name("manifest.json")
    hashes = json.loads(manifest.read_text())
    hashes["sha256"]["progress.json"] = checkpoint.sha256(progress)
    manifest.write_text(json.dumps(hashes))
    other = make_trainer(epochs=2, batch_size=8)
    assert len(other.train(tmp_path / "c", resume=True, on_epoch=ignore)) == 2
    assert "written by 2 processes, now 1: the run goes on, but not to the same bits" in caplog.text


def train_slowly(options: dict, slow: str) -> None:
    """A run, in a process of its own, that takes a minute over the file of a name."""
    torch.set_num_threads(1)
    plain_save = checkpoint.save_file

    def save_file(tensors, path):
        if slow in str(path):
            path.write_bytes(b"half a file")
            time.sleep(60)
        plain_save(tensors, path)

    checkpoint.save_file = save_file
    draw_nothing(pytest.MonkeyPatch())
    train_run(TrainingConfig(**options), resume=True)


def test_a_run_killed_by_sigkill_three_times_leaves_the_model_of_one_that_was_not(phantom_folder, tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["mdnet.training.run", "sklearn.metrics"])
    network = SMALL_NETWORK | {"widths": [4, 6], "depths": [1, 1], "strides": [1, 2], "maximum_words": 5}
    options = {"data": str(phantom_folder), "epochs": 2, "batch_size": 8, "checkpoint_steps": 1, "ema": 0.5}
    options |= {"augmentation": "tissue", "model_options": network}

    def start(name: str, slow: str = "no file") -> BaseProcess:
        arguments = (options | {"out": str(tmp_path / name)}, slow)
        process = processes.Process(target=train_slowly, args=arguments)
        process.start()
        return process

    whole, run = start("whole"), tmp_path / "killed"
    for slow, there in [  # the file that takes long, and the one that is there when the kill comes
        ("checkpoint-1.partial/optimizer", "checkpoint-1.partial/optimizer.safetensors"),
        ("no file", "checkpoint-1/manifest.json"),
        ("no file", "model*/config.json"),
    ]:
        process = start("killed", slow)
        while not list(run.glob(there)):
            assert process.is_alive()
            time.sleep(0.002)
        process.kill()
        process.join()
    last = start("killed")
    for process in (last, whole):
        process.join()
        assert process.exitcode == 0
    same = [
        "model/model",
        *(f"checkpoint-4/{name}" for name in ("model", "optimizer", "average", "random-0")),
    ]
    for name in same:
        ours, theirs = (load_file(folder / f"{name}.safetensors") for folder in (tmp_path / "whole", run))
        different = {key for key, tensor in ours.items() if not torch.equal(tensor, theirs[key])}
        assert different <= {"python"}  # once a process, a third party draws from that
    assert not list(run.glob("*.partial"))
