"""How to read a data set, said on the command line: --column and --uncertain reach the reader everywhere."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from mdnet.cli.main import main
from mdnet.cli.options import columns_of, reader_options
from mdnet.data.readers import ReaderOptions
from mdnet.errors import ConfigurationError

MODEL = "{image_size: 32, widths: [4, 6, 8], depths: [1, 1, 1], hidden_size: 16, maximum_words: 12}"
COLUMNS = {"image": "scan", "report.findings": "Findings text", "label.edema": "edema", "patient": "who"}


def call(*words):
    """Exit code of `mdnet WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words])
    return int(exit_.value.code or 0)


def words_of(columns):
    return [word for role, name in columns.items() for word in ("--column", f"{role}={name}")]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with column names that nobody could guess."""
    root = tmp_path_factory.mktemp("table")
    lines = ["scan,Findings text,edema,who"]
    generator = np.random.default_rng(0)
    for number in range(24):
        image = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / f"{number}.png")
        lines.append(f"{number}.png,Seen {number % 2}.,{[0, 1, 1, 0, -1][number % 5]},p{number}")
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


def test_columns_are_role_and_name():
    assert columns_of(["report=Findings text", "label.a=b=c"]) == {
        "report": "Findings text",
        "label.a": "b=c",
    }
    assert reader_options(None, None) == ReaderOptions()
    assert reader_options(["id=x"], "class") == ReaderOptions({"id": "x"}, "class")


@pytest.mark.parametrize("text", ["report", "=x", "report=", ""])
def test_a_column_without_role_or_name_is_an_error(text):
    with pytest.raises(ConfigurationError, match="write role=name"):
        columns_of([text])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "reprot=x"], "no column can be 'reprot' (did you mean 'report'?)"),
        (["--uncertain", "presnt"], "uncertain is 'presnt' (did you mean 'present'?)"),
        (["--column", "image=x"], "no column 'x' for image"),
    ],
)
def test_wrong_options_are_one_line(table, options, message, capsys):
    assert call("data", "check", table, *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["data", "check", "DATA"],
        ["data", "stats", "DATA"],
        ["train", "--data", "DATA", "--out", "OUT"],
        ["evaluate", "--predictions", "OUT/none.jsonl", "--data", "DATA"],
        ["calibrate", "--weights", "DATA", "--data", "DATA"],
        ["overview", "DATA", "--out", "OUT"],
        ["inspect", "statistics", "DATA", "--layer", "x", "--out", "OUT"],
        ["inspect", "units", "DATA", "--layer", "x", "--channel", "0", "--out", "OUT"],
        ["inspect", "maximise", "DATA", "--out", "OUT"],
        ["inspect", "gradients", "DATA", "--out", "OUT"],
        ["explain", "DATA", "--benchmark"],
    ],
    ids=" ".join,
)
def test_every_command_that_reads_data_asks_for_the_columns(table, tmp_path, command, capsys):
    words = [word.replace("DATA", str(table)).replace("OUT", str(tmp_path / "out")) for word in command]
    assert call(*words, "--column", "image=no such", "--uncertain", "class") == 2
    assert f"{table / 'list.csv'}:1: no column 'no such' for image" in capsys.readouterr().err


def test_stats_counts_what_the_options_say(table, capsys):
    assert call("data", "stats", table, "--json", *words_of(COLUMNS), "--uncertain", "class") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["labels"]["edema"] == {"absent": 10, "present": 10, "uncertain": 4, "missing": 0}
    assert numbers["sections"] == {"findings": 24}
    assert (numbers["format"], numbers["patients"]) == ("table", 24)


def test_a_run_keeps_how_its_data_were_read_and_evaluate_reads_them_so(table, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--epochs", 1, "--batch-size", 8, "--set", f"model_options={MODEL}"]
    said = [*words_of(COLUMNS), "--uncertain", "present"]
    assert call("-q", "train", "--data", table / "list.csv", "--out", out, *words, *said) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["columns"], config["uncertain"]) == (COLUMNS, "present")
    assert call("evaluate", "--run", out, "--split", "val") == 0
    capsys.readouterr()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["verdict"][0].startswith("The val split chose the epoch")
    assert call("evaluate", "--run", out, "--column", "image=scan") == 2
    assert "add --data" in capsys.readouterr().err


def test_columns_that_read_a_data_set_need_a_benchmark(table, capsys):
    assert call("explain", table, "--column", "image=scan") == 2
    assert "add --benchmark" in capsys.readouterr().err
