"""Batches: label indices, word ids, padding, and what is random about an item."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mdnet.data.cache import ImageCache
from mdnet.data.loading import StudyDataset, make_loader
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.sampling import Draw
from mdnet.data.study import MISSING, Aspect, LabelSpace, Study
from mdnet.data.text import ReportTokenizer
from mdnet.errors import DataError, ImageError

SPACE = LabelSpace(
    (
        Aspect("grade", ("low", "high")),
        Aspect("signs", ("blood", "stone", "scar"), multi_label=True),
    )
)
SECTIONS = ("grade", "signs")


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.full((16, 16, 3), 40 * i, np.uint8)).save(paths[-1])
    return [
        Study(
            "a",
            (paths[0],),
            labels={"grade": "high", "signs": ("scar", "blood")},
            report={"grade": ("one two three", "four")},
        ),
        Study("b", (paths[1],), labels={"signs": ()}, report={"signs": ("two",)}),
        Study("c", (paths[2],), labels={"grade": "low"}),
        Study("d", (paths[3],), report={"grade": ("one",), "signs": ("two three",)}),
        Study("e", (paths[4],)),
    ]


@pytest.fixture
def dataset(studies: list[Study]) -> StudyDataset:
    return StudyDataset(
        studies,
        label_space=SPACE,
        sections=SECTIONS,
        tokenizer=ReportTokenizer.build(["one two three four"], SECTIONS),
        preprocessing=Preprocessing(16),
    )


def test_labels_become_indices_and_missing_ones_are_marked(dataset):
    batch = next(iter(make_loader(dataset, batch_size=5)))
    assert batch.ids == ("a", "b", "c", "d", "e")
    assert batch.labels["grade"].tolist() == [1, MISSING, 0, MISSING, MISSING]
    assert batch.labels["signs"].tolist() == [[1, 0, 1], [0, 0, 0]] + [[MISSING] * 3] * 3


def test_sections_end_with_the_end_token_and_are_padded_at_the_back(dataset):
    tokenizer = dataset.tokenizer
    batch = next(iter(make_loader(dataset, batch_size=5)))
    assert batch.tokens.shape == (5, 2, 4)
    words = [*tokenizer.encode("one two three"), tokenizer.end_id]
    assert batch.tokens[0, 0].tolist() == words  # without a seed: the first writer
    assert batch.tokens[0, 1].tolist() == [tokenizer.pad_id] * 4  # no text: all padding
    assert batch.tokens[3, 0].tolist() == [*tokenizer.encode("one"), tokenizer.end_id, 0, 0]


def test_the_seed_of_a_draw_chooses_the_writer(dataset):
    lengths = {len(dataset[Draw(0, seed)].sections[0]) for seed in range(20)}
    assert lengths == {2, 4}
    assert dataset[Draw(0, 7)].sections == dataset[Draw(0, 7)].sections


def test_images_come_in_the_models_size_and_in_order(dataset):
    batch = next(iter(make_loader(dataset, batch_size=5)))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (5, 3, 16, 16)
    assert batch.images[:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160]


def test_a_set_without_sections_has_no_tokens(studies):
    dataset = StudyDataset(
        studies, label_space=SPACE, sections=(), tokenizer=None, preprocessing=Preprocessing(16)
    )
    assert next(iter(make_loader(dataset, batch_size=2))).tokens is None


def test_batches_in_order_hold_every_study(dataset):
    assert [len(batch.ids) for batch in make_loader(dataset, batch_size=4)] == [4, 1]
    assert len(make_loader(dataset, batch_size=4)) == 2


def test_a_cache_changes_no_batch(studies, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("MDNET_CACHE", str(tmp_path / "cache"))
    cached = StudyDataset(
        studies,
        label_space=SPACE,
        sections=SECTIONS,
        tokenizer=dataset.tokenizer,
        preprocessing=dataset.preprocessing,
        augmentation="tissue",
        cache=ImageCache(tmp_path, dataset.preprocessing, images=5),
    )
    dataset.augmentation = "tissue"
    for seed in (1, 2):
        for index in range(5):
            found, expected = cached[Draw(index, seed)].images, dataset[Draw(index, seed)].images
            np.testing.assert_array_equal(found, expected)


def test_more_reports_than_are_kept_are_encoded_all_the_same(dataset, monkeypatch):
    expected = [dataset[index].sections for index in range(5)]
    dataset._texts.clear()
    monkeypatch.setattr("mdnet.data.loading._TEXTS_KEPT", 1)
    assert [dataset[index].sections for index in range(5)] == expected
    assert len(dataset._texts) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_wherever_it_is_decoded(dataset, studies, workers):
    studies[3].images[0].write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"3\.png: not an image") as caught:
        list(make_loader(dataset, batch_size=2, workers=workers))
    assert caught.value.where == str(studies[3].images[0])


@pytest.fixture
def impatient(monkeypatch):
    """torch looks every 5 seconds whether its workers live; here more often."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))


class Deadly(Sequence):
    """Studies of which one kills the process that asks for it, as often as the file holds letters."""

    def __init__(self, studies, file: Path, kind: int) -> None:
        self.studies, self.file, self.kind = studies, file, kind

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, index):
        if index == 3 and self.file.exists() and (left := self.file.read_text()):
            self.file.write_text(left[1:])
            os.kill(os.getpid(), self.kind)
        return self.studies[index]


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_dies_once_costs_no_batch(dataset, studies, tmp_path, caplog):
    whole = list(make_loader(dataset, batch_size=1))
    (tmp_path / "lives").write_text("x")
    dataset.studies = Deadly(studies, tmp_path / "lives", signal.SIGKILL)
    loader = make_loader(dataset, batch_size=1, workers=2)
    for _ in range(2):
        for batch, expected in zip(loader, whole, strict=True):
            assert batch.ids == expected.ids
            assert torch.equal(batch.images, expected.images)
    [line] = caplog.records
    assert "SIGKILL" in line.getMessage()
    assert "memory" in line.getMessage()


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_dies_again_is_an_error_that_says_of_what(dataset, studies, tmp_path):
    (tmp_path / "lives").write_text("xx")
    dataset.studies = Deadly(studies, tmp_path / "lives", signal.SIGBUS)
    loader = make_loader(dataset, batch_size=1, workers=1)
    with pytest.raises(DataError, match=r"loader process \d+: was killed by SIGBUS.*/dev/shm.*fewer workers"):
        list(loader)
    assert len(list(loader)) == 5
