"""The synthetic data set on disk: layout, determinism over workers, refusals, a killed run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdnet.data.phantom import (
    LABEL_SPACE,
    SECTIONS,
    PhantomSpec,
    assign_split,
    draw_study,
    make_phantom,
    render,
)
from mdnet.data.phantom import dataset as phantom_dataset
from mdnet.data.study import LabelSpace
from mdnet.errors import ConfigurationError

STUDIES, SEED, SIZE = 70, 9, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "set"
    return make_phantom(out, STUDIES, seed=SEED, size=SIZE, workers=1, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def studies(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "studies.jsonl").read_text("utf-8").splitlines()]


def test_layout_names_every_file_and_every_file_is_named(folder: Path) -> None:
    record = json.loads((folder / "dataset.json").read_text("utf-8"))
    assert LabelSpace.from_dict(record) == LABEL_SPACE
    assert record["sections"] == list(SECTIONS)
    assert f"seed {SEED}, size {SIZE}" in record["provenance"]
    named = {"dataset.json", "studies.jsonl"}
    for index, study in enumerate(studies(folder)):
        assert study["id"] == study["patient"] == f"p{index:05d}"
        assert study["labels"] == draw_study(SEED, index).labels
        assert [len(texts) for texts in study["report"].values()] == [5] * len(SECTIONS)
        named |= {*study["images"], *study["masks"].values()}
    assert named == set(contents(folder))
    assert len(studies(folder)) == STUDIES


def test_images_and_masks_on_disk_are_those_drawn(folder: Path) -> None:
    for index, study in enumerate(studies(folder)[:12]):
        tile = render(draw_study(SEED, index), SIZE)
        with Image.open(folder / study["images"][0]) as image:
            assert np.array_equal(np.asarray(image), tile.image)
        assert set(study["masks"]) == {name for name, mask in tile.masks.items() if mask.any()}
        for name, path in study["masks"].items():
            with Image.open(folder / path) as mask:
                assert np.array_equal(np.asarray(mask) > 0, tile.masks[name])


def test_number_of_workers_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    make_phantom(tmp_path / "set", STUDIES, seed=SEED, size=SIZE, workers=2, progress=False)
    assert contents(tmp_path / "set") == contents(folder)


def test_more_studies_keep_the_first_ones(folder: Path, tmp_path: Path) -> None:
    make_phantom(tmp_path / "set", 5, seed=SEED, size=SIZE, workers=1, progress=False)
    assert studies(tmp_path / "set") == studies(folder)[:5]


@pytest.mark.parametrize("count", [10, 40, 400, 4001])
def test_splits_have_their_shares_at_every_length(count: int) -> None:
    shares = Counter(assign_split(index) for index in range(count))
    for split, share in {"train": 0.8, "val": 0.1, "test": 0.1}.items():
        assert abs(shares[split] - share * count) <= 2


def test_splits_can_be_chosen(tmp_path: Path) -> None:
    out = tmp_path / "set"
    make_phantom(out, 6, seed=1, size=32, splits=(0.0, 0.0, 1.0), workers=1, progress=False)
    assert {study["split"] for study in studies(out)} == {"test"}


def test_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine", "utf-8")
    with pytest.raises(ConfigurationError, match="is not an empty folder: name a new one"):
        make_phantom(tmp_path, 4, seed=1, progress=False)
    assert contents(tmp_path) == {"note.txt": b"mine"}


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="is not an empty folder"):
        make_phantom(tmp_path / "file", 4, seed=1, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"studies": 0}, "studies 0: make at least 1"),
        ({"size": 8}, "size 8: a tile has at least 32 pixels"),
        ({"splits": (0.5, 0.1, 0.1)}, "they sum to 1"),
        ({"splits": (1.1, -0.1, 0.0)}, "they sum to 1"),
        ({"workers": 0}, "workers 0: use at least 1"),
        ({"seed": -1}, "seed -1: use 0 or more"),
    ],
)
def test_options_out_of_range_say_what_is_allowed_and_write_nothing(
    options: dict, message: str, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    with pytest.raises(ConfigurationError, match=message):
        make_phantom(**{"out": out, "studies": 4, "seed": 1, "progress": False} | options)
    assert not out.exists()


def test_a_run_that_ends_early_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        pass

    def draw(seed: int, index: int) -> PhantomSpec:
        if index == 40:
            raise KilledError
        return draw_study(seed, index)

    monkeypatch.setattr(phantom_dataset, "draw_study", draw)
    with pytest.raises(KilledError):
        make_phantom(tmp_path / "set", STUDIES, seed=SEED, size=SIZE, workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []
