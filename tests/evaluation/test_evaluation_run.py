"""A run folder evaluated from the command line: files, words, options, and the calls that are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mdnet.cli.main import main
from mdnet.data.readers import read_studies
from mdnet.errors import ConfigurationError
from mdnet.evaluation.run import evaluate_run
from mdnet.inference.calibration import calibrate_folder
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import train_run

SMALL = {
    "image_size": 32,
    "widths": [4, 6],
    "depths": [1, 1],
    "strides": [1, 2],
    "embedding_size": 4,
    "hidden_size": 6,
    "maximum_words": 5,
}


def call(*words: object) -> int:
    """Exit code of `mdnet evaluate WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", *map(str, words)])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def run(phantom_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    config = TrainingConfig(
        data=str(phantom_folder), out=str(out), model_options=SMALL, epochs=1, batch_size=8, seed=3
    )
    return train_run(config)


def test_words_stand_in_the_metrics_on_the_screen_and_on_the_page(run, capsys):
    assert call("--run", run, "--abstain-below", 0.5) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    screen = " ".join(capsys.readouterr().out.split())
    page = (run / "index.html").read_text()
    assert len(metrics["verdict"]) > 2
    for sentence in metrics["verdict"]:
        assert sentence in screen
        assert sentence.replace("'", "&#39;") in page
    assert metrics["abstention"]["below"] == 0.5
    assert metrics["provenance"]["configuration"]["seed"] == 3
    assert {"worst", "best", "intervals", "comparisons", "calibration", "retrieval"} <= set(metrics)
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert all({"bleu_4", "meteor", "rouge_l", "cider"} == set(line["scores"]) for line in lines)


def test_a_runs_own_predictions_score_the_same_from_the_file(run, phantom_folder, capsys):
    evaluate_run(run)
    words = ["--predictions", run / "predictions.jsonl", "--data", phantom_folder, "--json"]
    assert call(*words, "--abstain-below", 0.4) == 0
    theirs = json.loads(capsys.readouterr().out)
    ours = json.loads((run / "metrics.json").read_text())
    for name in ("aspects", "text", "statements", "calibration", "worst"):
        assert theirs[name] == ours[name]
    assert theirs["abstention"]["below"] == 0.4
    assert theirs["provenance"]["data_hash"] == ours["provenance"]["data_hash"]
    assert call("--predictions", run / "predictions.jsonl", "--data", phantom_folder, "--split", "val") == 2
    assert "no line for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("split", "says"), [("train", "was trained on"), ("val", "flatter the model"), ("test", "")]
)
def test_a_split_that_shaped_the_model_is_said_first(run, split, says):
    first = evaluate_run(run, split=split).metrics["verdict"][0]
    assert (says or "too few to tell") in first


def test_attention_that_is_not_used_is_said(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    for passed in (True, False):
        (copy / "checks.json").write_text(json.dumps({"attention_used": {"passed": passed}}))
        said = any("attention is not used" in words for words in evaluate_run(copy).metrics["verdict"])
        assert said != passed


def test_a_model_trained_without_a_label_is_evaluated_by_its_text(phantom_folder, tmp_path):
    data = shutil.copytree(phantom_folder, tmp_path / "data")
    file = data / "studies.jsonl"
    studies = [json.loads(line) | {"labels": {}} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(study) + "\n" for study in studies))
    config = TrainingConfig(data=str(data), out=str(tmp_path / "run"), model_options=SMALL, epochs=1)
    metrics = evaluate_run(train_run(config)).metrics
    assert metrics["aspects"] == {}
    assert "bleu_4" in metrics["text"]


def test_temperatures_fitted_on_what_is_scored_are_said(run, phantom_folder, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    calibrate_folder(copy, read_studies(phantom_folder), split="test")
    metrics = evaluate_run(copy).metrics
    assert metrics["verdict"][0].startswith("The temperatures were fitted on these very studies")
    assert "split test" in metrics["temperature_scaling"]["fitted_on"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name either a run folder"),
        (["--run", "x", "--predictions", "y"], "name either a run folder"),
        (["--predictions", "y"], "add --data"),
        (["--predictions", "y", "--data", "x", "--ood", "z"], "--ood needs a model"),
        (["--run", "x", "--abstain-below", "1.2"], "between 0 and 1"),
        (["--run", "x", "--out", "y"], "--out is for --predictions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_is_one_line(words, message, capsys):
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_configuration_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("data: x\n")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: lacks model, seed"):
        evaluate_run(tmp_path)
