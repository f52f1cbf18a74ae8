"""A run that is started again: what may have changed, and what is written down of every start."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import yaml

from mdnet.errors import ConfigurationError
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
