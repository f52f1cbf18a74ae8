"""Bootstrap intervals: known widths, groups, repeatability."""

from __future__ import annotations

import numpy as np
import pytest

from mdnet.errors import ConfigurationError, DataError
from mdnet.metrics.bootstrap import confidence_interval


def bounds(*arguments: object, **options: object) -> tuple[float, float]:
    interval = confidence_interval(*arguments, **options)  # type: ignore[arg-type]
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_the_interval_of_a_mean_has_the_normal_width() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    low, high = bounds(values, samples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(300):
        low, high = bounds(generator.random(60) < 0.3, level=0.9, samples=300, seed=seed)
        covered += low <= 0.3 <= high
    assert 0.84 <= covered / 300 <= 0.95


def test_copies_of_a_patient_do_not_narrow_it() -> None:
    values = np.random.default_rng(2).normal(size=50)
    once = bounds(values, samples=2000)
    copied = bounds(np.repeat(values, 10), groups=list(np.repeat(np.arange(50), 10)), samples=2000)
    naive = bounds(np.repeat(values, 10), samples=2000)
    assert copied == pytest.approx(once)
    assert naive[1] - naive[0] < 0.5 * (once[1] - once[0])


def test_large_groups_weigh_as_in_the_mean() -> None:
    interval = confidence_interval([1, 1, 1, 0], groups=["a", "a", "a", "b"], samples=500)
    assert interval.mean == pytest.approx(3 / 4)
    assert (interval.low, interval.high) == (0, 1)  # only a, or only b


def test_a_seed_repeats_it_and_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(10.0)
    whole = confidence_interval(values, seed=3)
    assert confidence_interval(values, seed=3) == whole
    assert confidence_interval(values, seed=4) != whole
    monkeypatch.setattr("mdnet.metrics.bootstrap._DRAWS_AT_ONCE", 25)
    assert confidence_interval(values, seed=3) == whole


def test_one_patient_has_no_interval() -> None:
    interval = confidence_interval([0.2, 0.4], groups=["a", "a"])
    assert interval.mean == pytest.approx(0.3)
    assert interval.low is interval.high is None


def test_input_that_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(DataError, match="at least one"):
        confidence_interval([])
    with pytest.raises(DataError, match="1 not finite"):
        confidence_interval([np.nan, 1])
    with pytest.raises(DataError, match="1 for 2 values"):
        confidence_interval([1, 2], groups=["a"])
    with pytest.raises(ConfigurationError, match=r"level 95"):
        confidence_interval([1, 2], level=95)
