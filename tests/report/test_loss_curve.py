"""The loss curve: right points from CSV strings, gaps survived, nothing to draw is None."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mdnet.report.loss_curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, loss_curve


def test_points_run_from_the_first_epoch_to_the_last_and_from_zero_to_the_largest_loss() -> None:
    curve = loss_curve(
        [
            {"epoch": "1", "loss": "4.0", "rate": "9"},
            {"epoch": "2", "loss": "2.0"},
            {"epoch": "3", "loss": "1"},
        ]
    )
    assert curve is not None
    (line,) = curve.lines
    points = [tuple(map(float, pair.split(","))) for pair in line.points.split()]
    low, height = HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM
    assert points[0] == (LEFT, TOP)
    assert points[-1] == (WIDTH - RIGHT, pytest.approx(low - height / 4, abs=0.1))
    assert line.last == 1.0


def test_empty_and_non_finite_values_are_gaps() -> None:
    history = [{"epoch": i, "loss": loss} for i, loss in enumerate(["3", "", "nan", "1"])]
    curve = loss_curve(history)
    assert curve is not None
    assert len(curve.lines[0].points.split()) == 2


@pytest.mark.parametrize(
    "history", [[], [{"epoch": 0, "loss": 1.0}], [{"epoch": 0, "rate": 1}, {"epoch": 1, "rate": 1}]]
)
def test_nothing_to_draw_gives_no_curve(history: list) -> None:
    assert loss_curve(history) is None


def test_names_of_lines_that_end_together_do_not_overlap() -> None:
    curve = loss_curve([{"epoch": i, "loss": 1.0, "loss_image": 1.0, "val_loss": 1.0} for i in range(3)])
    assert curve is not None
    heights = [line.label_y for line in curve.lines]
    assert all(below - above >= 14 for above, below in pairwise(heights))
