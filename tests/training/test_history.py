"""`history.csv` holds every row, and `history.png` a panel for everything that was measured."""

from __future__ import annotations

import csv

import pytest
from PIL import Image

from mdnet.training import history as history_module
from mdnet.training.history import draw_history, write_history


def test_columns_that_only_some_rows_have_are_kept(tmp_path):
    path = write_history(tmp_path / "history.csv", [{"epoch": 1}, {"epoch": 2, "val_score": 0.5}])
    assert path.read_text() == "epoch,val_score\n1,\n2,0.5\n"
    with path.open(newline="") as file:
        assert list(csv.DictReader(file))[1] == {"epoch": "2", "val_score": "0.5"}


def test_a_history_that_cannot_be_written_costs_nothing_of_the_one_before(tmp_path, monkeypatch):
    path = write_history(tmp_path / "history.csv", [{"epoch": 1}])
    before = path.read_bytes()

    def full(*arguments) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("mdnet.files.os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_history(path, [{"epoch": 1}, {"epoch": 2}])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_the_picture_is_readable_at_900_pixels_and_marks_the_best_epoch(tmp_path, monkeypatch):
    seen = []
    plain = history_module.history_picture

    def history_picture(rows, *, best):
        seen.append(best)
        return plain(rows, best=best)

    monkeypatch.setattr(history_module, "history_picture", history_picture)
    rows = [{"epoch": n, "train_language_loss": 1 / n, "val_cider": n, "learning_rate": 1e-3} for n in (1, 2)]
    path = draw_history(tmp_path / "history.png", rows, best=1)
    with Image.open(path) as picture:
        assert 900 <= picture.width <= 1500
    assert seen == [1]


def test_where_there_is_nothing_to_draw_no_file_is_written(tmp_path):
    assert draw_history(tmp_path / "history.png", [{"epoch": 1}]) is None
    assert draw_history(tmp_path / "history.png", []) is None
    assert not list(tmp_path.iterdir())
