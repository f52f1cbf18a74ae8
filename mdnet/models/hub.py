"""Weights from the Hugging Face hub and to it, by `huggingface_hub`; every trouble is one line.

A repository is a weights folder (`mdnet.models.weights`). Of one that somebody else filled, only the files
that a model is loaded from are fetched: no pickle, no code.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # httpx's or httpx2's, by its release
    HTTPError as ConnectionBroken,
)

from mdnet.errors import WeightsError
from mdnet.models.weights_card import CARD_FILE, WEIGHTS_FILE, CardFacts, make_card, write_card

if TYPE_CHECKING:
    from mdnet.models.mdnet import MDNet

__all__ = ["download", "upload"]

_FILES = [
    "config.json",
    WEIGHTS_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "calibration.json",
    "calibration.safetensors",
    CARD_FILE,
]
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

_log = logging.getLogger(__name__)


def download(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The folder of the local cache that holds a repository's weights, fetched where it must be.

    Args:
        name: Hub id, `owner/name`.
        revision: Branch, tag or commit; the main branch unless given.
        cache_dir: Of huggingface_hub's cache; its own place (HF_HOME) unless given.
        local_files_only: Ask nobody; so does HF_HUB_OFFLINE=1.
        token: Of an account that may read it; that of `hf auth login` or HF_TOKEN unless given.

    Raises:
        WeightsError: It is not there, not readable, not whole, or has no safetensors.
    """
    where = f"{name}, revision {revision}" if revision else name
    offline = local_files_only or constants.HF_HUB_OFFLINE
    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=_FILES,
            )
        )
    except (ConnectionBroken, HFValidationError, OSError) as error:  # that of the hub is an OSError
        raise WeightsError(f"{where}: {_what_is_wrong(error, offline=offline)}") from error
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(f"{where}: {_what_is_there(name, folder, token=token, offline=offline)}")
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{where}: no config.json, so nobody can say what the weights are of")
    return folder


def upload(
    model: MDNet,
    name: str,
    *,
    licence: str,
    facts: CardFacts,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Puts a model with all that belongs to it into a repository, in one commit.

    Args:
        model: With its preprocessing.
        name: Hub id, `owner/name`; made if it is not there.
        licence: SPDX identifier of the weights.
        facts: What else `make_card` takes.
        private: Whether a repository that is made is; the account's own choice unless given.
        token: Of an account that may write it; that of `hf auth login` or HF_TOKEN unless given.
        revision: Branch to commit to, made if it is not there; the main branch unless given.
        commit_message: Of the commit.

    Returns:
        The address of the commit.

    Raises:
        WeightsError: The hub cannot be reached, or refuses.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model.save_pretrained(folder)
        write_card(folder, make_card(model, folder, name=name, licence=licence, **facts))
        try:
            api.create_repo(name, private=private, exist_ok=True)
            if revision is not None and revision != constants.DEFAULT_REVISION:
                api.create_branch(name, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message or f"mdnet: {model.config.architecture or 'MDNet'}",
            )
        except (ConnectionBroken, HFValidationError, OSError) as error:
            raise WeightsError(
                f"{name}: not pushed: {_what_is_wrong(error, offline=constants.HF_HUB_OFFLINE)}"
            ) from error
        except ValueError as error:  # front matter that the hub does not take, such as a licence
            said = " ".join(str(error).split())
            raise WeightsError(f"{name}: not pushed: {said}; mend what the card is given") from error
        except RuntimeError as error:  # so it wraps what a large file met with
            raise WeightsError(
                f"{name}: not pushed: {_line(error.__cause__ or error)}; push again"
            ) from error
    _log.info("%s: %s", name, commit.commit_url)
    return str(commit.commit_url)


def _what_is_wrong(error: Exception, *, offline: bool) -> str:
    """One line: what the hub or the way to it said, and the mend."""
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    match error:
        case GatedRepoError():
            return f"gated: ask for access on its page at {constants.ENDPOINT}, then {_LOG_IN}"
        case RevisionNotFoundError():
            return "no such revision on the hub; leave it out for the newest, or name one that its page lists"
        case RepositoryNotFoundError():
            return f"not on the hub at {constants.ENDPOINT}, or private: mend the name, or {_LOG_IN}"
        case LocalEntryNotFoundError() if hasattr(
            error, "snapshot_path"
        ):  # IncompleteSnapshotError, from 2.x on
            return "not whole in the local cache: an earlier download broke off; load it again with a network"
        case LocalEntryNotFoundError() if offline:
            return (
                "not in the local cache, and asking the hub is turned off (local_files_only or "
                "HF_HUB_OFFLINE); load it once with a network, or copy the cache"
            )
        case HfHubHTTPError() if error.response.status_code in (401, 403):
            return f"the hub refuses ({_line(error)}): {_LOG_IN}, with a token that may do this"
        case HFValidationError():
            return f"no hub id: {_line(error)}; write owner/name"
    return f"the hub at {constants.ENDPOINT} gave no answer ({_line(cause or error)}); try again later"


def _what_is_there(name: str, folder: Path, *, token: str | bool | None, offline: bool) -> str:
    """One line about a repository that gave no `model.safetensors`."""
    try:
        files = [] if offline else HfApi(token=token).list_repo_files(name, revision=folder.name)
    except (ConnectionBroken, OSError) as error:
        _log.debug("%s: its files cannot be listed", name, exc_info=error)
        files = []
    if WEIGHTS_FILE in files or not files:
        return f"no {WEIGHTS_FILE} in {folder}: an earlier download broke off; load it again with a network"
    pickles = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
    if pickles:
        return (
            f"no {WEIGHTS_FILE}, but {', '.join(pickles[:3])}: a pickle can run any code, so it is never "
            "loaded; ask its owner to save it as safetensors"
        )
    return f"no {WEIGHTS_FILE} on the hub; it is no model that mdnet saved"


def _line(error: BaseException) -> str:
    """An error's first line, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
