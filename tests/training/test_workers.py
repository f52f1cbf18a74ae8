"""A loader process that is killed in a training costs no bits; one that is killed again is named."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from mdnet.data.study import Study
from mdnet.errors import DataError


class Deadly(Sequence[Study]):
    """Studies; looking at one of them kills the loader process, as often as `lives` says."""

    def __init__(self, studies: Sequence[Study], lives: Path, *, count: int) -> None:
        self.studies, self.lives, self.main = studies, lives, os.getpid()
        lives.write_text("x" * count)

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, index: int) -> Study:
        if index == 11 and os.getpid() != self.main and (left := self.lives.read_text()):
            self.lives.write_text(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        return self.studies[index]


def ignore(history, model) -> None:
    pass


def test_a_loader_process_that_is_killed_costs_no_bits(make_trainer, different_tensors, tmp_path, caplog):
    options = {"epochs": 2, "batch_size": 4}
    whole = make_trainer(**options)
    whole.train(tmp_path / "whole", resume=False, on_epoch=ignore)
    trainer = make_trainer(workers=1, **options)
    trainer.dataset.studies = Deadly(trainer.dataset.studies, tmp_path / "lives", count=1)
    with caplog.at_level(logging.WARNING):
        trainer.train(tmp_path / "killed", resume=False, on_epoch=ignore)
    assert (tmp_path / "lives").read_text() == ""
    assert "was killed by SIGKILL" in caplog.text
    assert "started anew" in caplog.text
    assert different_tensors(whole, trainer) == []


def test_one_that_is_killed_again_ends_the_run_by_name_and_it_goes_on_without(
    make_trainer, different_tensors, tmp_path
):
    options = {"epochs": 2, "batch_size": 4, "checkpoint_steps": 1}
    whole = make_trainer(**options)
    whole.train(tmp_path / "whole", resume=False, on_epoch=ignore)
    trainer = make_trainer(workers=1, **options)
    trainer.dataset.studies = Deadly(trainer.dataset.studies, tmp_path / "lives", count=2)
    with pytest.raises(DataError, match=r"loader process \d+: was killed by SIGKILL.*fewer workers than 1"):
        trainer.train(tmp_path / "killed", resume=False, on_epoch=ignore)
    resumed = make_trainer(workers=0, **options)
    resumed.train(tmp_path / "killed", resume=True, on_epoch=ignore)
    assert different_tensors(whole, resumed) == []
