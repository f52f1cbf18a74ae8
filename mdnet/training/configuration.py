"""One record of everything that decides a training run; saved with it as `config.yaml`."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from mdnet.data.augmentation import check_augmentation
from mdnet.data.readers.options import ReaderOptions
from mdnet.errors import ConfigurationError
from mdnet.files import read_yaml, write_text
from mdnet.training.schedules import SCHEDULES

__all__ = ["IMBALANCE", "PARTS", "TOKENIZERS", "TrainingConfig"]

IMBALANCE = ("none", "weights", "logits")
PARTS = ("image", "heads", "report")
TOKENIZERS = ("words", "bpe")


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Attributes:
        data: Folder of the data set.
        out: Run folder.
        model: A name of `mdnet.list_models()`.
        model_options: `MDNetConfig` arguments that differ from the named model's.
        weights: A model folder, a name of `mdnet.list_weights()` or a hub id to start from; None: random
            weights. Architecture and preprocessing are then its own, and `model` is not looked at.
        freeze: Parts that stay as they are: `image`, `heads`, `report`, or shell patterns of parameter names.
        format: Reader of the data; None looks at the folder.
        columns: Columns of a table, as `mdnet.data.readers.options.ReaderOptions` has them.
        uncertain: What a label marked as uncertain counts as, likewise.
        diagnosis: Aspect that concludes, where the data does not say or another is wanted.
        epochs: Passes over the training split.
        batch_size: Studies a process takes at once.
        accumulate: Batches a step; a step's gradient is that of all of them in one.
        learning_rate: Peak of AdamW's; it warms up, and falls as a cosine.
        learning_rates: Factors of it for parts of the model: `image`, `heads`, `report`; 1 where not named.
        warmup: Share of all steps in which the learning rate rises.
        weight_decay: Of matrices and kernels; biases and BatchNorm have none.
        beta: Share of the language in the image module's gradient at the start and at the end
            (formula 6).
        eta: Scale of the language's gradient there, at the start and at the end.
        schedule: How beta and eta go from start to end: `constant` (stay), `linear`, `cosine`, or
            `phases`: first L_M alone, then L_L too but beta 0, at last beta and eta from start to end.
        clip: Largest norm of the gradient.
        label_smoothing: Share of a label's weight that is spread over all classes.
        imbalance: Against rare classes: `none`, `weights` (by inverse frequency) or `logits` (adjusted by
            the log prior).
        scheduled_sampling: Probability that the LSTM reads its own word in place of the true one, at the
            start and at the end.
        ema: Decay of the moving average of the weights, which is then what is validated and saved; 0: none.
        augmentation: A name of `mdnet.data.augmentation.AUGMENTATIONS`; `auto` chooses by looking at the
            data, and says so.
        tokenizer: `words`, or `bpe` (byte pairs).
        minimum_count: Words that the training reports use less often are unknown.
        vocabulary_size: Tokens of a `bpe` vocabulary.
        precision: `no`, `bf16` or `fp16`, as accelerate takes it.
        compile: Whether `torch.compile` compiles the image module.
        workers: Loader processes; 0 loads in the main one.
        cache: Whether decoded and resized images are kept on disk for the next epoch and the next run.
        metric: Column of the history that chooses the best epoch; the greatest is the best.
        patience: Epochs without a better `metric` after which training stops; 0: never.
        validated: Most studies of the val split looked at after every epoch.
        checkpoint_steps: Steps between checkpoints within an epoch; 0: only at its end.
        seed: Of weights, order, writers and augmentation.
    """

    data: str
    out: str
    model: str = "mdnet_tiny"
    model_options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    freeze: tuple[str, ...] = ()
    format: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    uncertain: str = "missing"
    diagnosis: str | None = None
    epochs: int = 10
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 3e-3
    learning_rates: dict[str, Any] = field(default_factory=dict)
    warmup: float = 0.05
    weight_decay: float = 0.02
    beta: tuple[float, float] = (0.3, 0.3)
    eta: tuple[float, float] = (1.0, 1.0)
    schedule: str = "constant"
    clip: float = 5.0
    label_smoothing: float = 0.0
    imbalance: str = "none"
    scheduled_sampling: tuple[float, float] = (0.0, 0.0)
    ema: float = 0.0
    augmentation: str = "none"
    tokenizer: str = "words"
    minimum_count: int = 1
    vocabulary_size: int = 8000
    precision: str = "no"
    compile: bool = False
    workers: int = 0
    cache: bool = True
    metric: str = "val_score"
    patience: int = 0
    validated: int = 200
    checkpoint_steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for name, kind in hints.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))
        at_least_one = ("epochs", "batch_size", "accumulate", "minimum_count", "vocabulary_size", "validated")
        for name in (*at_least_one, "workers", "patience", "checkpoint_steps", "seed"):
            least = 1 if name in at_least_one else 0
            if (value := getattr(self, name)) < least:
                raise ConfigurationError(f"{name} is {value}; it must be at least {least}")
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.clip <= 0:
            raise ConfigurationError("learning_rate and clip must be positive, weight_decay not negative")
        for name in ("beta", "scheduled_sampling", "warmup"):
            value = getattr(self, name)
            if not all(0 <= each <= 1 for each in (value if isinstance(value, tuple) else (value,))):
                raise ConfigurationError(f"{name} is {value}; it must lie in 0..1")
        for name in ("label_smoothing", "ema"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ConfigurationError(f"{name} is {value}; it must be at least 0 and below 1")
        for name, allowed in (("imbalance", IMBALANCE), ("tokenizer", TOKENIZERS)):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigurationError(f"{name} {value!r} is none of {', '.join(allowed)}")
        for part, factor in self.learning_rates.items():
            if part not in PARTS or not isinstance(factor, int | float) or factor < 0:
                raise ConfigurationError(
                    f"learning_rates has {part!r}: {factor!r}; give {', '.join(PARTS)} a factor of 0 or more"
                )
        if self.schedule not in SCHEDULES:
            raise ConfigurationError(f"schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ConfigurationError(f"precision {self.precision!r} is none of no, bf16, fp16")
        if self.augmentation != "auto":
            check_augmentation(self.augmentation)
        self.reader_options()

    def reader_options(self) -> ReaderOptions:
        """What `read_studies` is told beside the folder."""
        return ReaderOptions(self.columns, self.uncertain)

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
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False))


def _checked(name: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`; numbers may be written as text, a pair as a list or one number."""
    try:
        if kind == tuple[float, float]:
            pair = [value, value] if isinstance(value, (int, float, str)) else list(value)
            first, last = (float(part) for part in pair)
            return first, last
        if kind == tuple[str, ...]:
            names = (value,) if isinstance(value, str) else tuple(value)
            if not all(isinstance(each, str) for each in names):
                raise TypeError
            return names
        if kind is bool and isinstance(value, bool):
            return value
        if kind in (int, float) and not isinstance(value, bool):
            number = kind(value)
            if float(number) != float(value):
                raise ValueError
            return number
    except (TypeError, ValueError):
        expected = {
            int: "a whole number",
            float: "a number",
            tuple[str, ...]: "names",
        }.get(kind, "two numbers, start and end")
        raise ConfigurationError(f"{name} is {value!r}; it takes {expected}") from None
    if kind == dict[str, Any]:
        allowed, expected = dict, "names with their values"
    else:
        allowed = kind  # str, or str | None
        expected = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise ConfigurationError(f"{name} is {value!r}; it takes {expected}")
    return value
