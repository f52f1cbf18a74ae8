"""Pretrained weights: what ships with the package, and how any name becomes a folder on disk.

A weights folder holds `model.safetensors`, `config.json` (with the label space), `tokenizer.json`,
`preprocessor_config.json`, where it was calibrated `calibration.json` and `calibration.safetensors`, and,
where it was published, `weights.json` (a `WeightsCard`) and a model card. Nothing in it is unpickled
or executed.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mdnet.errors import WeightsError

__all__ = ["WeightsCard", "get_weights", "list_weights", "resolve_weights", "sha256", "verify_weights"]

_SHIPPED = Path(__file__).parent.parent / "weights"
_FILES = [
    "config.json",
    "model.safetensors",
    "tokenizer*.json",
    "preprocessor_config.json",
    "calibration.json",
    "calibration.safetensors",
    "weights.json",
]


@dataclass(frozen=True)
class WeightsCard:
    """What is known of published weights.

    Attributes:
        name: `model/data`, as `from_pretrained` takes it.
        model: The architecture's name.
        data: What they were trained on.
        recipe: The command that reproduces them.
        metrics: Measured quality, nested as in `metrics.json`.
        sha256: Of `model.safetensors`.
        parameters: Their number.
        licence: SPDX identifier.
        version: The mdnet version that trained them.
    """

    name: str
    model: str
    data: str
    recipe: str
    metrics: dict[str, Any]
    sha256: str
    parameters: int
    licence: str
    version: str


def list_weights(pattern: str = "*") -> list[str]:
    """Names of the weights that ship with the package and match a shell pattern, sorted."""
    names = [path.parent.relative_to(_SHIPPED).as_posix() for path in _SHIPPED.glob("*/*/weights.json")]
    return sorted(fnmatch.filter(names, pattern))


def get_weights(name: str) -> WeightsCard:
    """The card of weights that ship with the package."""
    if name not in list_weights():
        raise WeightsError(
            f"no weights {name!r} in the package; there are: {', '.join(list_weights()) or 'none'}"
        )
    return read_card(_SHIPPED / name)


def read_card(folder: Path) -> WeightsCard:
    """The card in a weights folder."""
    file = folder / "weights.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{file}: {error}; fetch or install it anew") from error
    known = {field.name for field in fields(WeightsCard)}
    if set(record) != known:
        odd = ", ".join(sorted(set(record) ^ known))
        raise WeightsError(f"{file}: entries missing or unknown: {odd}")
    return WeightsCard(**record)


def resolve_weights(name: str | Path, *, revision: str | None = None, offline: bool = False) -> Path:
    """The local folder behind a name.

    Args:
        name: A folder that holds a model (or a run folder, whose `model/` is taken), a name of
            `list_weights()`, or a Hugging Face hub id `owner/name`.
        revision: Branch, tag or commit on the hub.
        offline: Take a hub id from the local cache only.

    Raises:
        WeightsError: Nothing of that name, or it could not be had.
    """
    folder = Path(name)
    for candidate in (folder / "model", folder):
        if (candidate / "config.json").is_file():
            return candidate
    if folder.is_dir():
        raise WeightsError(
            f"{folder}: neither it nor its model/ holds a config.json; name a run or model folder"
        )
    if str(name) in list_weights():
        return _SHIPPED / str(name)
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise WeightsError(
            f"{name}: no such folder, and none of the shipped weights ({', '.join(list_weights()) or 'none'})"
        )
    return _from_hub(str(name), revision=revision, offline=offline)


def _from_hub(name: str, *, revision: str | None, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(name, revision=revision, local_files_only=offline, allow_patterns=_FILES)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{name}: no such folder or shipped weights ({', '.join(list_weights()) or 'none'}), "
            f"and the hub gave none: {reason}"
        ) from error
    return Path(folder)


def verify_weights(folder: Path) -> None:
    """Raises `WeightsError` if a published model's weights do not have the hash on their card."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise WeightsError(f"{weights}: missing; a model is saved with save_pretrained, as safetensors")
    if (folder / "weights.json").is_file():
        expected = read_card(folder).sha256
        found = sha256(weights)
        if found != expected:
            raise WeightsError(
                f"{weights}: sha256 {found[:12]}..., its card says {expected[:12]}...; install it anew"
            )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
