"""Readers: one data set layout each, all giving the same `StudySet`.

To add a layout, write a module with `matches(root)` and `read(root)` and name it in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from mdnet.data.readers import bladder, r2gen, studies
from mdnet.data.readers.labels import did_you_mean
from mdnet.data.study import StudySet
from mdnet.errors import ConfigurationError, DataError

__all__ = ["FORMATS", "Format", "read_studies"]


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
        looks_for: What `matches` looks for, in words.
        matches: Whether a folder has this layout.
        read: Folder to `StudySet`; what is wrong with the data is in its `faults`.
    """

    looks_for: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], StudySet]


FORMATS: dict[str, Format] = {
    "studies": Format("studies.jsonl", studies.matches, studies.read),
    "r2gen": Format("annotation.json", r2gen.matches, r2gen.read),
    "bcidr": Format("Img/ and {train,test}_labels.json", bladder.BCIDR.matches, bladder.BCIDR.read),
    "bladder": Format(
        "Images/ and {train,test}_annotation.json", bladder.BLADDER.matches, bladder.BLADDER.read
    ),
}


def read_studies(path: str | PathLike[str], *, format: str | None = None, strict: bool = True) -> StudySet:
    """Reads a data set.

    Args:
        path: Its folder, or its index file (`studies.jsonl`, `annotation.json`).
        format: A name in `FORMATS`; found by looking unless named.
        strict: Raise the first error. Otherwise studies with errors are left out, and the faults
            are in the result.

    Raises:
        ConfigurationError: The layout is none that is known, or could be several.
        DataError: There is no such path, or (strict) the data set has errors.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(path, "no such file or folder", "check the path")
    root = path.parent if path.is_file() else path
    found = FORMATS[_format_of(root, format)].read(root)
    errors = list(found.errors())
    if strict and errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more: mdnet data check {path})" if len(errors) > 1 else ""
        raise DataError(first.where, first.problem, first.mend + more)
    return found


def _format_of(root: Path, name: str | None) -> str:
    if name is not None and name not in FORMATS:
        raise ConfigurationError(
            f"no format {name!r}{did_you_mean(name, FORMATS)}; the formats: {', '.join(FORMATS)}"
        )
    matching = [known for known, layout in FORMATS.items() if layout.matches(root)]
    if name is not None:
        if name not in matching:
            raise ConfigurationError(f"{root} is not in format {name!r}: no {FORMATS[name].looks_for} there")
        return name
    if len(matching) > 1:
        raise ConfigurationError(f"{root} could be in format {' or '.join(matching)}: name one (--format)")
    if not matching:
        known = "; ".join(f"{layout} looks for {FORMATS[layout].looks_for}" for layout in FORMATS)
        raise ConfigurationError(f"{root} holds no data set in a known format: {known}")
    return matching[0]
