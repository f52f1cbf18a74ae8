"""A step is of the same studies however they are dealt; an epoch goes on in the middle as it went."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnet.data.sampling import StepSampler, draw_epoch


def samplers(size: int, *, processes: int = 1, **options) -> list[StepSampler]:
    """Of every process."""
    return [StepSampler(size, seed=3, processes=processes, process=p, **options) for p in range(processes)]


def steps_of(sampler: StepSampler) -> list[list[list]]:
    """The batches of one process, step by step, cut to its shares."""
    batches = iter(sampler)
    return [
        [next(batches)[:share] for share in sampler.shares(step)]
        for step in range(sampler.done, sampler.steps)
    ]


def test_an_epoch_has_every_study_once_in_an_order_of_its_own():
    first = draw_epoch(50, seed=3, epoch=0)
    assert sorted(draw.study for draw in first) == list(range(50))
    assert draw_epoch(50, seed=3, epoch=0) == first
    assert len({draw.seed for draw in first}) == 50
    for other in (draw_epoch(50, seed=3, epoch=1), draw_epoch(50, seed=4, epoch=0)):
        assert [draw.study for draw in other] != [draw.study for draw in first]


def test_one_process_without_accumulation_takes_the_order_as_it_comes():
    (sampler,) = samplers(11, batch_size=4)
    sampler.set_epoch(2)
    order = draw_epoch(11, seed=3, epoch=2)
    assert list(sampler) == [order[:4], order[4:8], order[8:]]
    assert len(sampler) == 3


@given(
    size=st.integers(2, 60),
    batch_size=st.integers(1, 6),
    accumulate=st.integers(1, 4),
    processes=st.integers(1, 5),
    data=st.data(),
)
def test_the_studies_of_a_step_do_not_depend_on_how_they_are_dealt(
    size, batch_size, accumulate, processes, data
):
    dealt = samplers(size, batch_size=batch_size, accumulate=accumulate, processes=processes)
    (whole,) = samplers(size, batch_size=batch_size * accumulate * processes)
    done = data.draw(st.integers(0, whole.steps))
    for sampler in (whole, *dealt):
        assert sampler.steps == whole.steps
        sampler.set_epoch(1, done=done)
        assert len(sampler) == len(list(sampler))
    by_process = [steps_of(sampler) for sampler in dealt]
    expected = draw_epoch(size, seed=3, epoch=1)[done * whole.step_size :]
    for step, (batch,) in enumerate(steps_of(whole)):
        assert batch == expected[: len(batch)]
        assert len(batch) == whole.studies(done + step)
        expected = expected[len(batch) :]
        rounds = list(zip(*(steps[step] for steps in by_process), strict=True))  # equally many everywhere
        assert [draw for round_ in rounds for share in round_ for draw in share] == batch
        together = [sum(map(len, round_)) for round_ in rounds]
        assert max(together) - min(together) <= 1
        assert max(len(share) for round_ in rounds for share in round_) <= batch_size
        if batch_size * processes > 2:
            assert min(together) > 1
    assert len(expected) == (1 if size % whole.step_size == 1 and whole.step_size > 1 else 0)


def test_a_process_without_a_study_has_a_batch_of_which_it_takes_none():
    dealt = samplers(10, batch_size=2, processes=4)  # a step of 8, and two studies for four processes
    assert [sampler.shares(1) for sampler in dealt] == [[1], [1], [0], [0]]
    last = [list(sampler)[-1] for sampler in dealt]
    order = draw_epoch(10, seed=3, epoch=0)
    assert last == [[order[8]], [order[9]], [order[8]], [order[8]]]


@pytest.mark.parametrize(("size", "steps"), [(1, 1), (4, 1), (5, 1), (6, 2)])
def test_a_last_step_of_one_study_is_left_out(size, steps):
    (sampler,) = samplers(size, batch_size=4)
    assert sampler.steps == len(list(sampler)) == steps
    assert np.cumsum([len(batch) for batch in sampler])[-1] == (4 if size == 5 else size)
