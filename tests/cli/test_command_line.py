"""The command line as a script meets it: exit codes, one-line errors, files written, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdnet.cli.main import main
from mdnet.data.phantom import make_phantom

REPOSITORY = Path(__file__).parents[2]
COMMANDS = [
    ["train"],
    ["evaluate"],
    ["generate"],
    ["calibrate"],
    ["models"],
    ["data", "check"],
    ["data", "stats"],
    ["data", "phantom"],
]


def call(*words: object) -> int:
    """Exit code of `mdnet WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "data", 40, seed=3, size=32, workers=1)


@pytest.fixture(scope="module")
def run(phantom, tmp_path_factory) -> Path:
    """A trained and evaluated run of a very small model."""
    out = tmp_path_factory.mktemp("runs") / "x"
    options = "{image_size: 32, widths: [4, 6, 8], depths: [1, 1, 1], hidden_size: 16, maximum_words: 12}"
    words = ["--epochs", 2, "--seed", 3, "--batch-size", 8, "--set", f"model_options={options}"]
    assert call("-q", "train", "--data", phantom, "--out", out, *words) == 0
    assert call("evaluate", "--run", out, "--split", "test") == 0
    return out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(command, capsys):
    assert call(*command, "--help") == 0
    assert f"mdnet {' '.join(command)}" in capsys.readouterr().out.split("Example:")[1]


def test_a_run_folder_holds_all_that_the_readme_names(run):
    held = {path.name for path in run.iterdir()}
    assert held >= {"model", "config.yaml", "metrics.json", "predictions.jsonl", "history.csv", "index.html"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["diagnosis"]["accuracy"] <= 1
    assert set(metrics["text"]) >= {"bleu_4", "rouge_l", "cider", "meteor"}
    assert set(metrics["baselines"]) >= {"majority", "constant_report", "shuffled", "nearest_neighbour"}
    assert metrics["verdict"]
    assert metrics["provenance"]["seed"] == 3
    assert len(metrics["provenance"]["data_hash"]) == 64
    predictions = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == metrics["studies"]
    assert all(record["report"] for record in predictions)


def test_a_run_is_not_overwritten(run, phantom, capsys):
    assert call("train", "--data", phantom, "--out", run) == 2
    assert "holds a run" in capsys.readouterr().err


def test_resume_refuses_another_configuration(run, phantom, capsys):
    assert call("train", "--data", phantom, "--out", run, "--resume", "auto", "--epochs", 9) == 2
    assert "epochs: 2 there, 9 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--out", "x"], "data must be given"),
        (["train", "--data", "nowhere", "--out", "x"], "no such file or folder"),
        (["train", "--data", ".", "--out", "x", "--set", "epoch=3"], "did you mean epochs?"),
        (["train", "--data", ".", "--out", "x", "--set", "epochs=many"], "takes a whole number"),
        (["train", "--data", ".", "--out", "x", "--resume", "maybe"], "none of auto, never"),
        (["train", "--config", "missing.yaml"], "missing.yaml"),
        (["evaluate", "--run", "nowhere"], "no config.yaml"),
        (["generate", "nowhere.png"], "no image there"),
        (["generate", ".", "--format", "pdf"], "none of text, jsonl, html"),
        (["data", "check", "nowhere"], "no such file or folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_gets_one_line_and_exit_code_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_generate_writes_text_json_lines_and_pages(run, phantom, tmp_path, capsys):
    images = sorted((phantom / "images").glob("*.png"))[:3]
    assert call("generate", *images, "--weights", run) == 0
    assert str(images[2]) in capsys.readouterr().out

    assert (
        call(
            "generate",
            phantom / "images",
            "--weights",
            run,
            "--format",
            "jsonl",
            "--out",
            tmp_path / "r.jsonl",
        )
        == 0
    )
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [Path(record["image"]).name for record in records] == sorted(
        p.name for p in (phantom / "images").iterdir()
    )

    pattern = str(phantom / "images" / "p0000[0-1].png")
    assert call("generate", pattern, "--weights", run, "--format", "html", "--out", tmp_path / "pages") == 0
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["p00000.html", "p00001.html"]


def test_generate_names_broken_images_and_writes_the_others(run, phantom, tmp_path, capsys):
    good = sorted((phantom / "images").glob("*.png"))[0]
    (tmp_path / "a_broken.png").write_bytes(b"no image")
    (tmp_path / "b_good.png").write_bytes(good.read_bytes())
    assert call("generate", tmp_path, "--weights", run, "--format", "jsonl") == 1
    captured = capsys.readouterr()
    assert [Path(json.loads(line)["image"]).name for line in captured.out.splitlines()] == ["b_good.png"]
    assert "a_broken.png" in captured.err


def test_findings_of_two_folders_with_equal_names_do_not_overwrite_each_other(run, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / folder / "tile.png")
    out = tmp_path / "pages"
    assert (
        call(
            "-q",
            "generate",
            tmp_path / "one",
            tmp_path / "two",
            "--weights",
            run,
            "--format",
            "html",
            "--out",
            out,
        )
        == 0
    )
    assert len(list(out.iterdir())) == 2


def test_data_check_lists_every_fault_and_exits_1(phantom, tmp_path, capsys):
    assert call("data", "check", phantom) == 0
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "studies.jsonl").write_text('{"id": "a", "images": ["a.png"]}\n{"id": "b"\n{"id": "c"}\n')
    capsys.readouterr()
    assert call("data", "check", folder) == 1
    out = capsys.readouterr().out
    assert all(f"studies.jsonl:{line}" in out for line in (1, 2, 3))
    assert call("data", "check", folder, "--json") == 1
    assert json.loads(capsys.readouterr().out)["errors"] == 3


def test_data_stats_counts(phantom, capsys):
    assert call("data", "stats", phantom, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["studies"] == 40
    assert sum(record["splits"].values()) == 40


def test_models_lists_names_and_weights(capsys):
    assert call("models", "--json") == 0
    assert {"mdnet_tiny", "mdnet_small", "mdnet_base"} <= set(json.loads(capsys.readouterr().out)["models"])


def test_evaluating_on_data_with_other_labels_names_the_difference(run, phantom, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    record = json.loads((phantom / "dataset.json").read_text())
    record["aspects"][3]["classes"] = ["none", "few", "many"]
    record["aspects"][3]["reference"] = "none"
    (other / "dataset.json").write_text(json.dumps(record))
    image = next((phantom / "images").glob("*.png"))
    (other / "a.png").write_bytes(image.read_bytes())
    (other / "studies.jsonl").write_text('{"id": "a", "images": ["a.png"], "split": "test"}\n')
    assert call("evaluate", "--run", run, "--data", other) == 2
    assert "mitosis" in capsys.readouterr().err


def test_a_killed_pipe_is_no_traceback(run, phantom):
    command = [
        sys.executable,
        "-m",
        "mdnet.cli.main",
        "generate",
        str(phantom / "images"),
        "--weights",
        str(run),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
    assert "Traceback" not in error


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_scripts_at_the_top_are_the_same_commands(script):
    result = subprocess.run(
        [sys.executable, REPOSITORY / script, "--help"], capture_output=True, text=True, check=True
    )
    assert f"mdnet {script.removesuffix('.py')}" in result.stdout


def test_a_full_disk_is_one_line(phantom, tmp_path):
    """A limit on the size of a file stands in for a full disk: both fail in the write itself."""
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    script += "from mdnet.cli.main import main; main(sys.argv[1:])"
    out = tmp_path / "run"
    words = [
        "train",
        "--data",
        phantom,
        "--out",
        out,
        "--epochs",
        1,
        "--set",
        "model_options={image_size: 32}",
    ]
    command = [sys.executable, "-c", script, *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
