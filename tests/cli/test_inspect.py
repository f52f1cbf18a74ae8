"""`mdnet inspect` as a script meets it: files written, numbers in them, errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mdnet.cli.main import main

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
LAYER = "image.activations.2"


def call(*words: object) -> int:
    """Exit code of `mdnet inspect WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", *map(str, words)])
    return int(exit_.value.code or 0)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("command", ["layers", "activations", "statistics", "units", "maximise", "gradients"])
def test_help_of_every_command_has_an_example(command, capsys):
    assert call(command, "--help") == 0
    assert f"mdnet inspect {command}" in capsys.readouterr().out.split("Example:")[1]


def test_layers_are_listed_for_people_and_for_scripts(capsys):
    assert call("layers") == 0
    assert any(line.split()[:2] == [LAYER, "Sequential"] for line in capsys.readouterr().out.splitlines())
    assert call("layers", "--json") == 0
    shapes = {layer["name"]: layer["shape"] for layer in json.loads(capsys.readouterr().out)}
    assert shapes[LAYER] == [1, 64, 16, 16]


def test_activations_of_an_image(tmp_path):
    image = next((SAMPLE / "images").glob("*.png"))
    assert call("activations", image, "--layer", "image.stem", "--out", tmp_path) == 0
    assert files(tmp_path) == {"activations-image.stem.png"}


def test_statistics_units_and_gradients_of_a_data_set(tmp_path):
    assert call("statistics", SAMPLE, "--layer", LAYER, "--out", tmp_path) == 0
    (record,) = json.loads((tmp_path / "statistics.json").read_text())
    assert record["studies"] == 50
    assert len(record["channels"]["sparsity"]) == 64

    words = ["--layer", LAYER, "--channel", 3, "--top", 4, "--out", tmp_path]
    assert call("units", SAMPLE, *words) == 0
    hits = json.loads((tmp_path / f"unit-{LAYER}-3.json").read_text())
    assert len(hits) == 4
    assert hits[0]["value"] == record["channels"]["maximum"][3]

    assert call("gradients", SAMPLE, "--batch-size", 4, "--out", tmp_path) == 0
    flow = json.loads((tmp_path / "gradients.json").read_text())
    assert set(flow["losses"]) == {"classification", "language"}
    for name in ("statistics.png", f"unit-{LAYER}-3.png", "gradients.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 300


def test_a_model_of_several_views_is_inspected_with_one_image_at_a_time(build_model, tmp_path, capsys):
    build_model(views=2, dtype=torch.float32).save_pretrained(tmp_path / "two")
    common = ["--weights", tmp_path / "two", "--out", tmp_path]
    assert call("layers", "--json", "--weights", tmp_path / "two") == 0
    shapes = {layer["name"]: layer["shape"] for layer in json.loads(capsys.readouterr().out)}
    assert shapes["image.stem"] == [1, 4, 16, 16]
    assert call("activations", SAMPLE / "images/p00000.png", "--layer", "image.stem", *common) == 0
    units = ["units", SAMPLE, "--split", "test", "--top", 2, "--layer", "image.stem", "--channel", 1]
    assert call(*units, *common) == 0
    assert len(json.loads((tmp_path / "unit-image.stem-1.json").read_text())) == 2


def test_a_class_and_a_unit_are_maximised(tmp_path):
    common = [SAMPLE, "--steps", 3, "--split", "test", "--out", tmp_path]
    assert call("maximise", *common, "--aspect", "mitosis", "--class", "frequent") == 0
    assert call("maximise", *common, "--layer", LAYER, "--channel", 3) == 0
    stem = "maximise-mitosis-frequent"
    assert files(tmp_path) >= {f"{stem}.png", f"{stem}.json", f"{stem}-image.png", f"maximise-{LAYER}-3.json"}
    with Image.open(tmp_path / f"{stem}-image.png") as picture:
        assert picture.size == (128, 128)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["units", SAMPLE, "--layer", "image.activations.7", "--channel", 0], "near it: image.activations.2"),
        (["units", SAMPLE, "--layer", LAYER, "--channel", 64], "channels 0 to 63, not 64"),
        (["maximise", SAMPLE, "--layer", LAYER], "--layer and --channel, or a class by --aspect"),
        (["maximise", SAMPLE, "--aspect", "mitosis", "--class", "often"], "its classes: absent, rare"),
        (["statistics", SAMPLE, "--layer", "report.lstm"], "was not reached"),
        (["activations", SAMPLE / "no.png", "--layer", LAYER], "no.png"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(words, said, tmp_path, capsys):
    assert call(*words, "--out", tmp_path / "out") == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()
