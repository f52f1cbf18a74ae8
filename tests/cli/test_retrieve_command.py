"""`mdnet retrieve` as a script meets it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mdnet.cli.main import main
from mdnet.data.phantom import stated_class
from mdnet.data.readers import read_studies

SAMPLE = Path(__file__).parents[2] / "data/sample"
STUDIES = {study.id: study for study in read_studies(SAMPLE).studies}


def call(*words: object) -> int:
    """Exit code of `mdnet retrieve WORDS`."""
    with pytest.raises(SystemExit) as exit_:
        main(["retrieve", *map(str, words)])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of twelve tiles."""
    folder = tmp_path_factory.mktemp("tiles")
    for name in list(STUDIES)[:12]:
        shutil.copy2(SAMPLE / f"images/{name}.png", folder)
    return folder


def test_help_has_an_example(capsys):
    assert call("--help") == 0
    assert "mdnet retrieve" in capsys.readouterr().out.split("Example:")[1]


def test_images_are_ranked_by_what_is_said_of_them(folder, capsys):
    words = ["mitosis is frequent", "--in", folder, "--weights", "mdnet_tiny/phantom", "--json"]
    assert call(*words, "--top", 12) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    frequent = [STUDIES[Path(each["image"]).stem].labels.get("mitosis") == "frequent" for each in found]
    assert 0 < sum(frequent) < 12
    assert frequent == sorted(frequent, reverse=True)
    assert [each["rank"] for each in found] == list(range(1, 13))
    assert all(str(each["image"]).startswith(f"{folder}/") for each in found)
    first = found[0]
    assert first.keys() == {"rank", "image", "score", "diagnosis", "probability", "parts"}
    assert first["parts"] == [
        {"text": "Mitosis is frequent", "states": "mitosis: frequent", "score": first["score"]}
    ]
    assert "'Mitosis is frequent' is read as mitosis: frequent" in err


def test_the_second_query_reads_no_image(folder, monkeypatch, capsys):
    assert call("frequent mitosis", "--in", folder) == 0
    monkeypatch.setattr("mdnet.inference.reading.as_decoded", lambda *_: pytest.fail("an image was read"))
    assert call("rare mitosis, polarity lost", "--in", folder, "--top", 2) == 0
    head, *lines = capsys.readouterr().out.splitlines()[-3:]
    assert head.split() == ["rank", "score", "Rare", "mitosis", "Polarity", "lost", "diagnosis", "image"]
    assert [line.split()[0] for line in lines] == ["1", "2"]


def test_a_sheet_is_written_and_named(folder, tmp_path, capsys):
    assert call("frequent mitosis, nuclei", "--in", folder, "--top", 3, "--out", tmp_path / "found.html") == 0
    assert str(tmp_path / "found.html") in capsys.readouterr().err
    assert (tmp_path / "found.html").read_text(encoding="utf-8").count("<canvas") == 6


def test_images_of_any_name_are_on_the_sheet_by_their_path_in_the_folder(tmp_path, monkeypatch, capsys):
    names = ["aa/1 + 2.png", "a/3.png"]
    for name, study in zip(names, STUDIES, strict=False):
        (tmp_path / "a" / name).parent.mkdir(parents=True)
        shutil.copy2(SAMPLE / f"images/{study}.png", tmp_path / "a" / name)
    monkeypatch.chdir(tmp_path)
    assert call("mitosis is frequent", "--in", "a", "--as-written", "--out", "found.html", "--json") == 0
    found = [each["image"] for each in json.loads(capsys.readouterr().out)]
    assert sorted(found) == sorted(f"a/{name}" for name in names)
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert all(f"</span> {name}</h2>" in page for name in names)


def test_a_folder_with_a_card_of_its_own_is_one_of_images(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "tiles")
    (tmp_path / "tiles/card.json").write_text('{"license": "CC0"}')
    assert call("frequent mitosis", "--in", tmp_path / "tiles", "--top", 1, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


def test_a_damaged_store_in_the_cache_is_made_anew(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MDNET_CACHE", str(tmp_path))
    assert call("frequent mitosis", "--in", folder, "--json") == 0
    first = capsys.readouterr().out
    (sources,) = tmp_path.glob("features/*/rows-0/sources.jsonl")
    sources.unlink()
    assert call("frequent mitosis", "--in", folder, "--json") == 0
    assert capsys.readouterr().out == first


def test_as_written_no_part_stands_for_another_text(folder, capsys):
    assert call("frequent mitosis", "--in", folder, "--as-written", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["parts"][0]["states"] is None
    assert "'Frequent mitosis' is scored as it stands" in err


def test_a_broken_image_is_named_by_every_query(folder, tmp_path, capsys):
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy2(next(folder.glob("*.png")), some)
    (some / "broken.png").write_bytes(b"\x89PNG nothing")
    for _ in range(2):
        assert call("frequent mitosis", "--in", some, "--features", tmp_path / "kept", "--json") == 1
        out, err = capsys.readouterr()
        assert len(json.loads(out)) == 1
        assert "broken.png" in err
    assert (
        call("frequent mitosis", "--in", tmp_path / "kept", "--json") == 0
    )  # kept features are searched as such
    assert json.loads(capsys.readouterr().out)[0]["image"] == json.loads(out)[0]["image"]


def test_a_folder_of_broken_images_is_said_to_be_one(tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    assert call("frequent mitosis", "--in", tmp_path) == 2
    assert f"{tmp_path}: none of its images can be read: " in capsys.readouterr().err


def test_images_like_one_are_found_and_it_is_not_among_them(folder, capsys):
    image = next(folder.glob("*.png"))
    assert call("--like", image, "--in", folder, "--top", 12, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 11
    assert str(image) not in {each["image"] for each in found}
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)


def test_an_image_that_is_a_link_is_not_among_those_like_it(folder, tmp_path, capsys):
    for image in folder.glob("*.png"):
        (tmp_path / image.name).symlink_to(image)
    assert call("--like", tmp_path / image.name, "--in", tmp_path, "--json") == 0
    assert str(tmp_path / image.name) not in {e["image"] for e in json.loads(capsys.readouterr().out)}


def test_reports_that_fit_an_image_are_found(capsys):
    name = next(name for name, study in STUDIES.items() if study.labels["conclusion"] == "high grade")
    assert call("--report-of", SAMPLE / f"images/{name}.png", "--in", SAMPLE, "--top", 3, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["rank"] for each in found] == [1, 2, 3]
    assert stated_class("conclusion", found[0]["report"]["conclusion"]) == "high grade"
    assert found[0]["report"] == {k: v[0] for k, v in STUDIES[found[0]["study"]].report.items()}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["zebra", "--in", SAMPLE], "words that the model does not know: 'zebra'"),
        (["", "--in", SAMPLE], "the query '' has no word"),
        (["--in", SAMPLE], "nothing to search for: give one of"),
        (["frequent", "--like", "a.png", "--in", SAMPLE], "a query and --like to search for: give one of"),
        (["--like", "a.png", "--exact", "--in", SAMPLE], "are for a query"),
        (["--report-of", "a.png", "--out", "b.html", "--in", SAMPLE], "--report-of finds reports"),
        (["frequent", "--in", SAMPLE / "none"], "no image there"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(words, line, capsys):
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1
