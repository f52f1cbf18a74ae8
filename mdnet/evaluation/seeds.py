"""Runs of one recipe that differ in the seed only: mean and spread of a number over them.

The t-interval is that of the mean over seeds (Student, "The Probable Error of a Mean", Biometrika 1908).
It knows nothing of the studies: those of the interval in `metrics.json` do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdnet.evaluation.run_folder import EvaluatedRun, recipe

__all__ = ["SeedGroup", "Spread", "group_by_seed", "spread"]

_LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
        seeds: How many.
        deviation: Standard deviation over seeds (of a sample); None with one seed.
        low, high: 95% t-interval of the mean; likewise.
    """

    seeds: int
    mean: float
    deviation: float | None
    minimum: float
    maximum: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SeedGroup:
    """Runs of one recipe on the same data and split, one a seed, in order of the seeds.

    Attributes:
        runs: At least one.
        repeats: Runs of a seed that is there already; they would make the spread look small.
    """

    runs: tuple[EvaluatedRun, ...]
    repeats: tuple[EvaluatedRun, ...] = ()


def group_by_seed(runs: Sequence[EvaluatedRun]) -> list[SeedGroup]:
    """Groups runs whose configuration, data and split are equal but for the seed and the folder."""
    groups: dict[str, list[EvaluatedRun]] = {}
    for run in sorted(runs, key=lambda run: (run.seed, str(run.folder))):
        key = json.dumps([run.data_hash, run.split, recipe(run)], sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    found = []
    for members in groups.values():
        first: dict[int, EvaluatedRun] = {}
        for run in members:
            first.setdefault(run.seed, run)
        repeats = tuple(run for run in members if run is not first[run.seed])
        found.append(SeedGroup(tuple(first.values()), repeats))
    return found


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of one value a seed, at least one."""
    numbers = np.asarray(values, np.float64)
    mean, count = float(numbers.mean()), len(numbers)
    least, most = float(numbers.min()), float(numbers.max())
    if count == 1:
        return Spread(count, mean, None, least, most, None, None)
    from scipy.stats import t

    deviation = float(numbers.std(ddof=1))
    half = float(t.ppf((1 + _LEVEL) / 2, count - 1)) * deviation / count**0.5
    return Spread(count, mean, deviation, least, most, mean - half, mean + half)
