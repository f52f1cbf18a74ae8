"""A batch that does not fit in memory: what fits is found, said, and changes nothing."""

from __future__ import annotations

import copy
import logging
import weakref

import pytest
import torch

from mdnet.errors import TrainingError
from mdnet.training.memory import fits, with_fewer
from mdnet.training.sharding import Twin

MESSAGES = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.00 GiB",
    "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
    "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 384.00 KB, max allowed: 9.07 GB).",
]


def ignore(history, model) -> None:
    pass


def limit_memory(trainer, studies: int, *, message: str = MESSAGES[0]) -> None:
    """As if the image module took no more than so many studies at once."""
    plain = trainer.bare.encode

    def encode(pixel_values, present=None):
        if len(pixel_values) > studies:
            raise RuntimeError(message)
        return plain(pixel_values, present)

    trainer.bare.encode = encode


@pytest.mark.parametrize("message", MESSAGES)
def test_memory_that_runs_out_is_explained_by_what_fits(make_trainer, tmp_path, message):
    trainer = make_trainer(batch_size=8, accumulate=2)
    limit_memory(trainer, 3, message=message)
    with pytest.raises(TrainingError) as caught:
        trainer.train(tmp_path / "run", resume=False, on_epoch=ignore)
    assert str(caught.value).startswith("batch_size 8 does not fit in the memory of cpu; 2 does: ")
    assert "--batch-size 2 --accumulate 8 takes steps of as many studies" in str(caught.value)
    assert "\n" not in str(caught.value)
    fitting = make_trainer(batch_size=2, accumulate=8)
    assert fitting.sampler.step_size == trainer.sampler.step_size


def test_where_no_batch_fits_a_smaller_model_is_named(make_trainer, tmp_path):
    trainer = make_trainer()
    limit_memory(trainer, 0)
    with pytest.raises(TrainingError, match=r"batch_size 8 .* no part of it does; take a smaller model"):
        trainer.train(tmp_path / "run", resume=False, on_epoch=ignore)


def test_what_the_failed_step_held_is_free_before_a_part_is_tried(make_trainer, tmp_path):
    trainer = make_trainer()
    plain, held = trainer.bare.encode, []

    def encode(pixel_values, present=None):
        assert [one for one in held if one() is not None] == []
        activation = pixel_values * 2
        held.append(weakref.ref(activation))
        if len(pixel_values) > 2:
            raise RuntimeError(MESSAGES[0])
        return plain(pixel_values, present)

    trainer.bare.encode = encode
    with pytest.raises(TrainingError, match="; 2 does: "):
        trainer.train(tmp_path / "run", resume=False, on_epoch=ignore)
    assert len(held) == 3


def test_another_error_stays_as_it_is(make_trainer, tmp_path):
    trainer = make_trainer()
    limit_memory(trainer, 3, message="mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trainer.train(tmp_path / "run", resume=False, on_epoch=ignore)


def test_finding_what_fits_changes_nothing(make_trainer, different_tensors):
    first, second = make_trainer(), make_trainer()
    (batch, *_) = first.loader
    for trainer in (first, second):
        trainer.bare.image.stages[0].eval()  # a mode of its own, as a frozen part has
    modes = [module.training for module in first.bare.modules()]
    random, gradients = torch.get_rng_state(), [parameter.grad for parameter in first.bare.parameters()]
    optimizer = copy.deepcopy(first.optimizer.state_dict())
    assert fits(first, batch)
    assert different_tensors(first, second) == []
    assert torch.equal(random, torch.get_rng_state())
    assert [parameter.grad for parameter in first.bare.parameters()] == gradients
    assert first.optimizer.state_dict() == optimizer
    assert [module.training for module in first.bare.modules()] == modes


def test_what_fits_is_tried_with_the_gradient_too(make_trainer):
    trainer = make_trainer()
    (batch, *_) = trainer.loader

    def fail(gradient):
        raise torch.OutOfMemoryError(MESSAGES[0])

    trainer.bare.report.output.weight.register_hook(fail)
    assert not fits(trainer, batch)


def test_shards_name_the_half_of_the_batch_untried(make_trainer, tmp_path, monkeypatch):
    """A forward pass of one process alone would wait for the others for ever."""
    trainer = make_trainer()
    trainer.twin = Twin(trainer.bare, trainer.accelerator)
    limit_memory(trainer, 3)
    monkeypatch.setattr("mdnet.training.memory.fits", None)
    with pytest.raises(TrainingError, match="; 4 may: --batch-size 4 --accumulate 2 takes steps of as many"):
        trainer.train(tmp_path / "run", resume=False, on_epoch=ignore)


@pytest.mark.parametrize("message", MESSAGES)
def test_what_looks_at_the_model_goes_on_with_fewer_studies(message, caplog):
    tried = []

    def look(studies: int) -> str:
        tried.append(studies)
        if studies > 10:
            raise RuntimeError(message)
        return "seen"

    with caplog.at_level(logging.WARNING):
        assert with_fewer(look, at_once=32, what="validation") == ("seen", 8)
    assert tried == [32, 16, 8]
    assert caplog.messages[0].startswith(
        "validation: 32 studies do not fit in memory at once; goes on with half"
    )


def test_where_not_one_study_fits_the_mend_is_named():
    def look(studies: int) -> None:
        raise RuntimeError(MESSAGES[0])

    with pytest.raises(TrainingError, match=r"validation: one study does not fit .*; take a smaller model"):
        with_fewer(look, at_once=4, what="validation")
    with pytest.raises(ZeroDivisionError):
        with_fewer(lambda studies: 1 // 0, at_once=4, what="validation")


def test_memory_that_runs_out_while_gradients_are_looked_at_costs_no_epoch(make_trainer, tmp_path):
    trainer = make_trainer(epochs=1)
    (batch, _) = trainer.loader
    looked = []

    class Watcher:
        def on_step(self, *_) -> None: ...

        def on_epoch(self, row, model, batch):
            looked.append(len(batch.ids))
            if len(batch.ids) > 3:
                raise RuntimeError(MESSAGES[0])
            return {"dead_units": 0.5}

    trainer.watcher, trainer.watched = Watcher(), batch
    (row,) = trainer.train(tmp_path / "run", resume=False, on_epoch=ignore)
    assert looked == [8, 4, 2]
    assert row["dead_units"] == 0.5
