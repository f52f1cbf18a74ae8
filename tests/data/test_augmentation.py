"""What augmentation may and may not change."""

import numpy as np
import pytest
import torch

from mdnet.data.augmentation import (
    AUGMENTATIONS,
    augment,
    augment_study,
    check_augmentation,
    without_flips,
)
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
    with pytest.raises(ConfigurationError, match="none, shift, stain, mirror, tissue, xray"):
        check_augmentation("flip")


EXACT = ("shift", "mirror", "tissue")
MOVING = [kind for kind in AUGMENTATIONS if kind not in ("none", "stain")]
SIDED = [kind for kind in AUGMENTATIONS if without_flips(kind) == kind]


@pytest.mark.parametrize("kind", MOVING)
@pytest.mark.parametrize("shape", [(60, 60), (50, 70)])
def test_masks_and_boxes_move_with_the_image(kind, shape):
    inside = np.zeros(shape, bool)
    inside[12:22, 34:48] = True
    image = np.where(inside, 0, 255).astype(np.uint8)[None].repeat(3, axis=0)
    box = np.array([[34, 12, 48, 22]], np.float32)
    places = set()
    for seed in range(30):
        images, masks, boxes = augment_study(
            image, kind, np.random.default_rng(seed), masks={"figure": inside}, boxes=box
        )
        dark = images[0] < 128
        assert masks["figure"].dtype == bool
        assert np.logical_xor(masks["figure"], dark).sum() <= 0.05 * dark.sum()
        rows, columns = np.nonzero(dark)
        drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(boxes[0], drawn, atol=0.01 if kind in EXACT else 2.5)
        places.add(tuple(drawn))
    assert len(places) > 1


def test_what_leaves_the_image_is_cut_off_its_box():
    image = np.zeros((3, 50, 50), np.uint8)
    box = np.array([[0, 0, 50, 50]], np.float32)
    moved = [augment_study(image, "shift", np.random.default_rng(s), boxes=box).boxes for s in range(20)]
    assert all(each.min() >= 0 and each.max() <= 50 for each in moved)
    assert len({each.tobytes() for each in moved}) > 5


@pytest.mark.parametrize("kind", SIDED)
def test_kinds_for_what_has_sides_never_swap_them(kind):
    image = np.full((3, 40, 40), 60, np.uint8)
    image[..., 20:] = 190  # bright on the right, and more so above
    image[..., :20, 20:] = 230
    for seed in range(40):
        changed = augment(image, kind, np.random.default_rng(seed)).astype(int)
        assert changed[..., 26:].mean() > changed[..., :14].mean() + 60
        assert changed[..., :14, 26:].mean() > changed[..., 26:, 26:].mean()


@pytest.mark.parametrize("kind", set(AUGMENTATIONS) - set(SIDED))
def test_the_other_kinds_do_swap_them_and_have_a_form_that_does_not(kind):
    image = np.zeros((3, 40, 40), np.uint8)
    image[..., 20:] = 200
    right = [augment(image, kind, np.random.default_rng(seed))[..., 26:].mean() for seed in range(40)]
    assert min(right) < 60 < 140 < max(right)
    assert without_flips(kind) in SIDED
    assert without_flips(kind) != "none"


def test_grey_stays_grey_in_an_xray_and_no_corner_turns_black():
    image = np.random.default_rng(0).integers(90, 160, (1, 40, 40), dtype=np.uint8).repeat(3, axis=0)
    for seed in range(40):
        changed = augment(image, "xray", np.random.default_rng(seed))
        np.testing.assert_array_equal(changed[0], changed[1])
        np.testing.assert_array_equal(changed[0], changed[2])
        assert changed.min() > 50


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_views_of_one_study_are_changed_alike(kind, image):
    together = augment(np.stack([image, image]), kind, np.random.default_rng(3))
    np.testing.assert_array_equal(together[0], together[1])
    np.testing.assert_array_equal(together[0], augment(image, kind, np.random.default_rng(3)))


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_the_global_generator_is_left_alone_and_does_not_matter(kind, image):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augment(image, kind, np.random.default_rng(7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.testing.assert_array_equal(augment(image, kind, np.random.default_rng(7)), first)


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_images_of_a_mapped_file_can_be_changed(kind, image):
    image.flags.writeable = False
    assert augment(image, kind, np.random.default_rng(0)).shape == image.shape
