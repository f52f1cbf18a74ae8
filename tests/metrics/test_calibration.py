"""Calibration and abstention against formulas written out, scipy, and cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from mdnet.errors import DataError
from mdnet.metrics.calibration import (
    brier_score,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_bins,
    risk_coverage,
)


def draw(studies: int, classes: int, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right as often as they say once they are divided by `temperature`."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(studies, classes))
    shares = softmax(logits, axis=1).cumsum(axis=1)
    targets = (random.random((studies, 1)) > shares[:, :-1]).sum(axis=1)
    return logits * temperature, targets


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 3.0, 12.0])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    assert fit_temperature(*draw(10_000, 4, temperature=temperature)) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_the_temperature_is_that_of_a_naive_minimisation(seed: int) -> None:
    logits, targets = draw(200, 3, temperature=0.5 + seed, seed=seed)

    def naive(temperature: float) -> float:
        return -log_softmax(logits / temperature, axis=1)[np.arange(200), targets].mean()

    fitted = fit_temperature(logits, targets)
    best = minimize_scalar(naive, bounds=(0.05, 50), method="bounded", options={"xatol": 1e-9})
    assert fitted == pytest.approx(best.x, rel=1e-5)
    assert negative_log_likelihood(logits / fitted, targets) == pytest.approx(best.fun, rel=1e-12)


def test_several_labels_are_fitted_by_their_own_likelihood() -> None:
    random = np.random.default_rng(1)
    logits = 3 * random.normal(size=(150, 4))
    targets = (random.random(logits.shape) < expit(logits / 2.5)).astype(int)
    targets[random.random(logits.shape) < 0.2] = -100
    targets[0] = -100

    def naive(temperature: float) -> float:
        shares = expit(logits / temperature)
        losses = np.where(targets == 1, -np.log(shares), -np.log1p(-shares))
        return losses[targets != -100].mean()

    best = minimize_scalar(naive, bounds=(0.05, 50), method="bounded", options={"xatol": 1e-9})
    fitted = fit_temperature(logits, targets)
    assert fitted == pytest.approx(best.x, rel=1e-5)
    assert negative_log_likelihood(logits / fitted, targets) == pytest.approx(best.fun, rel=1e-12)


def test_missing_labels_change_no_temperature() -> None:
    logits, targets = draw(100, 3, temperature=2.0)
    holes = np.insert(targets, [0, 50], -100), np.insert(logits, [0, 50], 9.0, axis=0)
    assert fit_temperature(holes[1], holes[0]) == fit_temperature(logits, targets)


def test_no_temperature_is_made_of_studies_that_are_all_right_or_not_there() -> None:
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 3.0]])
    assert fit_temperature(logits, [0, 2]) == 1.0
    assert fit_temperature([[1.0, -2.0]], [[1, 0]]) == 1.0
    assert fit_temperature(logits, [-100, -100]) == 1.0
    assert fit_temperature(np.empty((0, 3)), []) == 1.0


def test_a_model_that_is_worse_than_chance_is_made_to_say_nothing() -> None:
    assert fit_temperature([[5.0, 0.0], [4.0, 0.0], [1.0, 0.0]], [1, 1, 0]) == 100.0


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        ([[0.0, 1.0]], [2], "give 0 to 1, or -100"),
        ([[0.0, 1.0]], [[0, 2]], "give 0 to 1, or -100"),
        ([[0.0, 1.0]], [0, 1], r"shapes \(1, 2\) and \(2,\)"),
        ([[np.nan, 1.0]], [0], "1 values not finite"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(logits, targets, message: str) -> None:
    for function in (fit_temperature, negative_log_likelihood, brier_score):
        with pytest.raises(DataError, match=message):
            function(logits, targets)


def test_likelihood_and_brier_score_by_hand() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])
    targets = [0, 1, -100]
    expected = -(np.log(0.7) + np.log(0.3)) / 2
    assert negative_log_likelihood(np.log(shares), targets) == pytest.approx(expected)
    assert negative_log_likelihood(np.log(shares) + 1000, targets) == pytest.approx(expected)
    squares = 0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.7**2 + 0.6**2
    assert brier_score(shares, targets) == pytest.approx(sum(squares) / 2)
    labels = [[1, 0, -100], [-100, 0, 1], [0, 0, 1]]
    assert brier_score(shares, labels) == pytest.approx(
        (0.3**2 + 0.2**2 + 0.3**2 + 0.4**2 + 0.2**2 + 0.2**2 + 0.4**2) / 7
    )
    assert negative_log_likelihood([[-800.0]], [[1]]) == pytest.approx(800)
    assert negative_log_likelihood(shares, [-100] * 3) is None
    assert brier_score(shares, [-100] * 3) is None


def test_bins_are_open_below_closed_above_and_give_the_calibration_error() -> None:
    bins = reliability_bins([0.0, 1 / 15, 2 / 15, 0.14, 1.0], [False, True, True, False, True])
    assert [each.count for each in bins] == [2, 1, 1, *[0] * 11, 1]
    assert bins[0].confidence == pytest.approx(1 / 30)
    assert bins[0].accuracy == 0.5
    assert bins[3].confidence is bins[3].accuracy is None
    assert (bins[2].low, bins[2].high) == (2 / 15, 3 / 15)

    random = np.random.default_rng(0)
    confidence, correct = random.random(300), random.random(300) < 0.4
    naive = 0.0
    for index in range(15):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if inside.any():
            naive += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, correct) == pytest.approx(naive)
    assert sum(each.count for each in reliability_bins(confidence, correct)) == 300


def naive_risks(confidence: np.ndarray, correct: np.ndarray) -> list[float]:
    """Risk of the first 1, 2, ..., N studies, the surest first; a tie is broken in every way alike."""
    risks = []
    for count in range(1, len(confidence) + 1):
        last = np.sort(confidence)[::-1][count - 1]
        sure, tied = confidence > last, confidence == last
        mistakes = (~correct[sure]).sum() + (~correct[tied]).mean() * (count - sure.sum())
        risks.append(mistakes / count)
    return risks


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20))
def test_risk_and_coverage_are_those_of_a_loop_with_ties(studies: list[tuple[int, bool]]) -> None:
    confidence = np.array([sure for sure, _ in studies]) / 5
    correct = np.array([right for _, right in studies])
    curve = risk_coverage(confidence, correct)
    risks = naive_risks(confidence, correct)
    assert curve.aurc == pytest.approx(np.mean(risks))
    best = naive_risks(correct.astype(float), correct)
    assert curve.excess_aurc == pytest.approx(np.mean(risks) - np.mean(best))
    for threshold, coverage, risk in zip(curve.threshold, curve.coverage, curve.risk, strict=True):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx((~correct[answered]).mean())
    assert len(curve.threshold) == len(set(confidence))


def test_an_order_that_is_perfect_random_or_absent_by_hand() -> None:
    right = np.array([True, True, True, False])
    perfect = risk_coverage([0.9, 0.8, 0.7, 0.6], right)
    assert perfect.aurc == pytest.approx((0 + 0 + 0 + 1 / 4) / 4)
    assert perfect.excess_aurc == 0
    flat = risk_coverage([0.5] * 4, right)
    assert flat.aurc == pytest.approx(1 / 4)  # the order says nothing: the error rate at any coverage
    assert flat.coverage.tolist() == [1.0]
    worst = risk_coverage([0.6, 0.7, 0.8, 0.9], right)
    assert worst.aurc == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert perfect.coverage_at(0.0) == 0.75
    assert perfect.coverage_at(0.25) == 1.0
    assert worst.coverage_at(0.2) == 0.0


def test_without_a_study_nothing_is_defined() -> None:
    curve = risk_coverage([], [])
    assert curve.aurc is curve.excess_aurc is None
    assert curve.coverage_at(0.5) == 0.0
    assert calibration_error([], []) is None
