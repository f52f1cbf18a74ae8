"""The card beside a file of reports: what it was made with, so that nothing else goes on with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mdnet.errors import ConfigurationError
from mdnet.files import write_text

__all__ = ["Card"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Card:
    """What a run is.

    Attributes:
        settings: What decides its reports: a run goes on with the same alone.
        studies: How many there are.
        seed: Of the draws, the user's or one that was drawn; None where nothing is drawn.
        starts: When, how and on what it was started, as `mdnet.provenance.start_record` tells; one more
            every time that it goes on.
        finished: How many reports and how many studies without one there are in the end; None before that.
    """

    settings: Mapping[str, Any]
    studies: int
    seed: int | None
    starts: tuple[Mapping[str, Any], ...]
    finished: Mapping[str, int] | None = None

    @classmethod
    def load(cls, file: Path) -> Card:
        """The card in a file.

        Raises:
            ConfigurationError: It holds none.
        """
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            return cls(**record | {"starts": tuple(record["starts"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"{file}: no card of reports ({error}); name another --out") from error

    def save(self, file: Path) -> None:
        write_text(file, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def goes_on(self, file: Path, settings: Mapping[str, Any], start: Mapping[str, Any]) -> Card:
        """The card of the run as it goes on.

        Args:
            file: Where the card is, for messages.
            settings: Those of now.
            start: That of now.

        Raises:
            ConfigurationError: The settings are others.
        """
        told = json.loads(json.dumps(settings))  # as a file gives them back
        changed = [
            f"{key}: {self.settings.get(key)} there, {told.get(key)} here"
            for key in self.settings | told
            if self.settings.get(key) != told.get(key)
        ]
        if changed:
            raise ConfigurationError(
                f"{file}: the reports to go on with were begun otherwise ({'; '.join(changed)}); "
                "call it as it was called, or name another --out"
            )
        if (before := self.starts[-1]["mdnet"]) != start["mdnet"]:
            _log.warning("%s: begun by mdnet %s, goes on by %s", file, before, start["mdnet"])
        return replace(self, starts=(*self.starts, start))
