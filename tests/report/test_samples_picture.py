"""The sample reports as a picture: every study has its strip, every map its colours, odd studies too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from handmade import TISSUE, make_finding

from mdnet.data.study import LabelSpace, Study
from mdnet.report.samples_picture import _overlaid, samples_picture

STUDY = Study("p1", (Path("p1.png"),), report={"mitosis": ("Figures are frequent.",)})


def test_studies_stand_one_below_the_other_at_one_width():
    finding = make_finding()
    one = samples_picture([finding], [STUDY])
    two = samples_picture([finding, finding], [STUDY, STUDY])
    assert one.dtype == np.uint8
    assert two.shape == (2 * one.shape[0], one.shape[1], 3)
    assert (two[: one.shape[0]] == one).all()
    assert 900 <= one.shape[1] <= 1100


def test_what_is_written_and_what_is_true_is_in_the_picture():
    finding = make_finding()
    silent = Study("p1", STUDY.images)
    assert samples_picture([finding], [STUDY]).tobytes() != samples_picture([finding], [silent]).tobytes()


def test_a_map_has_the_colours_of_its_values_from_zero_to_the_largest():
    black = np.zeros((8, 8, 3), np.uint8)
    heat = np.array([[0.0, 0.5], [1.0, 0.25]])
    drawn = _overlaid(black, heat, signed=False).astype(int).sum(axis=2)
    assert drawn[0, 0] < drawn[7, 7] < drawn[0, 7] < drawn[7, 0]
    zero = _overlaid(black, np.zeros((2, 2)), signed=True)
    assert np.ptp(zero.astype(int), axis=2).max() <= 1  # near-white: no evidence either way
    against, for_it = _overlaid(black, np.array([[-1.0, 1.0]]), signed=True)[0, [0, 7]].astype(int)
    assert against[2] > against[0]  # blue
    assert for_it[0] > for_it[2]  # orange


@pytest.mark.parametrize(
    "finding",
    [
        make_finding(scale=0.0),
        make_finding(space=LabelSpace(TISSUE.aspects)),  # nothing concludes
        make_finding(words={}),
        make_finding(size=(64, 640)),  # a strip of views
        make_finding(words={f"section {n}": ("a", "word") for n in range(20)}),
    ],
)
def test_odd_studies_are_drawn(finding):
    picture = samples_picture([finding], [STUDY])
    assert picture.ndim == 3
    assert picture.shape[2] == 3
