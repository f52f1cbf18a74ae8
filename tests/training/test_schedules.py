"""Schedules, by values computed by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mdnet.errors import ConfigurationError
from mdnet.training.configuration import TrainingConfig
from mdnet.training.schedules import SCHEDULES, StepValues, at_step, check_schedule, scheduled, warmup_cosine


def configure(**options) -> TrainingConfig:
    return TrainingConfig(data="a", out="b", **options)


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
        ("phases", 0.5, 0.2),
        ("phases", 0.75, 0.35),  # a quarter of the last third
        ("phases", 1.0, 0.8),
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


def test_a_step_has_the_values_of_the_configuration():
    config = configure(
        schedule="linear", beta=(0.0, 0.8), eta=(1.0, 3.0), warmup=0.5, scheduled_sampling=(0.0, 0.4)
    )
    assert at_step(config, 1, 4) == pytest.approx(StepValues(1.0, 0.2, 1.5, True, 0.1))
    assert at_step(config, 3, 4) == pytest.approx(StepValues(0.5, 0.6, 2.5, True, 0.3))


def test_the_defaults_are_constant_without_sampling():
    for step in range(10):
        values = at_step(configure(), step, 10)
        assert values == (warmup_cosine(step, 10), 0.3, 1.0, True, 0.0)


def test_warmup_is_the_share_that_is_configured():
    factors = [at_step(configure(warmup=0.3), step, 10).learning_rate_factor for step in range(10)]
    assert factors[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    assert at_step(configure(warmup=0.0), 0, 10).learning_rate_factor == 1.0


@pytest.mark.parametrize("steps", [9, 10, 11, 300])
def test_phases_are_thirds(steps):
    config = configure(schedule="phases", beta=(0.2, 0.8), eta=(1.0, 2.0))
    for step in range(steps):
        values = at_step(config, step, steps)
        if step < steps / 3:
            assert (values.language, values.beta) == (False, 0.0)
        elif step < 2 * steps / 3:
            assert (values.language, values.beta) == (True, 0.0)
        else:
            share = (step - 2 * steps / 3) / (steps / 3)  # of the last third
            assert values.language
            assert values.beta == pytest.approx(0.2 + 0.6 * share)
            assert values.eta == pytest.approx(1.0 + share)


def test_sampling_rises_linearly_whatever_beta_does():
    for schedule in SCHEDULES:
        config = configure(schedule=schedule, scheduled_sampling=(0.1, 0.3))
        assert at_step(config, 5, 10).sampling == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("options", "there", "message"),
    [
        ({"beta": [0.1, 0.5]}, {}, "beta is to go from 0.1 to 0.5, but schedule constant stays at the start"),
        ({"eta": [1, 2]}, {}, "eta is to go from 1.0 to 2.0"),
        ({"schedule": "phases"}, {"has_heads": False}, "this model has no labels; set schedule to constant"),
        (
            {"schedule": "phases"},
            {"has_sections": False},
            "this model has no reports; set schedule to constant",
        ),
        (
            {"schedule": "phases", "freeze": ["heads", "image"]},
            {},
            "trains nothing where image and heads are",
        ),
    ],
)
def test_a_schedule_that_could_not_be_followed_is_refused(options, there, message):
    with pytest.raises(ConfigurationError, match=message):
        check_schedule(configure(**options), **{"has_heads": True, "has_sections": True} | there)


def test_any_other_schedule_passes():
    check_schedule(configure(), has_heads=False, has_sections=True)
    check_schedule(configure(schedule="cosine", beta=(0.1, 0.5)), has_heads=True, has_sections=False)
    check_schedule(configure(schedule="phases", freeze=["image"]), has_heads=True, has_sections=True)
