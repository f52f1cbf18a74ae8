"""A bar in a terminal, a line now and then elsewhere, and losses that are seldom read."""

from __future__ import annotations

import io
import logging
import sys

import pytest
import torch

from mdnet.training import progress as progress_module
from mdnet.training.progress import Progress


class Clock:
    """Stands for `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Counted:
    """A loss that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __float__(self) -> float:
        self.reads += 1
        return 0.5


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_where_there_is_no_terminal_a_line_comes_every_half_minute(clock, caplog):
    loss = Counted()
    with caplog.at_level(logging.INFO, logger="mdnet"), Progress(200, initial=20) as progress:
        for _ in range(100):  # 2 s each
            clock.now += 2.0
            progress.update(8, {"language": loss}, torch.tensor(0.75))
    assert len(caplog.messages) == 6  # of 200 s
    assert loss.reads == 6
    assert caplog.messages[0] == (
        "step 35 of 200  language 0.500  accuracy 0.75  4 images/s  6 min left"  # 165 steps of 2 s
    )


def test_images_count_not_studies_and_validation_is_no_training(clock, caplog):
    with caplog.at_level(logging.INFO, logger="mdnet"), Progress(10, images=2.0) as progress:
        clock.now += 20.0
        progress.update(30, {})
        clock.now += 1000.0
        progress.end_epoch({"epoch": 1, "val_cider": 1.23456})
        clock.now += 30.0
        progress.update(30, {})
    assert caplog.messages[0] == "epoch 1  val_cider 1.235"
    assert "  2 images/s  " in caplog.messages[1]


def test_all_but_the_main_process_are_silent_and_read_nothing(clock, caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    loss = Counted()
    with caplog.at_level(logging.INFO, logger="mdnet"), Progress(10, enabled=False) as progress:
        clock.now += 1000.0
        progress.update(8, {"language": loss})
        progress.end_epoch({"epoch": 1})
    assert (caplog.messages, loss.reads, terminal.getvalue()) == ([], 0, "")


def test_a_terminal_has_a_bar_with_losses_accuracy_speed_and_time_left(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    loss = Counted()
    with Progress(40, initial=10) as progress:
        for _ in range(20):
            clock.now += 0.25
            progress.update(8, {"classification": loss}, torch.tensor(0.75))
        assert loss.reads == 5  # once a second
    last = terminal.getvalue().split("\r")[-1]
    assert "30/40" in last
    assert "classification 0.500, accuracy 0.75, 32 images/s" in last
    assert "<" in last  # elapsed<left


def test_time_left_is_spoken_as_people_do():
    spoken = [progress_module._spoken(seconds) for seconds in (12.3, 59.4, 59.9, 90, 3599, 3660, 90_000)]
    assert spoken == ["12 s", "59 s", "60 s", "2 min", "1 h 00 min", "1 h 01 min", "25 h 00 min"]
