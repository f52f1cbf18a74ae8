"""What augmentation may and may not change."""

import numpy as np
import pytest

from mdnet.data.augmentation import AUGMENTATIONS, augment, check_augmentation
from mdnet.errors import ConfigurationError


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_shape_type_and_source_are_kept_and_a_seed_repeats(kind, image):
    before = image.copy()
    first = augment(image, kind, np.random.default_rng(5))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(first, augment(image, kind, np.random.default_rng(5)))


def test_mirror_never_turns_up_into_down():
    image = np.zeros((3, 8, 8), np.uint8)
    image[:, :4] = 200  # bright above
    for seed in range(20):
        changed = augment(image, "mirror", np.random.default_rng(seed))
        assert changed[:, :4].mean() > changed[:, 4:].mean()


def test_tissue_reaches_all_eight_positions():
    image = np.zeros((1, 8, 8), np.uint8)
    image[0, 0, 1] = 255
    places = set()
    for seed in range(200):
        changed = augment(image, "tissue", np.random.default_rng(seed))
        places.add(np.unravel_index(changed[0].argmax(), (8, 8)))
    assert len(places) == 8


def test_white_stays_white_under_another_stain():
    white = np.full((3, 4, 4), 255, np.uint8)
    for seed in range(20):
        assert (augment(white, "mirror", np.random.default_rng(seed)) == 255).all()


def test_shift_moves_by_whole_pixels_and_repeats_the_edge():
    image = np.broadcast_to(np.arange(100, dtype=np.uint8), (3, 100, 100)).copy()
    offsets = set()
    for seed in range(40):
        changed = augment(image, "shift", np.random.default_rng(seed))
        offset = int(changed[0, 0, 50]) - 50
        np.testing.assert_array_equal(changed[0, 0], np.clip(np.arange(100) + offset, 0, 99))
        offsets.add(offset)
    assert len(offsets) > 5
    assert max(map(abs, offsets)) <= 6


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(ConfigurationError, match="none, shift, mirror, tissue"):
        check_augmentation("flip")
