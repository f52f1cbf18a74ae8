"""`mdnet counterfactual` as a script meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdnet.cli.main import main

TILE = Path(__file__).parents[2] / "data/sample/images/p00000.png"


def call(*words: object) -> int:
    """Exit code of `mdnet counterfactual WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main(["counterfactual", *(str(word) for word in words)])
    return int(exit_.value.code or 0)


def test_help_has_an_example(capsys):
    assert call("--help") == 0
    assert "mdnet counterfactual" in capsys.readouterr().out.split("Example:")[1]


def test_the_cells_that_decide_are_written_and_drawn(tmp_path, capsys):
    assert call(TILE, "--aspect", "mitosis", "--out", tmp_path, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((tmp_path / "p00000.json").read_text())
    assert record["answer"] == "frequent"
    assert record["in_image"]["verified"]
    assert record["in_image"]["answer"] != "frequent"
    assert 0 < record["in_image"]["share"] <= 0.5
    with Image.open(tmp_path / "p00000.png") as picture:
        assert picture.width > 1.5 * picture.height  # both panels


def test_no_set_within_the_limit_is_said_and_drawn_alone(tmp_path, capsys):
    assert call(TILE, "--aspect", "mitosis", "--limit", 0.001, "--out", tmp_path) == 0
    assert "no set of at most 0.1%" in capsys.readouterr().out
    with Image.open(tmp_path / "p00000.png") as picture:
        assert picture.width < 1.5 * picture.height


def test_a_broken_image_is_named_and_the_others_are_done(tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    assert call(broken, TILE, "--aspect", "mitosis", "--out", tmp_path / "out") == 1
    assert "broken.png" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"p00000.json", "p00000.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--aspect", "colour"], "colour"),
        (["--aspect", "mitosis", "--against", "green"], "green"),
        (["--aspect", "mitosis", "--against", "frequent"], "is the model's answer"),
        (["--limit", 2], "limit 2"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(words, message, capsys, tmp_path):
    assert call(TILE, *words, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_picture_outlines_the_cells_where_they_are():
    from matplotlib.figure import Figure

    from mdnet.report.counterfactual_picture import outline

    axis = Figure().add_subplot()
    cells = np.zeros((4, 4), bool)
    cells[3, 0] = True  # bottom left of an image of 8 x 16 pixels
    outline(axis, cells, 16, 8)
    corners = {tuple(point) for segment in axis.collections[0].get_segments() for point in segment}
    assert corners == {(0, 6), (0, 8), (4, 6), (4, 8)}
