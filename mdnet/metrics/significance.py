"""Do two systems differ on the same studies? Paired tests, and a correction for asking several times.

References:
    1. McNemar, "Note on the Sampling Error of the Difference between Correlated Proportions or
       Percentages", Psychometrika 1947; here with the exact binomial in place of chi squared.
    2. Noreen, "Computer-Intensive Methods for Testing Hypotheses", Wiley 1989 (approximate randomisation).
    3. Phipson & Smyth, "Permutation P-values Should Never Be Zero", Statistical Applications in Genetics
       and Molecular Biology 2010.
    4. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
       Statistics 1979.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mdnet.metrics.bootstrap import group_sums

__all__ = ["holm", "mcnemar_exact", "randomisation_test"]

_DRAWS_AT_ONCE = 1 << 22  # swaps in memory

Floats = NDArray[np.float64]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test [1].

    Where both systems are equally good, each study that only one of them gets right is as likely to be
    the one's as the other's: a binomial of 1/2. Studies that both get right, or neither, say nothing.

    Args:
        only_first: Studies that the first system alone gets right.
        only_second: Those that the second alone gets right.
    """
    from scipy.stats import binomtest

    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def randomisation_test(
    first: Floats,
    second: Floats,
    value: Callable[[Floats], Floats],
    *,
    groups: Sequence[Hashable] | None = None,
    samples: int = 9999,
    seed: int = 0,
) -> float:
    """Two-sided p-value of a difference between two systems, by swapping their answers [2].

    Where the systems do not differ, it does not matter whose answer is whose: each group's answers are
    swapped or not, and p is the share of the swaps whose difference is as large as the one observed. All
    swaps are tried where there are at most `samples` of them; else so many are drawn, and the observed
    one counts among them, so that p is never 0 [3].

    Args:
        first: Additive statistics of the first system, (N, F), a row a study.
        second: Those of the second, on the same studies.
        value: The metric from sums over studies, (R, F) -> (R,).
        groups: The group (patient) of every study, swapped whole; by default every study is its own.
        samples: How many swaps at most.
        seed: Makes drawn swaps repeatable.
    """
    ours, theirs = group_sums(first, groups), group_sums(second, groups)
    gain, total_first, total_second = theirs - ours, ours.sum(axis=0), theirs.sum(axis=0)

    def difference(moved: Floats) -> Floats:
        """Of the metric, where `moved` (R, F) went from the second system to the first."""
        result: Floats = np.abs(value(total_second - moved) - value(total_first + moved))
        return result

    observed = float(difference(np.zeros((1, first.shape[1])))[0])
    reached = observed - 1e-9 * max(observed, 1e-3)  # sums in another order differ in the last bits
    exact = len(gain) <= np.log2(samples)
    large = count = 0
    for swaps in _all_swaps(len(gain)) if exact else _drawn_swaps(len(gain), samples, seed):
        large += int((difference(swaps @ gain) >= reached).sum())
        count += len(swaps)
    return large / count if exact else (large + 1) / (count + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values [4]: below 0.05 all together hold a false one in at most 5% of comparisons.

    The i-th smallest of m is multiplied by m - i + 1; none may be less than a smaller one's.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in adjusted]


def _all_swaps(groups: int) -> Iterator[Floats]:
    """Every choice of groups, (2^groups, groups) of 0 and 1."""
    yield (np.arange(2**groups)[:, None] >> np.arange(groups) & 1).astype(np.float64)


def _drawn_swaps(groups: int, samples: int, seed: int) -> Iterator[Floats]:
    """`samples` random choices of groups, in blocks (R, groups)."""
    generator = np.random.default_rng(seed)
    step = max(_DRAWS_AT_ONCE // groups, 1)
    for start in range(0, samples, step):
        yield generator.integers(2, size=(min(step, samples - start), groups)).astype(np.float64)
