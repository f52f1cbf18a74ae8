"""One record of everything that decides a training run; saved with it as `config.yaml`."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from mdnet.data.augmentation import check_augmentation
from mdnet.errors import ConfigurationError
from mdnet.files import read_yaml
from mdnet.training.schedules import SCHEDULES

__all__ = ["TrainingConfig"]


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Attributes:
        data: Folder of the data set.
        out: Run folder.
        model: A name of `mdnet.list_models()`.
        model_options: `MDNetConfig` arguments that differ from the named model's.
        format: Reader of the data; None looks at the folder.
        diagnosis: Aspect that concludes, where the data does not say or another is wanted.
        epochs: Passes over the training split.
        batch_size: Studies a step.
        learning_rate: Peak of AdamW's; it warms up over the first 5% of steps and falls as a cosine.
        weight_decay: Of matrices and kernels; biases and BatchNorm have none.
        beta: Share of the language in the image module's gradient at the start and at the end
            (formula 6).
        eta: Scale of the language's gradient there, at the start and at the end.
        schedule: How beta and eta go from start to end: `constant` (stay), `linear` or `cosine`.
        clip: Largest norm of the gradient.
        augmentation: A name of `mdnet.data.augmentation.AUGMENTATIONS`.
        minimum_count: Words that the training reports use less often are unknown.
        precision: `no`, `bf16` or `fp16`, as accelerate takes it.
        workers: Loader processes; 0 loads in the main one.
        seed: Of weights, order, writers and augmentation.
    """

    data: str
    out: str
    model: str = "mdnet_tiny"
    model_options: dict[str, Any] = field(default_factory=dict)
    format: str | None = None
    diagnosis: str | None = None
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    beta: tuple[float, float] = (0.3, 0.3)
    eta: tuple[float, float] = (1.0, 1.0)
    schedule: str = "constant"
    clip: float = 5.0
    augmentation: str = "none"
    minimum_count: int = 1
    precision: str = "no"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name, kind in hints.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        if min(self.epochs, self.batch_size, self.minimum_count) < 1 or self.workers < 0:
            raise ConfigurationError(
                "epochs, batch_size and minimum_count must be at least 1, workers at least 0"
            )
        if self.seed < 0:
            raise ConfigurationError(f"seed {self.seed} must not be negative")
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.clip <= 0:
            raise ConfigurationError("learning_rate and clip must be positive, weight_decay not negative")
        if not all(0 <= value <= 1 for value in self.beta):
            raise ConfigurationError(f"beta {self.beta} must lie in 0..1")
        if self.schedule not in SCHEDULES:
            raise ConfigurationError(f"schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ConfigurationError(f"precision {self.precision!r} is none of no, bf16, fp16")
        check_augmentation(self.augmentation)

    @classmethod
    def from_dict(cls, record: dict[str, Any], *, where: str = "configuration") -> TrainingConfig:
        """From plain values; an unknown key is a `ConfigurationError` that names the nearest known."""
        known = [f.name for f in dataclasses.fields(cls)]
        for key in record:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"the keys: {', '.join(known)}"
                raise ConfigurationError(f"{where}: unknown key {key!r}; {hint}")
        missing = [
            f.name for f in dataclasses.fields(cls) if f.default is f.default_factory and f.name not in record
        ]
        if missing:
            raise ConfigurationError(f"{where}: {' and '.join(missing)} must be given")
        return cls(**record)

    @classmethod
    def load(cls, path: Path, **overrides: Any) -> TrainingConfig:
        """From a YAML file, with some values replaced."""
        return cls.from_dict(read_yaml(path) | overrides, where=str(path))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        record = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}

    def save(self, path: Path) -> None:
        """Writes the YAML that `load` reads."""
        path.write_text(yaml.safe_dump(self.to_dict(), sort_keys=False), encoding="utf-8")


def _checked(name: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`; numbers may be written as text, a pair as a list or one number."""
    try:
        if kind == tuple[float, float]:
            pair = [value, value] if isinstance(value, (int, float, str)) else list(value)
            first, last = (float(part) for part in pair)
            return first, last
        if kind in (int, float):
            number = kind(value)
            if float(number) != float(value):
                raise ValueError
            return number
    except (TypeError, ValueError):
        expected = {int: "a whole number", float: "a number"}.get(kind, "two numbers, start and end")
        raise ConfigurationError(f"{name} is {value!r}; it takes {expected}") from None
    if kind == dict[str, Any]:
        allowed, expected = dict, "names with their values"
    else:
        allowed, expected = kind, "text"  # str, or str | None
    if not isinstance(value, allowed):
        raise ConfigurationError(f"{name} is {value!r}; it takes {expected}")
    return value
