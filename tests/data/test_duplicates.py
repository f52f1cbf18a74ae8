"""Files of one content, and how few have to be read to find them."""

from pathlib import Path

import pytest

from mdnet.data import duplicates
from mdnet.data.duplicates import same_images


def write(root: Path, **contents: bytes) -> dict[str, Path]:
    paths = {}
    for name, content in contents.items():
        paths[name] = root / name
        paths[name].write_bytes(content)
    return paths


def test_groups_come_in_the_order_of_the_paths(tmp_path):
    paths = write(tmp_path, a=b"12", b=b"345", c=b"345", d=b"12", e=b"99", f=b"12")
    assert same_images([paths[name] for name in "abcdefa"]) == [
        [paths["a"], paths["d"], paths["f"]],
        [paths["b"], paths["c"]],
    ]


def test_one_file_named_twice_is_no_duplicate(tmp_path):
    paths = write(tmp_path, a=b"12")
    assert same_images([paths["a"], paths["a"]]) == []


def test_a_file_whose_size_no_other_has_is_not_read(tmp_path, monkeypatch):
    paths = write(tmp_path, a=b"1", b=b"22", c=b"33", d=b"4444")
    read = []
    monkeypatch.setattr(duplicates, "read_file", lambda path: read.append(path) or path.read_bytes())
    assert same_images(paths.values(), workers=1) == []
    assert read == [paths["b"], paths["c"]]


@pytest.mark.parametrize("number", [0, 1, 5])
def test_progress_ends_with_all_paths(tmp_path, monkeypatch, number):
    monkeypatch.setattr(duplicates, "_AHEAD", 2)
    paths = write(tmp_path, **{f"f{i}": b"same" for i in range(number)}, alone=b"1")
    calls = []
    found = same_images(paths.values(), progress=lambda *call: calls.append(call))
    assert [len(group) for group in found] == ([number] if number > 1 else [])
    assert calls[-1] == (number + 1, number + 1)


def test_what_cannot_be_read_is_the_same_as_nothing(tmp_path):
    paths = write(tmp_path, a=b"12", b=b"12")
    assert same_images([tmp_path / "none", paths["a"], tmp_path / "nor this", paths["b"]]) == [
        [paths["a"], paths["b"]]
    ]
