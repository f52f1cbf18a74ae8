"""Two processes take the steps of one, with replicas and with shards; `accelerate launch` starts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import float64_training
import pytest
import torch
from float64_training import RESUMED, SCENARIOS, launch
from safetensors.torch import load_file

from mdnet.errors import ConfigurationError
from mdnet.training.checkpoint import list_checkpoints
from mdnet.training.configuration import TrainingConfig
from mdnet.training.distributed import make_accelerator

SHARDS = ["--use_fsdp", "--fsdp_version", "2"]


@pytest.fixture(scope="module")
def runs(phantom_folder, tmp_path_factory) -> dict[str, Path]:
    """The scenarios in one process, in two with replicas, and in two with shards."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("one", "replicas", "shards")}
    float64_training.main(phantom_folder, folders["one"])
    started = [
        launch(["--multi_gpu"], phantom_folder, folders["replicas"]),
        launch(SHARDS, phantom_folder, folders["shards"], folders["one"]),
    ]
    outputs = [process.communicate(timeout=600)[0] for process in started]
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output
        assert "UserWarning" not in output
    return folders


def read(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    record = json.loads((folder / f"{name}.json").read_text())
    for row in record["rows"]:
        del row["images_per_second"]
    return record, load_file(folder / f"{name}.safetensors")


def assert_near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["replicas", "shards"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_of_8_take_the_steps_of_one_of_16(runs, kind, name):
    """BatchNorm synchronised, beta .3, eta .7, clipped; labels and sections missing unevenly; in float64.

    The second scenario accumulates, too, gives one process a batch of no study, and lets the language rest;
    the third freezes the image module and averages, and what is validated are whole averaged weights.
    """
    (one, weights), (other, theirs) = (read(runs[each], name) for each in ("one", kind))
    assert other["processes"] == 2
    assert len(one["losses"]) == {"plain": 20, "accumulated": 4, "averaged": 3}[name]
    for expected, losses in zip(one["losses"], other["losses"], strict=True):
        assert losses == pytest.approx(expected, abs=1e-12)
    for expected, row in zip(one["rows"], other["rows"], strict=True):
        assert row == pytest.approx(expected, abs=1e-11)
    assert_near(weights, theirs)  # several processes write what one can load


def test_what_heads_set_between_epochs_is_set_in_all_processes(runs):
    (one, weights), (other, theirs) = (read(runs[kind], "set") for kind in ("one", "replicas"))
    for expected, losses in zip(one["losses"], other["losses"], strict=True):
        assert losses == pytest.approx(expected, abs=1e-12)
    assert_near(weights, theirs)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_process_holds_its_part_of_weights_and_moments_only(runs, name):
    assert read(runs["replicas"], name)[0]["held"] == 1.0
    assert 0.45 < read(runs["shards"], name)[0]["held"] < 0.6  # the first has what does not divide


@pytest.mark.parametrize("name", SCENARIOS)
def test_checkpoints_of_shards_are_those_of_one_process(runs, name):
    written = (list_checkpoints(runs[kind] / name) for kind in ("one", "shards"))
    for ours, theirs in zip(*written, strict=True):
        files = {file.name for file in ours.iterdir()}
        assert {file.name for file in theirs.iterdir()} == files | {"random-1.safetensors"}
        for file in files & {"model.safetensors", "optimizer.safetensors", "average.safetensors"}:
            assert_near(load_file(ours / file), load_file(theirs / file))


@pytest.mark.parametrize("name", RESUMED)
def test_shards_go_on_to_the_same_bits(runs, name):
    (whole, weights), (again, theirs) = (read(runs["shards"], each) for each in (name, f"{name}-again"))
    assert len(again["losses"]) < len(whole["losses"])
    assert again["losses"] == whole["losses"][-len(again["losses"]) :]
    assert again["rows"] == whole["rows"]
    assert [key for key, tensor in weights.items() if not torch.equal(tensor, theirs[key])] == []


@pytest.mark.parametrize("name", RESUMED)
def test_shards_go_on_from_one_process_and_one_process_from_shards(runs, phantom_folder, name, tmp_path):
    _, weights = read(runs["one"], name)
    from_one, theirs = read(runs["shards"], f"{name}-from-one")
    assert len(from_one["rows"]) == SCENARIOS[name][2]
    assert_near(weights, theirs)
    float64_training.run(
        phantom_folder, tmp_path / "x", name, start=list_checkpoints(runs["shards"] / name)[-2]
    )
    assert_near(weights, read(tmp_path, "x")[1])


def test_a_precision_that_the_device_lacks_is_refused(fresh_accelerator, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(
        ConfigurationError, match="precision fp16: not on device cpu; set precision to bf16 or no"
    ):
        make_accelerator(TrainingConfig(data="d", out="o", precision="fp16"))


@pytest.mark.parametrize(
    ("variable", "value", "option"),
    [
        ("FSDP_VERSION", "1", "--fsdp_version 1"),
        ("FSDP_RESHARD_AFTER_FORWARD", "false", "--fsdp_reshard_after_forward false"),
        ("FSDP_OFFLOAD_PARAMS", "true", "--fsdp_offload_params true"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "--fsdp_activation_checkpointing true"),
    ],
)
def test_what_sharding_does_not_do_is_refused(monkeypatch, fresh_accelerator, variable, value, option):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")  # accelerate sets it; put back afterwards
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"launched with {option}, which this trainer does not know"):
        make_accelerator(TrainingConfig(data="d", out="o"))


def test_shards_in_fp16_are_refused(monkeypatch, fresh_accelerator):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with pytest.raises(
        ConfigurationError, match="fp16: not with sharded weights; set precision to bf16 or no"
    ):
        make_accelerator(TrainingConfig(data="d", out="o", precision="fp16"))


def test_an_engine_that_is_not_known_is_refused(monkeypatch, fresh_accelerator):
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    monkeypatch.setattr(Accelerator, "distributed_type", property(lambda self: DistributedType.DEEPSPEED))
    with pytest.raises(
        ConfigurationError, match="launched for DEEPSPEED, and this trainer knows replicas and"
    ):
        make_accelerator(TrainingConfig(data="d", out="o"))
