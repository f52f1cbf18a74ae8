"""Batches: label indices, word ids, padding, and what is random about an item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.data.loading import Draw, SeededSampler, StudyDataset, make_loader
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import MISSING, Aspect, LabelSpace, Study
from mdnet.data.text import ReportTokenizer

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


def test_an_epoch_has_every_study_once_in_an_order_of_its_own():
    sampler = SeededSampler(50, seed=3)
    first = list(sampler)
    assert sorted(draw.study for draw in first) == list(range(50))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert [draw.study for draw in sampler] != [draw.study for draw in first]
    assert list(SeededSampler(50, seed=4)) != first


def test_a_last_batch_of_one_is_left_out_of_training_only(dataset):
    sampler = SeededSampler(5, seed=0)
    assert [len(batch.ids) for batch in make_loader(dataset, batch_size=4, sampler=sampler)] == [4]
    assert [len(batch.ids) for batch in make_loader(dataset, batch_size=3, sampler=sampler)] == [3, 2]
    assert [len(batch.ids) for batch in make_loader(dataset, batch_size=4)] == [4, 1]


def test_a_set_without_sections_has_no_tokens(studies):
    dataset = StudyDataset(
        studies, label_space=SPACE, sections=(), tokenizer=None, preprocessing=Preprocessing(16)
    )
    assert next(iter(make_loader(dataset, batch_size=2))).tokens is None
