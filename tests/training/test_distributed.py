"""Two processes take the steps that one takes; `accelerate launch` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import float64_training
import pytest
import torch
from safetensors.torch import load_file

from mdnet.errors import ConfigurationError
from mdnet.training.configuration import TrainingConfig
from mdnet.training.distributed import make_accelerator

SCRIPT = Path(float64_training.__file__)


def test_two_processes_of_8_take_the_steps_of_one_of_16(phantom_folder, tmp_path):
    """BatchNorm synchronised, beta .3, eta .7, clipped; labels and sections missing unevenly; in float64.

    The second scenario accumulates, too, gives one process a batch of no study, and lets the language rest.
    """
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    # `--cpu --num_processes 2` starts one process; `--multi_gpu` starts two, which are told to use CPUs.
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, "-m", *launch, str(SCRIPT), str(phantom_folder), str(folders[1])]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    two = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    float64_training.main(phantom_folder, folders[0])
    output, _ = two.communicate(timeout=300)
    assert two.returncode == 0, output
    for name, *_ in float64_training.SCENARIOS:
        one, other = (json.loads((folder / f"{name}.json").read_text()) for folder in folders)
        assert other["processes"] == 2
        assert len(one["losses"]) == {"plain": 20, "accumulated": 4}[name]
        for expected, losses in zip(one["losses"], other["losses"], strict=True):
            assert losses == pytest.approx(expected, abs=1e-12)
        weights, theirs = (load_file(folder / f"{name}.safetensors") for folder in folders)
        assert weights.keys() == theirs.keys()  # several processes write what one can load
        for key, tensor in weights.items():
            torch.testing.assert_close(theirs[key], tensor, rtol=0, atol=1e-11)
        for expected, row in zip(one["rows"], other["rows"], strict=True):
            del expected["images_per_second"], row["images_per_second"]
            assert row == pytest.approx(expected, abs=1e-11)


def test_a_precision_that_the_device_lacks_is_refused(fresh_accelerator, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(
        ConfigurationError, match="precision fp16: not on device cpu; set precision to bf16 or no"
    ):
        make_accelerator(TrainingConfig(data="d", out="o", precision="fp16"))


def test_sharded_weights_are_refused(monkeypatch, fresh_accelerator):
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    monkeypatch.setattr(Accelerator, "distributed_type", property(lambda self: DistributedType.FSDP))
    options: dict[str, Any] = {"data": "d", "out": "o"}
    with pytest.raises(ConfigurationError, match="launched for FSDP, and this trainer knows replicas alone"):
        make_accelerator(TrainingConfig(**options))
