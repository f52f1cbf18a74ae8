"""Writing so that nothing earlier is lost."""

import pytest

from mdnet import files
from mdnet.errors import ConfigurationError


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


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path):
    with files.writing_folder(tmp_path / "x") as partial:
        (partial / "a").write_text("a")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x" / "a").read_text() == "a"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_is_told_with_the_folder_and_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match=r"free some space") as error, files.writing_folder(tmp_path / "x"):
        raise OSError(28, "No space left on device", "/some/source.png")
    assert error.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_written_into(tmp_path):
    (tmp_path / "a").write_text("kept")
    for taken in (tmp_path, tmp_path / "a"):
        with pytest.raises(ConfigurationError, match="not an empty folder"), files.writing_folder(taken):
            pytest.fail("it was opened")
    assert (tmp_path / "a").read_text() == "kept"


def test_a_mounted_disk_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(files.Path, "is_mount", lambda folder: folder == tmp_path)
    with pytest.raises(ConfigurationError, match="name a folder in it"), files.writing_folder(tmp_path):
        pytest.fail("it was opened")
    with files.writing_folder(tmp_path / "x"):
        pass
