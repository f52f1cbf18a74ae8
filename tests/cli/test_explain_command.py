"""`mdnet explain` as a script meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mdnet.cli.main import main
from mdnet.explain.explanation import Explanation
from mdnet.explain.registry import list_methods
from mdnet.inference.predictor import Predictor

SAMPLE = Path(__file__).parents[2] / "data/sample/images"
TILE, OTHER = SAMPLE / "p00000.png", SAMPLE / "p00001.png"


def call(*words: object) -> int:
    """Exit code of `mdnet explain WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main(["explain", *(str(word) for word in words)])
    return int(exit_.value.code or 0)


def test_help_has_an_example(capsys):
    assert call("--help") == 0
    assert "mdnet explain" in capsys.readouterr().out.split("Example:")[1]


def test_methods_are_listed_with_their_settings(capsys):
    assert call("--list-methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].removesuffix(" (by design)") for line in lines[::2]] == list_methods()


def test_a_contrast_is_written_in_every_format_and_sums_to_the_difference_of_logits(tmp_path, capsys):
    words = [TILE, "--aspect", "mitosis", "--label", "frequent", "--against", "absent"]
    assert call(*words, "--format", "html, png,npz", "--out", tmp_path / "why") == 0
    written = capsys.readouterr().out.splitlines()
    assert [Path(line).name for line in written] == ["p00000.html", "p00000.png", "p00000_evidence.npz"]
    each = Explanation.load_npz(tmp_path / "why/p00000_evidence.npz")
    logits = Predictor.from_pretrained("mdnet_tiny/phantom")(TILE).aspects["mitosis"].logits
    assert each.score == pytest.approx(logits["frequent"] - logits["absent"], rel=1e-5)
    assert each.residual == pytest.approx(0, abs=1e-4)
    assert each.source == str(TILE)


def test_a_folder_gets_a_page_each_and_an_index_and_a_broken_image_is_named(tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for source in (TILE, OTHER):
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    assert call(folder, "--out", tmp_path / "why") == 1
    assert {path.name for path in (tmp_path / "why").iterdir()} == {
        "index.html",
        "p00000.html",
        "p00001.html",
    }
    assert "broken.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "method", "target"),
    [
        (["--section", "mitosis"], "section_attention", "mitosis: "),
        (["--report"], "report_attention", "report: "),
        (["--section", "mitosis", "--word", 1], "attention", "mitosis: word 1"),
        ([], "evidence", "conclusion: "),
    ],
)
def test_what_is_asked_for_gets_its_own_map_by_design(words, method, target, tmp_path, capsys):
    assert call(TILE, *words, "--format", "npz", "--json", "--out", tmp_path) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["method"] == method
    assert record["target"].startswith(target)


def test_a_word_is_explained_by_its_attention(tmp_path, capsys):
    words = ["--section", "mitosis", "--word", 2, "--method", "attention", "--format", "npz", "--json"]
    assert call(TILE, *words, "--out", tmp_path) == 0
    record = json.loads(capsys.readouterr().out)
    finding = Predictor.from_pretrained("mdnet_tiny/phantom")(TILE)
    assert record["target"] == f"mitosis: word 2, {finding.report.sections['mitosis'].words[1]!r}"
    heat = Explanation.load_npz(tmp_path / "p00000_attention.npz").map
    np.testing.assert_allclose(heat, finding.attention("mitosis")[1], atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name images"),
        ([TILE, "--method", "magic"], "no method 'magic'; there are"),
        ([TILE, "--aspect", "colour"], "colour"),
        ([TILE, "--aspect", "mitosis", "--label", "green"], "green"),
        ([TILE, "--format", "gif"], "none of html, png, npz"),
        ([TILE, "--set", "evidence.window=3"], "no setting window"),
        ([TILE, "--set", "window=3"], "METHOD.NAME=VALUE"),
        ([TILE, "--set", "saliency.window=3"], "not among --method"),
        ([TILE, "--section", "mitosis", "--aspect", "mitosis"], "explain one thing"),
        ([TILE, "--section", "mitosis", "--report"], "explain one thing"),
        ([TILE, "--word", 3], "explain one thing"),
        ([TILE, "--section", "nothing"], "no section 'nothing'"),
        ([TILE, "--section", "mitosis", "--word", 99], "11 words"),
        ([TILE, "--section", "mitosis", "--word", 0], "words count from 1"),
        ([TILE, "--set", "evidence.block=3"], "give a name"),
        ([TILE, "--method", "attention"], "cannot explain"),
        ([TILE, "--benchmark", "--label", "rare", "--set", "lime.parts=9"], "leave out --label, --set"),
        (["nowhere/"], "no image there"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(words, message, capsys, tmp_path):
    assert call(*words, "--out", tmp_path / "why") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "why").exists()
