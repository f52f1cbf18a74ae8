"""`mdnet overview` as a script meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdnet.cli.main import main

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


def call(*words: object) -> int:
    """Exit code of `mdnet overview WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main(["overview", *map(str, words)])
    return int(exit_.value.code or 0)


def test_help_has_an_example(capsys):
    assert call("--help") == 0
    assert "mdnet overview" in capsys.readouterr().out.split("Example:")[1]


def test_a_limited_overview_is_written_and_said(tmp_path, capsys):
    assert call(SAMPLE, "--limit", 12, "--method", "pca", "--out", tmp_path / "o", "--json") == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert len(record["studies"]) == 12
    assert [(each["space"], each["method"]) for each in record["embeddings"]] == [
        ("pixels", "pca"),
        ("features", "pca"),
        ("sections", "pca"),
    ]
    assert record["surrogate"] is None  # 12 studies are too few, and that is said
    assert "at least 40" in record["without"][0]
    assert "12 of 50 studies" in err
    written = {path.name for path in (tmp_path / "o").iterdir()}
    assert {"index.html", "overview.json", "scatter.html", "scales.png", "errors.html"} <= written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "mds"], "--method mds is none of pca, tsne, umap"),
        (["--split", "none"], "no study in split 'none'"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path, capsys, words, message):
    assert call(SAMPLE, *words, "--out", tmp_path) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
