"""The pictures of confidence: every point where the numbers say, the best order by its formula."""

from __future__ import annotations

import pytest

from mdnet.report.calibration_charts import best_order, reliability_chart, risk_chart, short
from mdnet.report.plot_area import PlotArea

BINS = [
    {"low": 0.0, "high": 0.25, "count": 0, "confidence": None, "accuracy": None},
    {"low": 0.5, "high": 0.75, "count": 4, "confidence": 0.6, "accuracy": 0.5},
    {"low": 0.75, "high": 1.0, "count": 16, "confidence": 0.9, "accuracy": 1.0},
]


def test_numbers_lie_between_the_edges_and_y_grows_upwards() -> None:
    area = PlotArea(10, 110, 20, 220, (0.0, 2.0), (-1.0, 1.0))
    assert [area.x(0), area.x(0.5), area.x(2)] == [10, 35, 110]
    assert [area.y(-1), area.y(0), area.y(1)] == [220, 120, 20]
    assert area.points([(1, 0), (2, 1)]) == "60.0,120.0 110.0,20.0"
    assert PlotArea(10, 110, 20, 220, (3.0, 3.0), (0.0, 0.0)).points([(3.0, 0.0)]) == "10.0,220.0"


def test_a_bin_is_a_dot_at_its_confidence_and_accuracy_and_a_bar_as_tall_as_its_count() -> None:
    chart = reliability_chart(BINS)
    assert chart is not None
    low, high = chart.bins  # the empty bin has no accuracy and is not drawn
    # The plot runs from x = 56 to 388 and from y = 270 up to 10.
    assert (low.x, low.y) == (pytest.approx(56 + 0.6 * 332, abs=0.05), 140.0)
    assert (high.x, high.y) == (pytest.approx(56 + 0.9 * 332, abs=0.05), 10.0)
    assert high.radius == 2 * low.radius  # four times the studies, four times the area
    # The bars' strip is 52 tall and ends at 354: 16 studies fill it, 4 a quarter.
    assert high.bar == (pytest.approx(56 + 0.75 * 332 + 1), 302.0, 81.0, 52.0)
    assert low.bar[1:] == (341.0, 81.0, 13.0)


def test_dots_without_temperature_scaling_stand_beside() -> None:
    chart = reliability_chart(BINS, BINS[:2])
    assert chart is not None
    assert chart.before == ((chart.bins[0].x, chart.bins[0].y),)


def test_risk_rises_to_that_of_all_answers_beside_the_best_and_a_random_order() -> None:
    chart = risk_chart({"threshold": [0.9, 0.8, 0.6], "coverage": [0.25, 0.5, 1.0], "risk": [0.0, 0.5, 0.5]})
    assert chart is not None
    assert chart.risk == 0.5
    # The axis ends at 0.6, so a risk of 0.5 lies 5/6 of the way from y = 270 to 10.
    assert chart.area.y_range == (0.0, 0.6)
    assert chart.model == "139.0,270.0 222.0,53.3 388.0,53.3"
    assert chart.random == "56.0,53.3 388.0,53.3"
    assert chart.chosen is None


def test_the_answers_that_were_asked_for_are_marked_on_the_curve() -> None:
    curve = {"threshold": [0.9, 0.6], "coverage": [0.5, 1.0], "risk": [0.0, 0.05]}
    chart = risk_chart(curve, {"coverage": 0.5, "accuracy": 0.975})
    assert chart is not None
    assert chart.chosen == (222.0, 140.0)  # half way across and, of an axis that ends at 0.05, half way up
    assert risk_chart(curve, {"coverage": 0.0, "accuracy": None}).chosen is None  # type: ignore[union-attr]


@pytest.mark.parametrize("wrong", [0, 1, 3, 10])
def test_the_best_order_gives_every_right_answer_first(wrong: int) -> None:
    studies = 10
    for coverage, risk in best_order(wrong / studies):
        answered = coverage * studies
        assert risk * answered == pytest.approx(max(0.0, answered - (studies - wrong)), abs=1e-9)
    assert best_order(wrong / studies)[-1] == (pytest.approx(1.0), pytest.approx(wrong / studies))


def test_nothing_measured_gives_no_picture() -> None:
    assert reliability_chart(BINS[:1]) is None
    assert risk_chart({"threshold": [], "coverage": [], "risk": []}) is None


def test_counts_stay_short_enough_for_a_narrow_bar() -> None:
    assert [short(n) for n in (7, 999, 1000, 9949, 9950, 123456)] == [
        "7",
        "999",
        "1.0k",
        "9.9k",
        "10k",
        "123k",
    ]
