"""A run from a data set to a run folder: what it leaves behind, goes on from, and refuses."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mdnet.errors import ConfigurationError, DataError
from mdnet.models.mdnet import MDNet
from mdnet.training import run as training_run
from mdnet.training import validator
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import best_epoch, train_run, write_history

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
        plain = {"data": str(phantom_folder), "out": str(tmp_path / "run"), "model_options": SMALL}
        return TrainingConfig(**plain | {"epochs": 2, "batch_size": 8, "seed": 3} | options)

    return make


@pytest.fixture
def changed_data(phantom_folder, tmp_path):
    """Copies the set with every study changed."""

    def copy(change) -> str:
        folder = tmp_path / "data"
        shutil.copytree(phantom_folder, folder)
        lines = (folder / "studies.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        for record in records:
            change(record)
        (folder / "studies.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(folder)

    return copy


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return MDNet.from_pretrained(folder).state_dict()


def assert_same_bits(first: Path, second: Path) -> None:
    ours, theirs = weights_in(first), weights_in(second)
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


def test_a_run_leaves_its_configuration_model_checkpoint_and_history(configure, tmp_path):
    config = configure()
    out = train_run(config)
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "environment.yaml",
        "model",
        "checkpoint-2",
        "checkpoint-4",
        "history.csv",
        "history.png",
        "health.json",
        "samples.png",
        "tensorboard",
        "checks.json",
    }
    assert TrainingConfig.load(out / "config.yaml") == config
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {
        "train_classification_loss",
        "train_language_loss",
        "val_diagnosis_accuracy",
        "val_score",
    } <= rows[0].keys()
    model = MDNet.from_pretrained(out)
    assert model.config.widths == [4, 6]
    assert model.preprocessing.intensity is not None


def kill(patch: pytest.MonkeyPatch, where: str, epoch: int) -> None:
    """Ends the process before, in the middle of, or at the end of writing the model of an epoch."""
    plain_save, plain_replace = MDNet.save_pretrained, training_run.replace_folder
    epochs = []

    def save_pretrained(model: MDNet, folder: Path) -> None:
        epochs.append(folder)
        if len(epochs) == epoch and where == "before":
            raise Killed
        plain_save(model, folder)
        if len(epochs) == epoch and where == "in the middle":
            (folder / "model.safetensors").write_bytes(b"half a file")
            raise Killed

    def replace_folder(folder: Path, whole: Path) -> None:
        if len(epochs) == epoch and where == "between renames":
            if folder.exists():
                folder.rename(folder.with_name("model.previous"))
            raise Killed
        plain_replace(folder, whole)

    patch.setattr(MDNet, "save_pretrained", save_pretrained)
    patch.setattr(training_run, "replace_folder", replace_folder)


@pytest.mark.usefixtures("unwatched")
def test_a_run_killed_while_it_writes_its_model_goes_on_to_the_same_one(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(validator, "validation_row", lambda *arguments: {})  # the last is best
    monkeypatch.setattr(training_run, "check_run", lambda *arguments: {})
    whole = train_run(configure(out=str(tmp_path / "whole")))
    for where in ("before", "in the middle", "between renames"):
        for epoch in (1, 2):
            config = configure(out=str(tmp_path / f"{where} {epoch}"))
            with monkeypatch.context() as patch:
                kill(patch, where, epoch)
                with pytest.raises(Killed):
                    train_run(config)
            out = train_run(config, resume=True)
            assert_same_bits(whole, out)
            assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.usefixtures("unwatched")
def test_the_best_epoch_is_kept_whatever_comes_after_it(configure, monkeypatch):
    weights, scores = [], iter([0.1, 0.9, 0.3])

    def validation_row(predictor, studies, data):
        weights.append({name: tensor.clone() for name, tensor in predictor.model.state_dict().items()})
        return {"val_score": next(scores)}

    monkeypatch.setattr(validator, "validation_row", validation_row)
    kept = weights_in(train_run(configure(epochs=3)))
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in kept.items())
    assert not torch.equal(kept["image.stem.weight"], weights[2]["image.stem.weight"])


def test_best_epoch_is_the_highest_score_the_later_of_two_and_the_last_without_any():
    assert best_epoch([{"val_score": 0.2}, {"val_score": 0.5}, {"val_score": 0.1}]) == 1
    assert best_epoch([{"val_score": 0.5}, {"val_score": 0.5}]) == 1
    assert best_epoch([{"epoch": 1}, {"epoch": 2}]) == 1


def test_history_keeps_columns_that_only_some_rows_have(tmp_path):
    write_history(tmp_path / "h.csv", [{"epoch": 1}, {"epoch": 2, "val_score": 0.5}])
    assert (tmp_path / "h.csv").read_text().split() == ["epoch,val_score", "1,", "2,0.5"]


def test_a_run_folder_is_never_written_over_or_mixed(configure, tmp_path):
    (tmp_path / "run").mkdir()
    configure().save(tmp_path / "run" / "config.yaml")
    with pytest.raises(ConfigurationError, match="holds a run; add --resume auto"):
        train_run(configure())
    with pytest.raises(ConfigurationError, match=r"another configuration \(epochs: 2 there, 3 here\)"):
        train_run(configure(epochs=3), resume=True)


@pytest.mark.usefixtures("unwatched")
def test_a_run_does_not_go_on_with_data_that_changed(configure, changed_data):
    data = Path(changed_data(lambda record: None))
    config = configure(data=str(data), epochs=1)
    train_run(config)
    lines = (data / "studies.jsonl").read_text().splitlines()
    (data / "studies.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(ConfigurationError, match="changed since the run in"):
        train_run(config, resume=True)


def test_a_set_without_labels_or_without_reports_trains(configure, changed_data, tmp_path):
    out = train_run(configure(epochs=1, data=changed_data(lambda record: record.pop("labels"))))
    model = MDNet.from_pretrained(out)
    assert model.heads is None
    assert model.config.attention == "additive"
    shutil.rmtree(out)
    shutil.rmtree(tmp_path / "data")
    out = train_run(configure(epochs=1, data=changed_data(lambda record: record.pop("report"))))
    assert MDNet.from_pretrained(out).report is None


def test_a_set_with_neither_is_refused(configure, changed_data):
    def take(record):
        del record["labels"], record["report"]

    with pytest.raises(DataError, match="no training study has a label or a report"):
        train_run(configure(data=changed_data(take)))


@pytest.mark.usefixtures("unwatched")
def test_grayscale_and_another_diagnosis_are_taken_from_the_configuration(configure):
    options = SMALL | {"image_channels": 1}
    model = MDNet.from_pretrained(train_run(configure(epochs=1, diagnosis="mitosis", model_options=options)))
    assert model.preprocessing.mode == "L"
    assert model.config.space.diagnosis == "mitosis"


@pytest.mark.usefixtures("unwatched")
def test_the_best_weights_are_calibrated_on_all_of_val_and_anew_where_a_run_goes_on(
    configure, monkeypatch, caplog
):
    config = configure(epochs=1)
    with caplog.at_level(logging.INFO, logger="mdnet"):
        out = train_run(config)
    (line,) = [message for message in caplog.messages if message.startswith("calibrated on")]
    assert line.startswith("calibrated on 4 studies of split val of synthetic")
    fitted = MDNet.from_pretrained(out).calibration
    assert set(fitted.temperatures) == set(MDNet.from_pretrained(out).config.space.names)

    replace(fitted, fitted_on="weights of long ago").save(out / "model")
    saved = []
    plain = MDNet.save_pretrained

    def save_pretrained(model: MDNet, folder: Path) -> None:
        saved.append(model.calibration)
        plain(model, folder)

    monkeypatch.setattr(MDNet, "save_pretrained", save_pretrained)
    train_run(config, resume=True)
    assert saved == [None]  # never another epoch's calibration beside new weights
    assert MDNet.from_pretrained(out).calibration.fitted_on == fitted.fitted_on


@pytest.mark.usefixtures("unwatched")
def test_without_a_val_split_nothing_is_calibrated(configure, changed_data):
    def to_train(record):
        record["split"] = "train"

    out = train_run(configure(epochs=1, data=changed_data(to_train)))
    assert MDNet.from_pretrained(out).calibration is None
