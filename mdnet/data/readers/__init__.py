"""Readers: one data set layout each, all giving the same `StudySet`.

To add a layout, write a module with `matches(root)` and `read(root)` and name it in `FORMATS`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path

from mdnet.data.readers import (
    bladder,
    hub,
    image_folder,
    indiana,
    medpix,
    mimic_cxr,
    openi,
    r2gen,
    shards,
    studies,
    table,
)
from mdnet.data.readers.labels import did_you_mean
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.study import StudySet
from mdnet.errors import ConfigurationError, DataError

__all__ = ["FORMATS", "Format", "ReaderOptions", "read_studies"]

_log = logging.getLogger(__name__)
_LOGGED = 5
_LOOKED_INTO = 100  # folders in a folder that holds no data set
_FILES = ("table", "hub")  # formats that read one file where one is named
_PARTS = (".json", ".jsonl", ".xml", ".csv", ".gz", ".tar")  # endings of files that stand for their folder


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
        looks_for: What `matches` looks for, in words.
        matches: Whether a folder (of `_FILES` a file too) has this layout.
        read: Folder, and what is said beside it, to `StudySet`; what is wrong with the data is in its
            `faults`.
        general: Many folders look so; one that also has another layout is taken for that.
    """

    looks_for: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, ReaderOptions], StudySet]
    general: bool = False


FORMATS: dict[str, Format] = {
    "studies": Format("studies.jsonl", studies.matches, studies.read),
    "r2gen": Format("annotation.json", r2gen.matches, r2gen.read),
    "bcidr": Format("Img/ and {train,test}_labels.json", bladder.BCIDR.matches, bladder.BCIDR.read),
    "bladder": Format(
        "Images/ and {train,test}_annotation.json", bladder.BLADDER.matches, bladder.BLADDER.read
    ),
    "shards": Format(".tar files and nothing else", shards.matches, shards.read),
    "openi": Format("ecgen-radiology/*.xml", openi.matches, openi.read),
    "indiana": Format("indiana_reports.csv and indiana_projections.csv", indiana.matches, indiana.read),
    "mimic_cxr": Format(
        "mimic-cxr-2.0.0-metadata.csv.gz or mimic-cxr-2.0.0-split.csv.gz, packed or not",
        mimic_cxr.matches,
        mimic_cxr.read,
    ),
    "medpix": Format(
        "Descriptions.jsonl, Descriptions.json or descriptions_train.jsonl", medpix.matches, medpix.read
    ),
    "table": Format("a .csv or .tsv file, maybe .gz", table.matches, table.read, general=True),
    "image_folder": Format(
        "a folder a class, maybe under train/, val/, test/",
        image_folder.matches,
        image_folder.read,
        general=True,
    ),
    "hub": Format(
        "dataset_dict.json, dataset_info.json, or .parquet, .arrow or .jsonl files",
        hub.matches,
        hub.read,
        general=True,
    ),
}


def read_studies(
    path: str | PathLike[str],
    *,
    format: str | None = None,
    strict: bool = True,
    options: ReaderOptions | None = None,
) -> StudySet:
    """Reads a data set.

    Args:
        path: Its folder, its index file (`studies.jsonl`, `annotation.json`), or a table; a name of a data
            set of the Hugging Face hub with format `hub`.
        format: A name in `FORMATS`; found by looking unless named.
        strict: Raise the first error. Otherwise studies with errors are left out, and the faults
            are in the result.
        options: What cannot be seen by looking: a table's columns, what an uncertain label counts as.

    Raises:
        ConfigurationError: The layout is none that is known, or could be several.
        DataError: There is no such path, or (strict) the data set has errors.
    """
    path = Path(path)
    if not path.exists() and format != "hub":
        mend = "check the path; a data set of the Hugging Face hub takes the format hub"
        raise DataError(path, "no such file or folder", mend)
    name = _format_of(path, format)
    root = path.parent if path.is_file() and name not in _FILES else path
    found = FORMATS[name].read(root, options or ReaderOptions())
    errors = list(found.errors())
    if strict and errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more: mdnet data check {path})" if len(errors) > 1 else ""
        raise DataError(first.where, first.problem, first.mend + more)
    if strict:
        _log_warnings(found, path)
    return found


def _log_warnings(found: StudySet, path: Path) -> None:
    """What was left out, and what else is not as it should be: the first few, with a word on the rest."""
    for fault in found.faults[:_LOGGED]:
        _log.warning("%s: %s; %s", fault.where, fault.problem, fault.mend)
    if len(found.faults) > _LOGGED:
        _log.warning("%d more warnings: mdnet data check %s", len(found.faults) - _LOGGED, path)


def _format_of(path: Path, name: str | None) -> str:
    if name is not None and name not in FORMATS:
        raise ConfigurationError(
            f"no format {name!r}{did_you_mean(name, FORMATS)}; the formats: {', '.join(FORMATS)}"
        )
    if name == "hub" and not path.exists():
        return name
    matching = _matching(path)
    if name is not None:
        if name not in matching:
            raise ConfigurationError(f"{path} is not in format {name!r}: no {FORMATS[name].looks_for} there")
        return name
    if path.is_file():
        matching = _meant_by_file(path, matching)
    matching = [known for known in matching if not FORMATS[known].general] or matching
    if len(matching) > 1:
        raise ConfigurationError(f"{path} could be in format {' or '.join(matching)}: name one (--format)")
    if matching == ["image_folder"] and (inside := next(_sets_inside(path, general=False), None)):
        raise ConfigurationError(f"{path} holds the data set {inside}, and maybe others: name one of them")
    if matching:
        return matching[0]
    if path.is_file():
        raise ConfigurationError(f"{path} is no table, and no list of a data set: name the data set's folder")
    if inside := next(_sets_inside(path, general=True), None):
        raise ConfigurationError(f"{path} holds no data set, but the folder {inside} in it does: name that")
    known = "; ".join(f"{layout} looks for {FORMATS[layout].looks_for}" for layout in FORMATS)
    raise ConfigurationError(f"{path} holds no data set in a known format: {known}")


def _matching(path: Path) -> list[str]:
    """The formats that a folder has, or a file and its folder."""
    root = path.parent if path.is_file() else path
    return [known for known, layout in FORMATS.items() if layout.matches(path if known in _FILES else root)]


def _meant_by_file(file: Path, matching: list[str]) -> list[str]:
    """Of the formats those that are meant by who names this file."""
    named = [known for known in matching if file.name in FORMATS[known].looks_for.replace(",", " ").split()]
    if named or "table" in matching:
        return named or ["table"]
    return matching if "hub" in matching or file.suffix.lower() in _PARTS else []


def _sets_inside(folder: Path, *, general: bool) -> Iterator[Path]:
    """The folders in a folder that hold data sets; of all formats, or of those that are not general."""
    inside = (Path(each.path) for each in os.scandir(folder) if each.is_dir() and each.name[0] not in "._")
    for each in sorted(islice(inside, _LOOKED_INTO)):
        if any(general or not FORMATS[known].general for known in _matching(each)):
            yield each
