"""Panels of the history: what was measured is drawn, gaps and single rows are survived."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mdnet.report.history_picture import history_picture

ROWS = [
    {
        "epoch": epoch,
        "train_classification_loss": 1.0 / epoch,
        "train_language_loss": 2.0 / epoch,
        "train_diagnosis_accuracy": 0.5,
        "val_diagnosis_accuracy": 0.4,
        "val_score": 1.3,
        "val_mitosis_evidence_pointing": 0.2,
        "val_nucleoli_evidence_pointing": 0.6,
        "learning_rate_image": 1e-3,
        "learning_rate_heads": 1e-3,
        "learning_rate_report": 2e-3,
        "gradient_norm": 2.0,
        "gradient_norm_max": math.inf if epoch == 2 else 8.0,
    }
    for epoch in (1, 2, 3)
]


def panels(rows, **options):
    """Title of each panel to its lines by name."""
    figure = history_picture(rows, **options)
    return {
        axis.get_title(loc="left"): {
            line.get_label(): np.asarray(line.get_ydata())
            for line in axis.lines
            if line.get_label()[0] != "_"
        }
        for axis in figure.axes
    }


def test_losses_are_drawn_apart_and_joint():
    lines = panels(ROWS)["Training loss"]
    assert list(lines) == ["classification", "language", "joint"]
    np.testing.assert_allclose(lines["joint"], [3.0, 1.5, 1.0])


def test_only_what_was_measured_has_a_panel():
    assert list(panels(ROWS)) == [
        "Training loss",
        "Diagnosis: accuracy",
        "Pointing game, mean of aspects",
        "Learning rate, end of epoch",
        "Gradient norm",
    ]
    np.testing.assert_allclose(panels(ROWS)["Pointing game, mean of aspects"]["evidence"], [0.4, 0.4, 0.4])


def test_learning_rates_that_are_equal_are_one_line():
    assert list(panels(ROWS)["Learning rate, end of epoch"]) == ["image, heads", "report"]


def test_what_is_no_number_or_missing_is_a_gap():
    rows = [*ROWS, {"epoch": 4, "gradient_norm": math.nan}]
    lines = panels(rows)["Gradient norm"]
    np.testing.assert_array_equal(lines["mean"], [2.0, 2.0, 2.0, math.nan])
    np.testing.assert_array_equal(lines["greatest"], [8.0, math.nan, 8.0, math.nan])


def test_no_value_above_1_is_cut_off():
    axis = next(a for a in history_picture(ROWS).axes if a.get_title(loc="left") == "Diagnosis: accuracy")
    assert axis.get_ylim()[1] > 1.3


@pytest.mark.parametrize(("greatest", "scale"), [(8.0, "linear"), (80.0, "log")])
def test_gradient_norms_have_a_logarithmic_axis_where_they_span_a_decade(greatest, scale):
    rows = [
        {"epoch": 1, "gradient_norm": 2.0, "gradient_norm_max": greatest},
        {"epoch": 2, "gradient_norm": 0.0},
    ]
    assert history_picture(rows).axes[0].get_yscale() == scale


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS])
def test_the_best_epoch_is_marked_in_every_panel(rows):
    figure = history_picture(rows, best=0)
    for axis in figure.axes:
        assert [1, 1] in [list(line.get_xdata()) for line in axis.lines if line.get_linestyle() == ":"]
        low, high = axis.get_xlim()
        assert low < 1 < high
    assert figure.axes[-1].get_xlabel() == "epoch (best: 1)"


def test_nothing_to_draw_is_no_picture():
    assert history_picture([]) is None
    assert history_picture([{"epoch": 1, "val_score": math.nan}]) is None
