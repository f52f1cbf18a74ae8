"""What goes wrong for a user, as typed exceptions of one line each.

Every message says what was found, where, and how to mend it; the command line prints it as it
stands and exits with code 2 (the call or its input was wrong).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os import PathLike

__all__ = [
    "ConfigurationError",
    "DataError",
    "ImageError",
    "MDNetError",
    "MissingExtraError",
    "TrainingError",
    "WeightsError",
    "did_you_mean",
]


class MDNetError(Exception):
    """Base of every error that a user can mend."""


class ConfigurationError(MDNetError, ValueError):
    """An option or configuration value that is unknown or out of range."""


class WeightsError(MDNetError):
    """Weights that are missing, damaged, or made for something else."""


class TrainingError(MDNetError):
    """A training run that cannot go on: a gradient that is no number, a batch that does not fit in memory."""


class MissingExtraError(MDNetError, ImportError):
    """An optional package is needed.

    Args:
        package: The package's import name.
        extra: The extra of `mdnet` that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'mdnet[{extra}]'")
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """As that of `DataError`."""
        return type(self), (self.package, self.extra)


class DataError(MDNetError, ValueError):
    """A data set, or one of its files, that cannot be used as it is.

    Args:
        where: The file, with `:line` behind it where there is one.
        problem: What was found there.
        mend: What the user can do.
    """

    def __init__(self, where: str | PathLike[str], problem: str, mend: str) -> None:
        super().__init__(f"{where}: {problem}; {mend}")
        self.where, self.problem, self.mend = str(where), problem, mend

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str, str]]:
        """So that it comes whole out of another process."""
        return type(self), (self.where, self.problem, self.mend)


class ImageError(DataError):
    """One image that cannot be decoded."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest allowed name, or nothing."""
    near = difflib.get_close_matches(name, list(allowed), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
