"""Which studies an epoch's batches are of, in one process or several, and where to go on in the middle.

The order of an epoch and the seed of every item follow from (seed, epoch) alone. A step of training takes
the next `accumulate x processes x batch_size` studies of that order, however they are dealt: four batches
of eight, one batch of eight in each of four processes, or one batch of 32 are the same step.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

__all__ = ["WINDOW", "Draw", "StepSampler", "draw_epoch"]


WINDOW = 8  # shards whose studies are mixed: 2 GiB of files, as `write_shards` makes them


class Draw(NamedTuple):
    """What a sampler hands out: which study, and the seed of what is random about it."""

    study: int
    seed: int


def draw_epoch(
    size: int, *, seed: int, epoch: int, shards: npt.NDArray[np.int64] | None = None
) -> list[Draw]:
    """Every study once, in an order and with seeds that follow from (seed, epoch).

    Args:
        size: Studies.
        seed: Of the run.
        epoch: From 0.
        shards: Of every study, the number of the shard that it lies in. The shards then come in a random
            order, and the studies are mixed within every `WINDOW` of them, so that a slow disk is read
            shard by shard and what is read stays in memory until it is used up.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(size)
    if shards is not None:
        numbers, of_study = np.unique(shards, return_inverse=True)
        window = generator.permutation(len(numbers))[of_study] // WINDOW
        order = order[np.argsort(window[order], kind="stable")]
    seeds = generator.integers(0, 2**63, size=size)
    return [Draw(int(index), int(each)) for index, each in zip(order, seeds, strict=True)]


class StepSampler(Sampler[list[Draw]]):
    """One process's batches of an epoch, step by step.

    What is left for an epoch's last step is dealt out evenly over as few rounds as hold it, so that no
    batch is much smaller than its neighbours; a last step of one study is left out, for BatchNorm has no
    variance there. Every process has as many batches as every other. One that has no study left is
    given the first of its round, and `shares` says 0: it takes part without it, since the others
    wait for it wherever they add up gradients and statistics.

    Args:
        size: Studies.
        seed: Of the run.
        batch_size: Most studies of a batch.
        accumulate: Most batches of a process in a step.
        processes: How many share the studies of a step.
        process: Which of them this one is, from 0.
        shards: As `draw_epoch` takes it.

    Attributes:
        steps: Steps of an epoch.
        step_size: Studies of a full step, in all processes together.
        epoch: The epoch that the next iteration draws; see `set_epoch`.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int,
        batch_size: int,
        accumulate: int = 1,
        processes: int = 1,
        process: int = 0,
        shards: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.shards = shards
        self.size, self.seed, self.batch_size = size, seed, batch_size
        self.processes, self.process = processes, process
        self.step_size = batch_size * accumulate * processes
        whole, left = divmod(size, self.step_size)
        alone = left == 1 and whole > 0 and self.step_size > 1
        self.steps = whole + (left > 0 and not alone)
        self.set_epoch(0)

    def set_epoch(self, epoch: int, *, done: int = 0) -> None:
        """The epoch that the next iteration draws, and how many of its steps were taken before."""
        self.epoch, self.done = epoch, done

    def studies(self, step: int) -> int:
        """Studies of a step of the epoch, in all processes together."""
        return min(self.step_size, self.size - step * self.step_size)

    def shares(self, step: int) -> list[int]:
        """How many studies this process has in each of its batches of a step."""
        return [stop - start for _, start, stop in self._places(step)]

    def __len__(self) -> int:
        """Batches of this process that are left of the epoch."""
        return sum(len(self.shares(step)) for step in range(self.done, self.steps))

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = draw_epoch(self.size, seed=self.seed, epoch=self.epoch, shards=self.shards)
        for step in range(self.done, self.steps):
            for first, start, stop in self._places(step):
                yield draws[start:stop] or [draws[first]]

    def _places(self, step: int) -> Iterator[tuple[int, int, int]]:
        """Of every round of a step: where it begins in the epoch's order, and this process's part of it."""
        studies = self.studies(step)
        rounds = -(-studies // (self.batch_size * self.processes))
        begin = step * self.step_size
        for first, last in _dealt(begin, begin + studies, rounds):
            start, stop = _dealt(first, last, self.processes)[self.process]
            yield first, start, stop


def _dealt(start: int, stop: int, parts: int) -> list[tuple[int, int]]:
    """The range cut into `parts` ranges whose lengths differ by at most one, the longer ones first."""
    length, longer = divmod(stop - start, parts)
    ends = [start + part * length + min(part, longer) for part in range(parts + 1)]
    return list(pairwise(ends))
