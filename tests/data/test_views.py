"""Several images a study: strips, what is missing in them, and one draw of what is random for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.data.augmentation import AUGMENTATIONS, augment
from mdnet.data.loading import StudyDataset, make_loader
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.sampling import Draw, StepSampler
from mdnet.data.study import LabelSpace, Study
from mdnet.data.views import as_strips, mask_strip, picture_strip

SIZE = 8


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Studies of 2, 1, 3 and 2 images, no two alike."""
    random = np.random.default_rng(0)
    found = []
    for name, count in {"a": 2, "b": 1, "c": 3, "d": 2}.items():
        paths = tuple(tmp_path / f"{name}{view}.png" for view in range(count))
        for path in paths:
            Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
        found.append(Study(name, paths))
    return found


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def make_dataset(studies: list[Study], **options) -> StudyDataset:
    plain = {"label_space": LabelSpace(), "sections": (), "tokenizer": None}
    return StudyDataset(studies, **plain, preprocessing=Preprocessing(SIZE), **options)


def test_strips_hold_each_image_in_its_place_and_say_which_places_are_empty():
    random = np.random.default_rng(1)
    images = [random.integers(1, 256, (3, 4, 5), dtype=np.uint8) for _ in range(4)]
    strips, present = as_strips([images[:1], images[1:]], 3)
    assert strips.shape == (2, 3, 4, 15)
    assert present.tolist() == [[True, False, False], [True, True, True]]
    np.testing.assert_array_equal(strips[0, :, :, :5], images[0])
    assert not strips[0, :, :, 5:].any()
    np.testing.assert_array_equal(strips[1], np.concatenate(images[1:], axis=2))
    strips, present = as_strips([images[:1], images[1:2]], 1)
    assert present is None
    np.testing.assert_array_equal(strips, np.stack(images[:2]))


def test_a_picture_of_the_views_brings_them_to_the_size_of_the_first():
    first = np.full((6, 4, 3), 10, np.uint8)
    assert picture_strip([first]) is first
    strip = picture_strip([first, np.full((3, 9, 3), 20, np.uint8), np.full((6, 4, 3), 30, np.uint8)])
    assert strip.shape == (6, 12, 3)
    assert strip[0, :, 0].tolist() == [10] * 4 + [20] * 4 + [30] * 4


def test_a_mask_covers_the_first_view_alone():
    mask = np.array([[True, False], [True, True]])
    assert mask_strip(mask, 1).tolist() == mask.tolist()
    np.testing.assert_array_equal(mask_strip(mask, 3), np.pad(mask, ((0, 0), (0, 4))))


def test_a_batch_holds_the_first_views_and_marks_missing_ones(studies):
    batch = next(iter(make_loader(make_dataset(studies, views=2), batch_size=4)))
    assert batch.images.shape == (4, 3, SIZE, 2 * SIZE)
    assert batch.present.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    for row, study in enumerate(studies):
        for view, path in enumerate(study.images[:2]):
            found = batch.images[row, :, :, view * SIZE : (view + 1) * SIZE]
            np.testing.assert_array_equal(found.numpy(), pixels(path))
    assert torch.equal(batch.to("cpu").present, batch.present)


def test_a_batch_that_lacks_nothing_has_no_mask(studies):
    assert next(iter(make_loader(make_dataset(studies), batch_size=4))).present is None
    whole = make_dataset([studies[0], studies[2]], views=2)
    assert next(iter(make_loader(whole, batch_size=2))).present is None


def test_images_beyond_the_views_are_never_decoded(studies):
    studies[2].images[2].write_bytes(b"no picture")
    assert [len(make_dataset(studies, views=2)[Draw(index, 0)].images) for index in range(4)] == [2, 1, 2, 2]


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_all_views_are_changed_alike_and_as_one_alone(kind):
    views = np.random.default_rng(2).integers(0, 256, (3, 3, SIZE, SIZE), dtype=np.uint8)
    for seed in range(12):
        together = augment(views, kind, np.random.default_rng(seed))
        for view, image in zip(together, views, strict=True):
            np.testing.assert_array_equal(view, augment(image, kind, np.random.default_rng(seed)))


def test_a_mirrored_study_has_all_its_views_mirrored(studies):
    dataset = make_dataset(studies[:1], views=2, augmentation="mirror")
    mirrored = 0
    for draw in (Draw(0, seed) for seed in range(12)):
        brightness = dataset[draw].images.astype(int).sum(axis=(1, 2))  # (view, column)
        plain = np.stack([pixels(path) for path in studies[0].images]).astype(int).sum(axis=(1, 2))
        flipped = [
            np.corrcoef(found, expected)[0, 1] < np.corrcoef(found[::-1], expected)[0, 1]
            for found, expected in zip(brightness, plain, strict=True)
        ]
        assert flipped[0] == flipped[1]
        mirrored += flipped[0]
    assert 0 < mirrored < 12


def test_workers_give_the_same_strips(studies):
    def batches(workers: int):
        sampler = StepSampler(4, seed=1, batch_size=2)
        dataset = make_dataset(studies, views=2, augmentation="tissue")
        return list(make_loader(dataset, batches=sampler, workers=workers))

    for here, there in zip(batches(0), batches(1), strict=True):
        assert here.ids == there.ids
        assert torch.equal(here.images, there.images)
        assert (here.present is None) == (there.present is None)
