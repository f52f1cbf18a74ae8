"""Paired tests against binomials and enumerations done by hand."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest

from mdnet.metrics.significance import holm, mcnemar_exact, randomisation_test


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def with_ones(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones(len(values))], axis=1)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 5), (3, 3), (2, 9), (9, 2), (1, 12)])
def test_mcnemar_is_the_two_sided_binomial(first, second):
    total = first + second
    tail = sum(comb(total, k) for k in range(min(first, second) + 1)) / 2**total
    assert mcnemar_exact(first, second) == pytest.approx(min(1.0, 2 * tail), abs=1e-12)


def enumerated(first: np.ndarray, second: np.ndarray, groups: list[int], value) -> float:
    """p from every choice of groups to swap, one by one."""
    names = sorted(set(groups))
    observed = abs(value(second.sum(axis=0)[None]) - value(first.sum(axis=0)[None]))[0]
    reached = []
    for choice in product((False, True), repeat=len(names)):
        swapped = np.array([choice[names.index(group)] for group in groups])[:, None]
        ours, theirs = np.where(swapped, second, first), np.where(swapped, first, second)
        difference = abs(value(theirs.sum(axis=0)[None]) - value(ours.sum(axis=0)[None]))[0]
        reached.append(difference >= observed - 1e-12)
    return float(np.mean(reached))


@pytest.mark.parametrize("groups", [list(range(9)), [0, 0, 1, 2, 2, 2, 3, 4, 5]], ids=["studies", "patients"])
def test_few_studies_are_enumerated_and_patients_swap_whole(groups):
    random = np.random.default_rng(1)
    first, second = (with_ones(random.random(9) + shift) for shift in (0, 0.3))
    p = randomisation_test(first, second, ratio, groups=groups)
    assert p == pytest.approx(enumerated(first, second, groups, ratio), abs=1e-12)


def test_drawn_swaps_come_close_to_all_swaps_and_are_never_zero():
    random = np.random.default_rng(2)
    first, second = (with_ones(random.random(12) + shift) for shift in (0, 0.1))
    exact = randomisation_test(first, second, ratio)
    assert 0.005 < exact < 0.5
    assert randomisation_test(first, second, ratio, samples=4000) == pytest.approx(exact, abs=0.025)
    far = with_ones(np.ones(60)), with_ones(np.zeros(60))
    assert randomisation_test(*far, ratio, samples=999) == pytest.approx(1 / 1000)


def test_of_right_and_wrong_answers_it_is_mcnemars_test():
    first = np.array([1, 1, 0, 0, 0, 0, 0, 1, 0, 1], float)
    second = np.array([1, 0, 1, 1, 1, 1, 1, 1, 0, 1], float)
    p = randomisation_test(with_ones(first), with_ones(second), ratio)
    assert p == pytest.approx(mcnemar_exact(1, 5), abs=1e-12)


def test_equal_systems_have_p_one_however_many_studies():
    values = with_ones(np.random.default_rng(3).random(50))
    assert randomisation_test(values, values.copy(), ratio) == 1.0


def test_blocks_of_swaps_do_not_show(monkeypatch):
    random = np.random.default_rng(4)
    first, second = with_ones(random.random(40)), with_ones(random.random(40) + 0.05)
    whole = randomisation_test(first, second, ratio, samples=500)
    monkeypatch.setattr("mdnet.metrics.significance._DRAWS_AT_ONCE", 40 * 7)
    assert randomisation_test(first, second, ratio, samples=500) == whole


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; the last may not be less than .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
