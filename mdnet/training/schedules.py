"""How a value goes from its start to its end over a training run."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "scheduled", "warmup_cosine"]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: 0.5 - 0.5 * math.cos(math.pi * progress),
}


def scheduled(schedule: str, ends: tuple[float, float], progress: float) -> float:
    """The value at `progress` in 0..1 between `ends`, (start, end)."""
    start, end = ends
    return start + (end - start) * SCHEDULES[schedule](progress)


def warmup_cosine(step: int, steps: int, *, warmup: float = 0.05) -> float:
    """Factor of the learning rate at a step: a linear rise over the first share, then half a cosine to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / max(1, steps - rising))
