"""`auto` chooses by what is there, and a flip never meets a report that speaks of sides."""

import logging
from pathlib import Path

import numpy as np
import pytest

from mdnet.data.augmentation_choice import choose_augmentation, settle_augmentation
from mdnet.data.images import load_image
from mdnet.data.study import Study
from mdnet.errors import ConfigurationError


def coloured(colour, count=3):
    """Noisy images about a colour."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-12, 13, (count, 40, 40, 3))
    return list(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


GREY = [image[..., :1].repeat(3, axis=-1) for image in coloured((120, 120, 120))]
STAINED = coloured((200, 140, 190))
FUNDUS = coloured((190, 90, 40))
PLAIN = [Study("a", (Path("a.png"),), report={"findings": ("Nuclei are crowded.",)})]
SIDED = [*PLAIN, Study("b", (Path("b.png"),), report={"findings": ("Opacity on the left.",)})]


@pytest.mark.parametrize(
    ("images", "plain", "sided"),
    [(GREY, "xray", "xray"), (STAINED, "tissue", "stain"), (FUNDUS, "photo_mirror", "photo")],
)
def test_the_kind_follows_from_images_and_texts(images, plain, sided):
    kind, reason = choose_augmentation(PLAIN, images)
    assert kind == plain
    assert "3 of 3 images" in reason
    kind, reason = choose_augmentation(SIDED, images)
    assert kind == sided
    assert ("1 of 2 studies speak of sides (left)" in reason) == (plain != sided)


def test_synthetic_tissue_is_seen_as_tissue(phantom_data):
    images = (load_image(study.images[0]) for study in phantom_data.studies[:5])
    assert choose_augmentation(phantom_data.studies, images)[0] == "tissue"


def test_the_most_images_decide():
    assert choose_augmentation(PLAIN, [GREY[0], *STAINED])[0] == "tissue"
    with pytest.raises(ConfigurationError, match="no image"):
        choose_augmentation(PLAIN, [])


def test_auto_says_what_it_chose_and_why(caplog):
    with caplog.at_level(logging.INFO):
        assert settle_augmentation("auto", SIDED, iter(STAINED)) == "stain"
    assert "augmentation: stain (3 of 3 images looked at are stained tissue; no flip: 1 of 2" in caplog.text


@pytest.mark.parametrize(
    ("name", "without"), [("mirror", "stain"), ("tissue", "stain"), ("photo_mirror", "photo")]
)
def test_a_flip_that_was_asked_for_is_dropped_where_reports_speak_of_sides(name, without, caplog):
    with caplog.at_level(logging.INFO):
        assert settle_augmentation(name, PLAIN, ()) == name
        assert settle_augmentation(name, SIDED, ()) == without
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said[0] == ("INFO", f"augmentation: {name} (none of 1 studies speaks of a side)")
    assert said[1][0] == "WARNING"
    assert f"{without} in place of {name}, without a flip: 1 of 2 studies speak of sides (left)" in said[1][1]


@pytest.mark.parametrize("name", ["none", "shift", "stain", "xray", "photo"])
def test_what_never_flips_is_kept_and_looks_at_nothing(name):
    def unread():
        raise AssertionError
        yield

    assert settle_augmentation(name, SIDED, unread()) == name


def test_an_unknown_name_is_an_error():
    with pytest.raises(ConfigurationError, match="'flip' is none of"):
        settle_augmentation("flip", PLAIN, ())
