"""`mdnet calibrate` and `mdnet generate --abstain-below`, on a small model of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.cli.main import main
from mdnet.data.phantom import LABEL_SPACE, make_phantom


def call(*words: object) -> int:
    """Exit code of `mdnet WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    return make_phantom(folder, 34, seed=3, size=32, splits=(0.2, 0.6, 0.2), workers=1, progress=False)


@pytest.fixture
def weights(build_model, tmp_path) -> Path:
    """A run folder, as far as its model goes."""
    sections = ("mitosis", "conclusion")
    model = build_model(dtype=torch.float32, label_space=LABEL_SPACE, sections=sections, maximum_words=4)
    with torch.no_grad():
        model.report.output.bias[:7] -= 100.0  # the end, begin tokens of sections it lacks: no text is empty
    model.save_pretrained(tmp_path / "run" / "model")
    return tmp_path / "run"


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_calibrate_writes_into_the_model_folder_and_generate_uses_it(weights, data, tmp_path, capsys):
    images = sorted((data / "images").glob("*.png"))[:2]
    words = ["generate", *images, "--weights", weights, "--format", "jsonl"]
    assert call(*words) == 0
    before = records(capsys.readouterr().out)
    assert before[0]["out_of_distribution"] is None

    assert call("-q", "calibrate", "--weights", weights, "--data", data, "--split", "val") == 0
    assert "temperature" in capsys.readouterr().out
    saved = json.loads((weights / "model" / "calibration.json").read_text())
    assert saved["temperatures"].keys() == set(LABEL_SPACE.names)
    assert any(temperature != 1.0 for temperature in saved["temperatures"].values())
    assert "studies of split val of synthetic bladder tissue" in saved["fitted_on"]

    assert call("-q", "calibrate", "--weights", weights, "--data", data, "--json") == 0
    assert json.loads(capsys.readouterr().out) == saved  # fitted again, to the same

    assert call(*words) == 0
    after = records(capsys.readouterr().out)
    assert [record["diagnosis"] for record in after] == [record["diagnosis"] for record in before]
    assert [record["report"] for record in after] == [record["report"] for record in before]
    assert after[0]["aspects"] != before[0]["aspects"]
    assert 0 <= after[0]["out_of_distribution"]["score"] < 1


def test_a_diagnosis_that_is_not_sure_enough_is_not_given_but_the_report_is(weights, data, tmp_path, capsys):
    image = min((data / "images").glob("*.png"))
    words = ["generate", image, "--weights", weights]
    assert call(*words, "--format", "jsonl", "--abstain-below", 0) == 0
    (plain,) = records(capsys.readouterr().out)
    assert plain["abstained"] is False
    probability = plain["aspects"]["conclusion"]["probabilities"][plain["diagnosis"]]
    below = min(probability + 0.01, 1.0)

    assert call(*words, "--format", "jsonl", "--abstain-below", below) == 0
    (record,) = records(capsys.readouterr().out)
    assert record["abstained"] is True
    assert record["diagnosis"] is None
    assert record["report"] == plain["report"]

    assert call(*words, "--abstain-below", below) == 0
    said = f"no diagnosis ({probability:.2f}, below {below:.2f})"
    head, report = capsys.readouterr().out.splitlines()
    assert head == f"{image}: {said}"
    assert report.strip() == plain["report"]

    pages = tmp_path / "pages"
    assert call("-q", *words, "--format", "html", "--out", pages, "--abstain-below", below) == 0
    page = next(pages.iterdir()).read_text()
    assert f'<p class="answer">{said}' in page
    assert f"<title>{image.name}: {said}" in page


def test_an_image_out_of_distribution_is_marked_in_text_and_page(data, tmp_path, capsys):
    image = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(image)
    tile = Path(__file__).parents[2] / "data" / "sample" / "images" / "p00000.png"
    assert call("-q", "generate", image, tile) == 0
    heads = capsys.readouterr().out.splitlines()[::2]
    assert "out of distribution: more unusual than 99.9% of the validation images" in heads[0]
    assert "out of distribution" not in heads[1]
    assert call("-q", "generate", image, tile, "--format", "html", "--out", tmp_path / "pages") == 0
    assert "Out of distribution:" in (tmp_path / "pages" / "noise.html").read_text()
    assert "Out of distribution:" not in (tmp_path / "pages" / "p00000.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["calibrate", "--weights", "mdnet_tiny/phantom", "--data", "."],
            "no such folder; name a run or model",
        ),
        (["generate", ".", "--abstain-below", "80"], "--abstain-below 80 is no probability; give 0 to 1"),
    ],
)
def test_a_wrong_call_gets_one_line_and_exit_code_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_split_that_is_not_there_is_named(weights, tmp_path, capsys, data):
    assert call("calibrate", "--weights", weights, "--data", data, "--split", "dev") == 2
    assert "no study in split 'dev'" in capsys.readouterr().err
