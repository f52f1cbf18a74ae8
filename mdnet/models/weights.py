"""Pretrained weights: what ships with the package, and how any name becomes a folder on disk.

A weights folder holds `model.safetensors`, `config.json` (with the label space), `tokenizer.json`,
`preprocessor_config.json`, where it was calibrated `calibration.json` and `calibration.safetensors`, and,
where it was published, `weights.json` (a `WeightsCard`) and a model card. Nothing in it is unpickled
or executed.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path

from mdnet.errors import WeightsError, did_you_mean
from mdnet.models.weights_card import CARD_FILE, WEIGHTS_FILE, WeightsCard, read_card, sha256

__all__ = [
    "WeightsCard",
    "get_weights",
    "list_weights",
    "read_card",
    "resolve_weights",
    "sha256",
    "verify_weights",
]

_SHIPPED = Path(__file__).parent.parent / "weights"


def list_weights(pattern: str = "*") -> list[str]:
    """Names of the weights that ship with the package and match a shell pattern, sorted."""
    names = [path.parent.relative_to(_SHIPPED).as_posix() for path in _SHIPPED.glob(f"*/*/{CARD_FILE}")]
    return sorted(fnmatch.filter(names, pattern))


def get_weights(name: str) -> WeightsCard:
    """The card of weights that ship with the package.

    >>> mdnet.get_weights("mdnet_tiny/phantom").metrics["aspects"]["mitosis"]["accuracy"]

    Raises:
        WeightsError: There are none of that name; it names them all.
    """
    return read_card(_shipped(name))


def resolve_weights(
    name: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    offline: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The local folder behind a name.

    Args:
        name: A folder that holds a model (or a run folder, whose `model/` is taken), a name of
            `list_weights()`, or a Hugging Face hub id `owner/name`.
        revision: Branch, tag or commit on the hub.
        cache_dir: Folder of the local cache of the hub; huggingface_hub's own unless given.
        offline: Take a hub id from the local cache only, as HF_HUB_OFFLINE=1 does.
        token: For a hub id that asks for one; that of `hf auth login` or HF_TOKEN unless given.

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
    if folder.is_file():
        raise WeightsError(f"{folder}: a file; name the folder that it lies in")
    if str(name) in list_weights():
        return _shipped(str(name))
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise WeightsError(
            f"{name}: no such folder, and none of the shipped weights ({_all_shipped()})"
            + did_you_mean(str(name), list_weights())
        )
    from mdnet.models.hub import download

    try:
        return download(
            str(name), revision=revision, cache_dir=cache_dir, local_files_only=offline, token=token
        )
    except WeightsError as error:
        raise WeightsError(
            f"{error} (nor is it a folder, or one of {_all_shipped()})"
            + did_you_mean(str(name), list_weights())
        ) from error


def verify_weights(folder: Path) -> None:
    """Raises `WeightsError` if a published model's weights do not have the hash on their card."""
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise WeightsError(f"{weights}: missing; a model is saved with save_pretrained, as safetensors")
    if (folder / CARD_FILE).is_file():
        expected = read_card(folder).sha256
        found = sha256(weights)
        if found != expected:
            raise WeightsError(
                f"{weights}: sha256 {found[:12]}..., its card says {expected[:12]}...; "
                "delete it, and install or download it anew"
            )


def _shipped(name: str) -> Path:
    """The folder of weights in the package."""
    if name not in list_weights():
        raise WeightsError(
            f"no weights {name!r} in the package{did_you_mean(name, list_weights())}; "
            f"there are: {_all_shipped()}"
        )
    return _SHIPPED / name


def _all_shipped() -> str:
    return ", ".join(list_weights()) or "none"
