"""A run that is started again: what may have changed, and what is written down of every start."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
import yaml
from accelerate import Accelerator

from mdnet.errors import ConfigurationError
from mdnet.training import run
from mdnet.training.checkpoint import list_checkpoints
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import check_same, train_run


def test_a_run_goes_on_with_what_the_errors_tell_to_change(tmp_path):
    saved = TrainingConfig(data=".", out="a", batch_size=8, accumulate=2, workers=4)
    file = tmp_path / "config.yaml"
    check_same(replace(saved, out="b", batch_size=2, accumulate=8, workers=0, cache=False), saved, file)
    with pytest.raises(ConfigurationError, match="batch_size x accumulate: 16 there, 4 here"):
        check_same(replace(saved, batch_size=2), saved, file)


@pytest.mark.usefixtures("unwatched")
def test_every_start_of_a_run_is_written_down(phantom_folder, tmp_path, monkeypatch):
    options = {"image_size": 32, "widths": [4, 6], "depths": [1, 1], "strides": [1, 2], "hidden_size": 6}
    config = TrainingConfig(
        data=str(phantom_folder), out=str(tmp_path / "run"), model_options=options, epochs=1, batch_size=8
    )
    monkeypatch.setattr("sys.argv", ["train.py", "--data", "a folder"])
    train_run(config)
    monkeypatch.setattr("sys.argv", ["train.py", "--resume", "auto"])
    train_run(config, resume=True)
    record = yaml.safe_load((tmp_path / "run" / "environment.yaml").read_text())
    assert len(record["data_hash"]) == 64
    first, second = record["starts"]
    assert (first["command"], second["command"]) == ("train.py --data 'a folder'", "train.py --resume auto")
    assert first["device"].startswith("cpu")
    assert (first["processes"], first["torch"]) == (1, torch.__version__)
    assert first["started"] <= second["started"]
    assert len(list_checkpoints(tmp_path / "run")) == 1


@pytest.mark.usefixtures("unwatched")
@pytest.mark.parametrize("resume", [False, True])
def test_checkpoints_without_their_configuration_are_not_gone_on_from(phantom_folder, tmp_path, resume):
    """Nor trained beside: the new run's checkpoints would count as older, and be removed."""
    out = tmp_path / "run"
    (out / "checkpoint-12").mkdir(parents=True)
    config = TrainingConfig(data=str(phantom_folder), out=str(out))
    with pytest.raises(
        ConfigurationError, match=r"config.yaml: missing, beside checkpoint-12 .* put it back"
    ):
        train_run(config, resume=resume)
    assert [path.name for path in out.iterdir()] == ["checkpoint-12"]


def test_a_metric_that_cannot_be_is_refused_before_anything_is_written(phantom_folder, tmp_path):
    config = TrainingConfig(data=str(phantom_folder), out=str(tmp_path / "run"), metric="val_cidr")
    with pytest.raises(ConfigurationError, match="did you mean val_cider"):
        train_run(config)
    assert not (tmp_path / "run").exists()


def test_processes_beside_the_main_one_say_nothing_but_errors(phantom_folder, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Accelerator, "is_main_process", False)
    monkeypatch.setattr(run, "read_studies", stop)
    log, starting = logging.getLogger("mdnet"), logging.getLogger("mdnet.training.starting")
    level = log.level
    try:
        with pytest.raises(KeyboardInterrupt):
            train_run(TrainingConfig(data=str(phantom_folder), out=str(tmp_path / "run")))
        assert starting.isEnabledFor(logging.ERROR)
        assert not starting.isEnabledFor(logging.WARNING)
    finally:
        log.setLevel(level)
