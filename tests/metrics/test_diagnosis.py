"""Classification metrics by hand, and what is not defined."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from mdnet.errors import DataError
from mdnet.metrics.calibration import calibration_error
from mdnet.metrics.diagnosis import (
    classification_metrics,
    majority_baseline,
    multi_label_metrics,
)

GRADES = ["absent", "rare", "frequent"]


def one_hot(labels: list[int], count: int = 3) -> np.ndarray:
    return np.eye(count)[labels]


def assert_json_without_nan(value: dict[str, Any]) -> None:
    json.dumps(value, allow_nan=False)


def test_six_studies_by_hand() -> None:
    truth, predicted = [0, 0, 1, 1, 2, -100], [0, 1, 1, 1, 0, 2]
    metrics = classification_metrics(one_hot(predicted), truth, GRADES, ordered=True)
    assert_json_without_nan(metrics)
    assert metrics["studies"] == 5
    assert metrics["confusion"] == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["balanced_accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert metrics["macro_f1"] == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)
    absent, frequent = metrics["per_class"]["absent"], metrics["per_class"]["frequent"]
    assert absent["precision"] == absent["recall"] == absent["f1"] == pytest.approx(1 / 2)
    assert absent["support"] == 2
    assert frequent["precision"] is None  # never predicted
    assert frequent["recall"] == frequent["f1"] == 0
    # Squared distances: observed 1 + 4; expected from the margins (2, 2, 1) and (2, 3, 0) over 5.
    expected = (2 * 3 * 1 + 2 * 2 * 1 + 1 * 2 * 4 + 1 * 3 * 1) / 5
    assert metrics["kappa"] == pytest.approx(1 - 5 / expected)
    assert metrics["ece"] == pytest.approx(2 / 5)  # sure of everything, right in three of five


def test_unweighted_kappa_by_hand() -> None:
    metrics = classification_metrics(one_hot([0, 1, 1, 0], 2), [0, 1, 0, 0], ["no", "yes"])
    assert metrics["kappa"] == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))


def test_ranking_by_hand() -> None:
    # By the probability of "yes" the studies stand as yes, no, yes, no.
    probabilities = [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]]
    metrics = classification_metrics(probabilities, [1, 0, 1, 0], ["no", "yes"])
    # Of four pairs of a yes and a no three are in order; precision is 1 at the first yes, 2/3 at the next.
    assert metrics["per_class"]["yes"]["auroc"] == pytest.approx(3 / 4)
    assert metrics["per_class"]["yes"]["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["auroc"] == pytest.approx(3 / 4)  # "no" ranks them the other way round
    assert metrics["average_precision"] == pytest.approx(5 / 6)


def test_ranking_metrics_are_those_of_the_classes_that_have_them() -> None:
    generator = np.random.default_rng(0)
    scores, truth = generator.normal(size=(50, 3)), generator.integers(0, 2, 50)  # no study is "frequent"
    metrics = classification_metrics(scores, truth, GRADES)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    areas = [roc_auc_score(truth == index, probabilities[:, index]) for index in (0, 1)]
    assert metrics["auroc"] == pytest.approx(np.mean(areas))
    assert metrics["per_class"]["frequent"]["auroc"] is None
    assert metrics["per_class"]["frequent"]["recall"] is None


def test_averages_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    scores, truth = generator.normal(size=(200, 3)), generator.integers(0, 3, 200)
    metrics = classification_metrics(scores, truth, GRADES)
    predicted = scores.argmax(1)
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))


def test_logits_and_their_probabilities_score_alike() -> None:
    scores = np.random.default_rng(2).normal(size=(30, 3)) * 4
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    truth = np.arange(30) % 3
    from_logits, from_shares = (classification_metrics(given, truth, GRADES) for given in (scores, shares))
    assert from_logits["confusion"] == from_shares["confusion"]
    for name in ("auroc", "average_precision", "ece"):
        assert from_logits[name] == pytest.approx(from_shares[name])


@pytest.mark.parametrize("truth", [[-100, -100], [1, 1]])
def test_what_is_not_defined_is_none(truth: list[int]) -> None:
    metrics = classification_metrics(one_hot([1, 1]), truth, GRADES)
    assert_json_without_nan(metrics)
    assert metrics["auroc"] is None
    assert metrics["kappa"] is None


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([-100, 0, 1, 2])), max_size=12), st.booleans())
def test_no_set_of_answers_gives_nan_or_a_warning(rows: list[tuple[int, int]], ordered: bool) -> None:
    scores = one_hot([predicted for predicted, _ in rows])
    truth = np.array([target for _, target in rows], int)
    assert_json_without_nan(classification_metrics(scores, truth, GRADES, ordered=ordered))


def test_input_that_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(DataError, match=r"shapes \(2, 3\) and \(1,\)"):
        classification_metrics(one_hot([0, 1]), [0], GRADES)
    with pytest.raises(DataError, match="give 0 to 2, or -100"):
        classification_metrics(one_hot([0]), [3], GRADES)
    with pytest.raises(DataError, match="1 values not finite"):
        classification_metrics([[math.nan, 0, 0]], [0], GRADES)


def test_several_labels_by_hand() -> None:
    probabilities = [[0.9, 0.2], [0.6, 0.5], [0.1, 0.4], [0.3, 0.7]]
    truth = [[1, 0], [0, 1], [0, -100], [1, 1]]
    metrics = multi_label_metrics(probabilities, truth, ["nodule", "effusion"])
    assert_json_without_nan(metrics)
    assert metrics["accuracy"] == pytest.approx(5 / 7)
    assert metrics["exact_match"] == pytest.approx(1 / 3)  # of the three studies with both labels
    assert metrics["per_class"]["nodule"]["f1"] == pytest.approx(1 / 2)
    assert metrics["per_class"]["effusion"]["f1"] == pytest.approx(1)
    assert metrics["macro_f1"] == pytest.approx(3 / 4)
    assert metrics["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert metrics["per_class"]["nodule"]["auroc"] == pytest.approx(3 / 4)
    assert metrics["per_class"]["nodule"]["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_several_labels_without_any_label() -> None:
    metrics = multi_label_metrics(np.full((2, 2), 0.5), np.full((2, 2), -100))
    assert_json_without_nan(metrics)
    assert metrics["accuracy"] is metrics["auroc"] is metrics["macro_f1"] is None


def test_several_labels_refuse_logits_and_class_numbers() -> None:
    with pytest.raises(DataError, match="give sigmoid outputs"):
        multi_label_metrics([[2.0]], [[1]])
    with pytest.raises(DataError, match="give 0, 1, or -100"):
        multi_label_metrics([[0.5]], [[2]])


def test_majority_class_by_hand() -> None:
    scores = majority_baseline([1, 1, 0, -100], [1, 0, 2, 1, -100])
    assert scores == pytest.approx(
        {"class": 1, "studies": 4, "accuracy": 1 / 2, "balanced_accuracy": 1 / 3, "macro_f1": 2 / 9}
    )
    with pytest.raises(DataError, match="no label"):
        majority_baseline([-100], [0])


def test_calibration_error_by_hand() -> None:
    # Two bins: one study at 0.55, right; two at 0.95 and 0.97, one right.
    assert calibration_error([0.55, 0.95, 0.97], [True, True, False]) == pytest.approx(
        (abs(1 - 0.55) + abs(1 - 0.95 - 0.97)) / 3
    )
    assert calibration_error([], []) is None
