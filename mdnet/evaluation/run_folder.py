"""A run folder that was evaluated, read back: `metrics.json`, and what makes two of them comparable.

Only JSON is read, so that a folder of many runs is looked over in a moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdnet.data.study import LabelSpace
from mdnet.errors import ConfigurationError, DataError

__all__ = ["EvaluatedRun", "read_evaluated_run", "recipe"]

_SEED_ONLY = ("seed", "out", "workers", "cache")  # what may differ between two runs of one recipe


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluated run.

    Attributes:
        folder: The run folder.
        metrics: Its `metrics.json`.
        space: The model's aspects.
    """

    folder: Path
    metrics: Mapping[str, Any]
    space: LabelSpace

    @property
    def data_hash(self) -> str:
        """Of the data that it was scored on."""
        return str(self.metrics["provenance"]["data_hash"])

    @property
    def split(self) -> str:
        """The split that it was scored on."""
        return str(self.metrics["provenance"]["split"])

    @property
    def seed(self) -> int:
        """The seed that it was trained with."""
        return int(self.metrics["provenance"]["seed"])

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Its `config.yaml`."""
        configuration: Mapping[str, Any] = self.metrics["provenance"]["configuration"]
        return configuration


def read_evaluated_run(folder: Path) -> EvaluatedRun:
    """Reads `metrics.json` and the model's label space.

    Raises:
        ConfigurationError: It is no run folder, or it was not evaluated.
        DataError: A file is damaged, or written by an earlier version.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder; name a run folder, as train.py --out makes it")
    file = folder / "metrics.json"
    if not file.is_file():
        raise ConfigurationError(f"{folder}: not evaluated; run `mdnet evaluate --run {folder}`")
    metrics = _json_object(file)
    provenance = metrics.get("provenance")
    needed = {"data_hash", "split", "seed", "configuration"}
    missing = needed - set(provenance if isinstance(provenance, dict) else ())
    if missing or not isinstance(metrics.get("intervals"), dict):
        lacks = ", ".join(sorted(missing)) or "intervals"
        raise DataError(file, f"lacks {lacks}", f"run `mdnet evaluate --run {folder}` anew")
    model = folder / "model" / "config.json"
    if not model.is_file():
        raise DataError(folder, "no model/config.json", "give the whole run folder")
    return EvaluatedRun(folder, metrics, LabelSpace.from_dict(_json_object(model).get("label_space") or {}))


def recipe(run: EvaluatedRun) -> dict[str, Any]:
    """What the run was trained with, but for the seed and the folder; model options by name."""
    flat: dict[str, Any] = {}
    for name, value in run.configuration.items():
        if name == "model_options":
            flat |= value
        elif name not in _SEED_ONLY:
            flat[name] = value
    return flat


def _json_object(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(file, f"no JSON ({error})", "evaluate the run anew") from error
    if not isinstance(record, dict):
        raise DataError(file, "no JSON object", "evaluate the run anew")
    return record
