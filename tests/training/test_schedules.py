"""Schedules, by values computed by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mdnet.training.schedules import scheduled, warmup_cosine


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("constant", 0.0, 0.2),
        ("constant", 1.0, 0.2),
        ("linear", 0.0, 0.2),
        ("linear", 0.25, 0.35),
        ("linear", 1.0, 0.8),
        ("cosine", 0.0, 0.2),
        ("cosine", 0.5, 0.5),
        ("cosine", 1 / 3, 0.35),  # (1 - cos 60 degrees) / 2 = 1/4 of the way
        ("cosine", 1.0, 0.8),
    ],
)
def test_a_value_goes_from_its_start_to_its_end(schedule, progress, expected):
    assert scheduled(schedule, (0.2, 0.8), progress) == pytest.approx(expected, abs=1e-12)


def test_learning_rate_rises_over_the_first_twentieth_and_falls_to_zero():
    factors = [warmup_cosine(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1.0
    assert warmup_cosine(5 + 95 // 5, 100) == pytest.approx(0.5 + 0.5 * 0.8090169943749475)  # cos 36 degrees
    assert all(later <= earlier for earlier, later in pairwise(factors[4:]))
    assert factors[-1] < 1e-3
    assert warmup_cosine(100, 100) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_of_a_few_steps_learns_in_its_first_one(steps):
    assert warmup_cosine(0, steps) == 1.0
