"""Runs without watching and pictures, which are most of the time of a small run and none of its bits."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from mdnet.training import run

__all__ = ["draw_nothing"]


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Has `train_run` watch nothing and draw no history."""
    patch.setattr(run, "Watcher", lambda *_, **__: nullcontext())
    patch.setattr(run, "draw_history", lambda *_, **__: None)
