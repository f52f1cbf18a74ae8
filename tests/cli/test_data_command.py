"""`mdnet data` as a script meets it: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mdnet.cli.main import main
from mdnet.data.phantom import make_phantom


def call(*words: object) -> int:
    """Exit code of `mdnet data WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main(["data", *map(str, words)])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("phantom") / "data", 40, seed=3, size=32, workers=1)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """3,000 studies without their image, and two other faults."""
    lines = [json.dumps({"id": f"s{number}", "images": [f"images/s{number}.png"]}) for number in range(3000)]
    lines += ['{"id": "b"', json.dumps({"id": "s1", "images": ["x.png"], "split": "dev"})]
    (tmp_path / "studies.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("command", ["check", "stats", "convert", "split", "show", "phantom"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]):
    assert call(command, "--help") == 0
    assert f"mdnet data {command}" in capsys.readouterr().out.split("Example:")[1]


def test_thousands_of_faults_are_read_in_a_dozen_lines(broken: Path, capsys: pytest.CaptureFixture[str]):
    assert call("check", broken) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 20
    assert sum("no image" in line and line.startswith("error: ") for line in lines) == 5
    assert "error: ... 2,996 more of this kind; --json lists them all" in lines
    assert any(line.split() == ["3,001", "error", "no", "image", "…"] for line in lines)
    assert "broken JSON" in "".join(lines)
    assert lines[-1] == f"{broken}: 3,003 errors, 0 warnings"


def test_all_faults_are_in_the_json_with_their_kinds(broken: Path, capsys: pytest.CaptureFixture[str]):
    assert call("check", broken, "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["errors"], record["warnings"], len(record["faults"])) == (3003, 0, 3003)
    assert record["kinds"][0] == {"severity": "error", "kind": "no image …", "count": 3001}
    assert sum(kind["count"] for kind in record["kinds"]) == 3003


def test_check_of_a_sound_set_is_one_line(phantom: Path, capsys: pytest.CaptureFixture[str]):
    assert call("check", phantom) == 0
    assert capsys.readouterr().out == f"{phantom}: 0 errors, 0 warnings\n"


def test_stats_are_a_table_for_people_and_json_for_scripts(phantom: Path, capsys: pytest.CaptureFixture[str]):
    assert call("stats", phantom, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert call("stats", phantom) == 0
    text = capsys.readouterr().out
    assert record["studies"] == 40
    assert ["studies", "40", "listed,", "40", "usable"] in [line.split() for line in text.splitlines()]
    splits = [str(count) for count in record["splits"].values()]
    assert ["studies", *splits, "40"] in [line.split() for line in text.splitlines()]
    assert "conclusion (diagnosis)" in text
    high = record["labels"]["conclusion"]["high grade"]
    line = next(line for line in text.splitlines() if line.startswith("  high grade "))
    assert line.endswith(f"{high} ({100 * high / 40:.1f}%)")
    assert "whole report" in text
    assert f"{record['vocabulary']:,} words" in text


def test_stats_of_a_set_with_faults_and_without_reports(broken: Path, capsys: pytest.CaptureFixture[str]):
    assert call("stats", broken) == 0
    text = capsys.readouterr().out
    assert "3,001 listed, 0 usable, 3,001 with errors" in text
    assert "3,001 listed, 3,001 of them missing" in text
    assert "no reports" in text


def test_of_many_classes_the_commonest_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    entries = [
        {"id": f"s{number}", "images": ["a.png"], "labels": {"x": f"class {number % 30}"}}
        for number in range(100)
    ]
    (tmp_path / "studies.jsonl").write_text("\n".join(map(json.dumps, entries)))
    assert call("stats", tmp_path) == 0
    text = capsys.readouterr().out
    assert sum(line.startswith("  class ") for line in text.splitlines()) == 12
    assert "18 rarer classes: --json" in text


def test_convert_and_back(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert call("convert", phantom, "--to", "shards", "--out", tmp_path / "shards") == 0
    assert call("convert", tmp_path / "shards", "--out", tmp_path / "back") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'back'}: 40 studies"
    assert call("check", tmp_path / "back") == 0
    assert call("convert", phantom, "--out", tmp_path / "back") == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert call("convert", phantom, "--out", tmp_path / "x", "--to", "csv") == 2
    assert "no layout 'csv'" in capsys.readouterr().err


def test_convert_says_what_is_lost(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog):
    assert call("convert", phantom, "--to", "r2gen", "--out", tmp_path / "r2gen", "--link") == 0
    assert "up to 5 writers a report: the first one is kept" in caplog.text
    assert call("stats", tmp_path / "r2gen", "--json") == 0
    record = json.loads(capsys.readouterr().out.split("studies\n", 1)[1])
    assert (record["format"], record["studies"], record["references"]) == ("r2gen", 40, 40)


def test_split_writes_a_list_and_says_what_is_where(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shares = ["--train", ".5", "--val", ".25", "--test", ".25", "--seed", 1]
    assert call("split", phantom, "--out", tmp_path / "a", *shares) == 0
    text = capsys.readouterr().out
    assert call("split", phantom, "--out", tmp_path / "b", *shares, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    sizes = list(record["splits"].values())
    assert sizes == pytest.approx([20, 10, 10], abs=2)
    assert record["patients_in_two_splits"] == 0
    assert ["studies", *map(str, sizes), "40"] in [line.split() for line in text.splitlines()]
    assert "conclusion (diagnosis)" in text
    assert text.splitlines()[-1] == str(tmp_path / "a")
    assert (tmp_path / "a/dataset.json").read_bytes() == (tmp_path / "b/dataset.json").read_bytes()
    assert call("check", tmp_path / "a") == 0
    assert call("split", phantom, "--out", tmp_path / "c", "--train", ".8") == 2
    assert "they sum to 1" in capsys.readouterr().err


def test_show_writes_one_page_of_what_was_asked_for(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page = tmp_path / "new" / "page.html"
    assert call("show", phantom, "--out", page, "--split", "train", "--limit", 5) == 0
    assert capsys.readouterr().out.startswith(str(page))
    html = page.read_text()
    assert html.count("<article") == 5
    assert "split train" in html
    assert "http" not in html.replace("http-equiv", "")
    assert call("show", phantom, "--out", page, "--aspect", "mitosis", "--class", "rare") == 0
    html = page.read_text()
    assert html.count("<article") == html.count('data-class="mitosis: rare"') > 1
    assert call("show", phantom, "--out", page, "--class", "rare") == 2
    assert "name its aspect" in capsys.readouterr().err
