"""How a value goes from its start to its end over a training run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mdnet.errors import ConfigurationError

if TYPE_CHECKING:  # the configuration knows the schedules' names
    from mdnet.training.configuration import TrainingConfig

__all__ = ["SCHEDULES", "StepValues", "at_step", "check_schedule", "scheduled", "warmup_cosine"]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: 0.5 - 0.5 * math.cos(math.pi * progress),
    "phases": lambda progress: max(0.0, 3.0 * progress - 2.0),  # linear, in the last phase
}


class StepValues(NamedTuple):
    """What the schedules say of one step.

    Attributes:
        learning_rate_factor: What every learning rate is multiplied by.
        beta: Weight of the language in the image module's gradient (formula 6).
        eta: Scale of the language's gradient there.
        language: Whether L_L is there at all.
        sampling: Probability that the LSTM reads its own word.
    """

    learning_rate_factor: float
    beta: float
    eta: float
    language: bool
    sampling: float


def at_step(config: TrainingConfig, step: int, steps: int) -> StepValues:
    """The values at a step, counted from 0, of a run of so many.

    `phases` has three of equal length: L_M alone; L_L beside it, but with beta 0, so that the image
    module still follows L_M alone; then beta and eta from start to end. The probability of the
    LSTM's own words goes from start to end linearly under every schedule.
    """
    progress = step / steps
    beta = scheduled(config.schedule, config.beta, progress)
    language = True
    if config.schedule == "phases":
        language = 3 * step >= steps
        if 3 * step < 2 * steps:
            beta = 0.0
    return StepValues(
        learning_rate_factor=warmup_cosine(step, steps, warmup=config.warmup),
        beta=beta,
        eta=scheduled(config.schedule, config.eta, progress),
        language=language,
        sampling=scheduled("linear", config.scheduled_sampling, progress),
    )


def check_schedule(config: TrainingConfig, *, has_heads: bool, has_sections: bool) -> None:
    """Refuses a schedule by which a run would not do what its configuration says.

    Raises:
        ConfigurationError: `constant` with two ends that differ; `phases` of a model without heads or
            sections, or with its image module and heads frozen.
    """
    if config.schedule == "constant":
        for name, (start, end) in (("beta", config.beta), ("eta", config.eta)):
            if start != end:
                raise ConfigurationError(
                    f"{name} is to go from {start} to {end}, but schedule constant stays at the start; "
                    "set schedule to linear or cosine"
                )
    if config.schedule != "phases":
        return
    for what, there in (("labels", has_heads), ("reports", has_sections)):
        if not there:
            raise ConfigurationError(
                f"schedule phases is for labels and reports together, and this model has no {what}; "
                "set schedule to constant, linear or cosine"
            )
    if {"image", "heads"} <= set(config.freeze):
        raise ConfigurationError(
            "schedule phases begins with L_M alone, which trains nothing where image and heads are frozen; "
            "set schedule to constant, linear or cosine"
        )


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
