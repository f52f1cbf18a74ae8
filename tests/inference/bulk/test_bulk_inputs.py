"""What many studies are named by: the order, ids and views of every kind, and lines that name none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mdnet.data.readers import read_studies
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.shards import write_shards
from mdnet.data.study import Fault, Study
from mdnet.data.study_list import StudyList
from mdnet.errors import ConfigurationError, DataError
from mdnet.inference.bulk.inputs import Inputs, find_images, list_inputs, load_inputs, save_inputs


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(*named: object, **columns: str) -> list[tuple[str, tuple[str, ...]]]:
    inputs = list_inputs([str(each) for each in named], ReaderOptions(columns))
    assert inputs.unreadable == ()
    return [(study.id, tuple(map(str, study.images))) for study in inputs.studies]


def test_a_folder_gives_its_images_to_the_bottom_in_the_order_of_names(tmp_path, monkeypatch):
    touch(
        tmp_path, "b.png", "a/2.JPG", "a/10.tif", "a.nii.gz", "c/d/e.dcm", "notes.md", "._b.png", ".x/f.png"
    )
    (tmp_path / "elsewhere.png").symlink_to(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    names = ["a/10.tif", "a/2.JPG", "a.nii.gz", "b.png", "c/d/e.dcm", "elsewhere.png"]
    assert listed(".") == [(name, (name,)) for name in names]
    assert [path for _, (path,) in listed(tmp_path)] == [str(tmp_path / name) for name in names]


def test_what_is_named_twice_is_given_once_and_where_it_was_named_first(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c/d.png")
    found = listed(tmp_path / "b.png", tmp_path, tmp_path / "*.png", tmp_path / "c")
    assert [Path(path).name for _, (path,) in found] == ["b.png", "a.png", "d.png"]


def test_a_glob_gives_files_and_the_images_of_folders(tmp_path):
    touch(tmp_path, "x1/a.png", "x2/b.png", "y/c.png", "x.png")
    found = listed(tmp_path / "x*")
    assert [Path(path).name for _, (path,) in found] == ["x.png", "a.png", "b.png"]


def test_a_list_of_paths_is_relative_to_its_folder(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n\n  sub/b c.png \n/abs/d.png\n\xff.png\n")
    assert [path for _, (path,) in listed(tmp_path / "list.txt")] == [
        f"{tmp_path}/a.png",
        f"{tmp_path}/sub/b c.png",
        "/abs/d.png",
        f"{tmp_path}/{os.fsdecode(bytes([255]))}.png",
    ]


def test_a_table_gives_ids_and_all_views_of_a_study(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("study,file,label\ns1,a.png,x\ns1,b.png,x\ns2,c.png,\n")
    expected = [("s1", (f"{tmp_path}/a.png", f"{tmp_path}/b.png")), ("s2", (f"{tmp_path}/c.png",))]
    assert listed(tmp_path / "t.csv") == expected
    (tmp_path / "u.csv").write_text("Nr,scan\n7,a.png\n")
    assert listed(tmp_path / "u.csv", id="Nr", image="scan") == [("7", (f"{tmp_path}/a.png",))]


def test_json_lines_give_studies_and_a_line_without_an_image_is_told(tmp_path):
    records = [{"id": 3, "image": "a.png"}, {"image": ["b.png", "c.png"]}, {"id": "x"}, {"image": []}]
    file = tmp_path / "list.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in records) + "{broken\n")
    inputs = list_inputs([str(file)])
    a, b, c = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    assert inputs.studies == [Study("3", (a,)), Study(f"{b} + {c}", (b, c))]
    assert [fault.where for fault in inputs.unreadable] == [f"{file}:3", f"{file}:4", f"{file}:5"]
    assert inputs.unreadable[0].problem == "no image under 'image'"
    with pytest.raises(DataError, match=r"list.jsonl:3: no image under 'image'; write a path"):
        find_images([str(file)])


def test_a_data_set_gives_its_studies_and_what_it_lacks_is_told(phantom_folder, phantom_data, tmp_path):
    inputs = list_inputs([str(phantom_folder)])
    assert [study.id for study in inputs.studies] == [study.id for study in phantom_data.studies]
    assert [study.images for study in inputs.studies] == [study.images for study in phantom_data.studies]
    assert inputs.studies[0].report == {}  # what is not needed is not kept
    assert list_inputs([str(phantom_folder / "studies.jsonl")]) == inputs

    touch(tmp_path, "a.png")
    (tmp_path / "studies.jsonl").write_text(
        '{"id": "a", "images": ["a.png"]}\n{"id": "b", "images": ["b.png"]}\n'
    )
    inputs = list_inputs([str(tmp_path)])
    assert [study.id for study in inputs.studies] == ["a"]
    assert [fault.where for fault in inputs.unreadable] == [f"{tmp_path / 'studies.jsonl'}:2"]


def test_shards_are_given_by_folder_or_one_by_one(phantom_data, tmp_path):
    folder = write_shards(phantom_data, tmp_path / "shards", shard_size=40_000)
    tars = sorted(folder.glob("*.tar"))
    assert len(tars) > 2
    whole = read_studies(folder).studies
    ids = [study.id for study in whole]
    assert [study.id for study in list_inputs([str(folder)]).studies] == ids
    assert [study.id for study in list_inputs([str(folder / "*.tar")]).studies] == ids
    (first, *_) = list_inputs([str(tars[1])]).studies
    assert {study.images[0].parent for study in list_inputs([str(tars[1])]).studies} == {tars[1]}
    assert first.images[0].parent == tars[1]


def test_inputs_are_loaded_as_they_were_saved(tmp_path):
    odd = Path(os.fsdecode(b"\xff\n.png"))
    studies = StudyList([Study("ä\n", (Path("a b.png"), odd)), Study("", (Path("/c.png"),))])
    inputs = Inputs(studies, (Fault("f:3", "no é", "mend"),))
    save_inputs(inputs, tmp_path / "inputs.jsonl")
    assert load_inputs(tmp_path / "inputs.jsonl") == inputs


def test_what_is_not_there_is_one_line(tmp_path):
    touch(tmp_path, "empty/notes.md")
    for named in (tmp_path / "nowhere.png", tmp_path / "*.png", tmp_path / "empty"):
        with pytest.raises(ConfigurationError, match="no image there; name an image, a folder"):
            list_inputs([str(named)])
