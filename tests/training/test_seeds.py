"""Several seeds of one recipe: each to the bit a run of its own, and the spread that they show."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdnet.cli.main import main
from mdnet.errors import ConfigurationError
from mdnet.evaluation.run import read_history
from mdnet.models.mdnet import MDNet
from mdnet.training import seeds as training_seeds
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import train_run
from mdnet.training.seeds import Seeds, train_seeds

pytestmark = pytest.mark.usefixtures("unwatched")

SMALL = {
    "image_size": 32,
    "widths": [4, 6],
    "depths": [1, 1],
    "strides": [1, 2],
    "embedding_size": 4,
    "hidden_size": 6,
    "maximum_words": 5,
}


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture
def configure(phantom_folder, tmp_path):
    def make(**options: Any) -> TrainingConfig:
        plain = {"data": str(phantom_folder), "out": str(tmp_path / "runs"), "model_options": SMALL}
        return TrainingConfig(**plain | {"epochs": 1, "batch_size": 8, "seed": 3} | options)

    return make


@pytest.fixture
def counted_runs(monkeypatch) -> list[int]:
    """Seeds that were trained."""
    trained: list[int] = []

    def train(config: TrainingConfig, *, resume: bool) -> Path:
        trained.append(config.seed)
        return train_run(config, resume=resume)

    monkeypatch.setattr(training_seeds, "train_run", train)
    return trained


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return MDNet.from_pretrained(folder).state_dict()


def test_every_seed_is_to_the_bit_a_run_of_its_own_and_the_best_epochs_count(configure, tmp_path):
    config = configure(epochs=2)
    found = train_seeds(config, 2)
    alone = train_run(configure(epochs=2, seed=4, out=str(tmp_path / "alone")))
    ours, theirs = weights_in(alone), weights_in(tmp_path / "runs" / "seed-4")
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []
    best = []
    for seed in (3, 4):
        rows = read_history(tmp_path / "runs" / f"seed-{seed}" / "history.csv")
        best.append(max(rows, key=lambda row: (row["val_score"], row["epoch"])))
    assert [row["epoch"] for row in found.rows.values()] == [row["epoch"] for row in best]
    record = json.loads((tmp_path / "runs" / "seeds.json").read_text())
    assert list(record["seeds"]) == ["3", "4"]
    scores = [row["val_score"] for row in best]
    score = record["metrics"]["val_score"]
    assert (score["minimum"], score["maximum"]) == (min(scores), max(scores))
    assert score["mean"] == pytest.approx(np.mean(scores), rel=1e-12)
    assert score["deviation"] == pytest.approx(np.std(scores, ddof=1), rel=1e-12)
    assert not any(name.startswith("train_") for name in record["metrics"])


def test_a_killed_call_goes_on_with_the_seed_that_is_not_done(configure, counted_runs, monkeypatch, tmp_path):
    plain_train = training_seeds.train_run

    def killed_in_second(config: TrainingConfig, *, resume: bool) -> Path:
        out = plain_train(config, resume=resume)
        if config.seed == 4:
            raise Killed
        return out

    with monkeypatch.context() as patch:
        patch.setattr(training_seeds, "train_run", killed_in_second)
        with pytest.raises(Killed):
            train_seeds(configure(), 2)
    assert list(Seeds.load(tmp_path / "runs" / "seeds.json").rows) == [3]
    with pytest.raises(ConfigurationError, match=r"seed-3: holds a run; add --resume auto"):
        train_seeds(configure(), 2)
    found = train_seeds(configure(), 3, resume=True)
    assert counted_runs == [3, 4, 4, 5]
    assert list(found.rows) == [3, 4, 5]
    assert found == Seeds.load(tmp_path / "runs" / "seeds.json")


def test_seeds_of_another_recipe_are_not_mixed_in(configure, tmp_path):
    train_seeds(configure(), 1)
    with pytest.raises(ConfigurationError, match=r"another configuration \(clip: 5.0 there, 1.0 here\)"):
        train_seeds(configure(clip=1.0, seed=9), 1)
    with pytest.raises(ConfigurationError, match="holds a run of one seed"):
        train_seeds(configure(out=str(tmp_path / "runs" / "seed-3")), 2, resume=True)
    with pytest.raises(ConfigurationError, match="seeds is 0"):
        train_seeds(configure(), 0)


def test_the_command_says_mean_and_spread(phantom_folder, tmp_path, capsys):
    out = tmp_path / "runs"
    words = ["train", "--data", str(phantom_folder), "--out", str(out), "--epochs", "1", "--seeds", "2"]
    options = [f"--set=model_options.{name}={value}" for name, value in SMALL.items()]
    with pytest.raises(SystemExit) as ended:
        main([*words, *options])
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 seeds: 0, 1")
    assert lines[1].split() == ["mean", "deviation", "least", "greatest"]
    metrics = Seeds.load(out / "seeds.json").metrics
    shown = {name: [float(each) for each in rest] for name, *rest in map(str.split, lines[2:-1])}
    assert shown.keys() == metrics.keys()
    score = metrics["val_score"]
    expected = [score.mean, score.deviation, score.minimum, score.maximum]
    assert shown["val_score"] == pytest.approx(expected, abs=5e-5)
    assert lines[-1] == f"runs: {out / 'seed-*'}"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs.last=3", "epochs is 2, and holds no names"),
        ("learning_rates.images=0.1", "learning_rates has 'images'"),
        ("=3", "write key=value"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(setting, message, capsys):
    words = ["train", "--data", ".", "--out", "x", "--epochs", "2", "--set", setting]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert logging.getLogger("mdnet").level
