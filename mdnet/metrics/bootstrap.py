"""Bootstrap confidence intervals that resample patients, not studies.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval). The
studies of one patient resemble each other; drawing them one by one would make the interval too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdnet.errors import ConfigurationError, DataError

__all__ = ["Interval", "confidence_interval", "group_sums", "resampled_sums"]

_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; without bounds where there is a single group."""

    mean: float
    low: float | None
    high: float | None


def confidence_interval(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Bound the mean of values by resampling groups with replacement.

    Args:
        values: One finite number a study, (N,); booleans count as 0 and 1.
        groups: The group (patient) of every study, (N,); by default every study is its own.
        level: Share of resampled means inside the interval, in (0, 1).
        samples: How many times to resample.
        seed: Makes the interval repeatable.

    Returns:
        The mean over studies and the percentile interval. A group drawn twice brings all its studies
        twice, so that groups of many studies weigh as they do in the mean.

    Raises:
        DataError: There is no value, a value is not finite, or the lengths differ.
        ConfigurationError: `level` or `samples` is out of range.
    """
    numbers: NDArray[np.float64] = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise DataError("values", f"shape {numbers.shape}", "give one number a study, at least one")
    if not np.isfinite(numbers).all():
        raise DataError("values", f"{(~np.isfinite(numbers)).sum()} not finite", "leave those studies out")
    if not 0 < level < 1 or samples < 1:
        raise ConfigurationError(
            f"level {level} with {samples} samples: the level lies between 0 and 1, samples are 1 or more"
        )
    mean = float(numbers.mean())
    statistics = np.stack([numbers, np.ones(len(numbers))], axis=1)
    resampled = resampled_sums(statistics, groups=groups, samples=samples, seed=seed)
    if resampled is None:
        return Interval(mean, None, None)
    means = resampled[:, 0] / resampled[:, 1]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def resampled_sums(
    statistics: NDArray[np.float64],
    *,
    groups: Sequence[Hashable] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> NDArray[np.float64] | None:
    """Sum additive statistics over studies, in many resamples of the groups.

    A metric that is a function of sums (a mean, corpus BLEU from its counts, F1 from a confusion
    matrix) is bounded by that function of every row, without going over the studies again.

    Args:
        statistics: (N, F), a row a study.
        groups: As in `confidence_interval`.
        samples: How many times to resample.
        seed: The same seed draws the same groups, whatever the statistics.

    Returns:
        (samples, F); None where there is a single group, which bounds nothing.

    Raises:
        DataError: Not one group a study.
    """
    sums = group_sums(statistics, groups)
    if len(sums) == 1:
        return None
    generator = np.random.default_rng(seed)
    chances = np.full(len(sums), 1 / len(sums))
    resampled = np.empty((samples, statistics.shape[1]))
    step = max(_DRAWS_AT_ONCE // len(sums), 1)
    for start in range(0, samples, step):
        block = slice(start, min(start + step, samples))
        draws = generator.multinomial(len(sums), chances, size=block.stop - block.start)
        resampled[block] = draws @ sums
    return resampled


def group_sums(
    statistics: NDArray[np.float64], groups: Sequence[Hashable] | None = None
) -> NDArray[np.float64]:
    """Sum the rows of each group: (N, F) -> (groups, F), in order of first appearance.

    Raises:
        DataError: Not one group a study.
    """
    if groups is None:
        return statistics
    if len(groups) != len(statistics):
        raise DataError("groups", f"{len(groups)} for {len(statistics)} values", "give one a study")
    number_of: dict[Hashable, int] = {}
    group = np.array([number_of.setdefault(name, len(number_of)) for name in groups], np.int64)
    sums = np.zeros((len(number_of), statistics.shape[1]))
    np.add.at(sums, group, statistics)
    return sums
