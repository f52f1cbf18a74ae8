"""Writing so that nothing earlier is lost."""

import pytest

from mdnet import files


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_text(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_folders_are_made_and_undecodable_names_survive(tmp_path):
    path = files.write_text(tmp_path / "x" / "y.txt", "é \udcff\n")
    assert path.read_bytes() == "é ?\n".encode()


def test_any_text_makes_one_file_name():
    assert files.file_name("a/b: <i>") == "a-2f-b-3a--20--3c-i-3e-"
    assert files.file_name(".hidden-n_1.x") == "-2e-hidden-n_1.x"
