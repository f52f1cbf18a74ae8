"""What many studies are named by: images, folders, globs, manifests, data sets and shards.

- A folder that a reader knows as a data set (`studies.jsonl`, R2Gen's `annotation.json`, shards, ...) gives
  its studies, with their ids and all their views. Of any other folder every image to the bottom is a study;
  hidden files and folders are passed over.
- A manifest is `.txt`, a path a line; `.csv` or `.tsv`, read as a data set's table; or `.jsonl`, an object
  a line with `image` (a path, or a list of them) and maybe `id`. Its paths are relative to its folder.
- A `.tar` is a shard, read as `mdnet.data.shards` says.

The order is that of the names on the command line, and inside a folder that of the names of its files. The
studies are in a `StudyList`, so a hundred thousand take no memory to speak of; and files are not looked at
before they are read, but where a data set's reader does.
"""

from __future__ import annotations

import glob
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from mdnet.data.images import SUFFIXES
from mdnet.data.readers import FORMATS, read_studies
from mdnet.data.readers.collector import Collector
from mdnet.data.readers.columns import find_columns
from mdnet.data.readers.comparison import repeated
from mdnet.data.readers.json_lines import read_json_lines
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.study import Fault, Study
from mdnet.data.study_list import StudyList
from mdnet.errors import ConfigurationError

__all__ = ["Inputs", "find_images", "list_inputs", "load_inputs", "save_inputs"]

_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True)
class Inputs:
    """The studies to write reports for.

    Attributes:
        studies: Each with its id, that of an image being its path.
        unreadable: Lines of lists that name no study.
    """

    studies: StudyList
    unreadable: tuple[Fault, ...] = ()


def list_inputs(named: Sequence[str], options: ReaderOptions | None = None) -> Inputs:
    """The studies that files, folders and globs name, each once.

    Args:
        named: As the user wrote them.
        options: What the columns of a manifest or table hold.

    Raises:
        ConfigurationError: Something named is not there, or holds no image.
        DataError: A data set cannot be read at all.
    """
    lister = _Lister(options or ReaderOptions())
    for text in named:
        before = len(lister.studies) + len(lister.unreadable)
        for (is_shard, _), paths in groupby(_matches(text), key=_shard_key):
            if is_shard:
                lister.shards(list(paths))
            else:
                for path in paths:
                    lister.any(path)
        if len(lister.studies) + len(lister.unreadable) == before:
            raise ConfigurationError(
                f"{text}: no image there; name an image, a folder that holds some, a list of them, or a glob"
            )
    return lister.inputs()


def find_images(named: Sequence[str]) -> list[Path]:
    """The images of all studies that are named, for what takes them one by one; arguments as `list_inputs`.

    Raises:
        DataError: A line of a list names no study.
    """
    inputs = list_inputs(named)
    for each in inputs.unreadable:
        raise each.as_error()
    return [path for study in inputs.studies for path in study.images]


def save_inputs(inputs: Inputs, file: Path) -> None:
    """Writes inputs for `load_inputs`, a study a line, ids and paths to the byte."""
    with file.open("w", encoding="ascii") as lines:
        for study in inputs.studies:
            lines.write(json.dumps({"id": study.id, "images": [str(path) for path in study.images]}) + "\n")
        for each in inputs.unreadable:
            lines.write(json.dumps(asdict(each)) + "\n")


def load_inputs(file: Path) -> Inputs:
    """What `save_inputs` wrote."""
    studies, unreadable = StudyList(), []
    with file.open(encoding="ascii") as lines:
        for record in map(json.loads, lines):
            if "id" in record:
                studies.append(Study(record["id"], tuple(map(Path, record["images"]))))
            else:
                unreadable.append(Fault(**record))
    return Inputs(studies, tuple(unreadable))


def _matches(text: str) -> list[Path]:
    """The file or folder of that name, or those that a glob matches."""
    path = Path(text)
    return (
        [path] if path.exists() else [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207  (absolute too)
    )


def _shard_key(path: Path) -> tuple[bool, Path | None]:
    """Shards of one folder go together: its index is read once."""
    return (True, path.parent) if path.suffix.lower() == ".tar" else (False, None)


class _Lister:
    """Gathers studies and the lines that name none."""

    def __init__(self, options: ReaderOptions) -> None:
        self._options = options
        self.studies = StudyList()
        self.unreadable: list[Fault] = []
        self._hashes = array("q")  # of the studies

    def any(self, path: Path) -> None:
        """A folder, a manifest, or an image."""
        name = path.name.lower()
        if path.is_dir():
            if any(layout.matches(path) for layout in FORMATS.values() if not layout.general):
                self._data_set(path)
            else:
                self._images(_images_in(path))
        elif name.endswith(_TABLES):
            self._data_set(path, format="table")
        elif name.endswith(".txt"):
            self._images(_paths_in(path))
        elif name.endswith(".json") or path.name in ("studies.jsonl", "Descriptions.jsonl"):
            self._data_set(path)
        elif name.endswith(".jsonl"):
            self._objects(path)
        else:
            self._images([path])

    def shards(self, tars: list[Path]) -> None:
        """Shards of one folder."""
        found = read_studies(tars[0], format="shards", strict=False)
        chosen = {tar.name for tar in tars}
        self._add(study for study in found.studies if study.images[0].parent.name in chosen)
        self._note(found.errors())

    def inputs(self) -> Inputs:
        """What was gathered; of what stands twice, the first."""
        studies = self.studies
        if twice := repeated(self._hashes):
            seen: set[int] = set()
            kept = []
            for index, key in enumerate(self._hashes):
                if key not in seen:
                    kept.append(index)
                if key in twice:
                    seen.add(key)
            studies = studies.select(kept)
        return Inputs(studies, tuple(self.unreadable))

    def _add(self, studies: Iterable[Study]) -> None:
        for study in studies:
            self.studies.append(Study(study.id, study.images))
            self._hashes.append(hash((study.id, study.images)))

    def _note(self, faults: Iterable[Fault]) -> None:
        self.unreadable += faults

    def _images(self, paths: Iterable[Path]) -> None:
        self._add(Study(str(path), (path,)) for path in paths)

    def _data_set(self, path: Path, format: str | None = None) -> None:
        found = read_studies(path, format=format, strict=False, options=self._options)
        self._add(found.studies)
        self._note(found.errors())

    def _objects(self, file: Path) -> None:
        """A manifest of JSON lines; its columns are the keys of its first object."""
        collector = Collector(file.parent, "manifest")
        columns: dict[str, str] | None = None
        for where, entry in read_json_lines(file, collector):
            if columns is None:
                columns = find_columns(list(entry), self._options.columns, where=where)
            self._add(_study_of(entry, columns, where, collector))
        self._note(collector.faults)


def _study_of(
    entry: dict[str, Any], columns: dict[str, str], where: str, collector: Collector
) -> Iterator[Study]:
    """The study of one object, if it names images."""
    cell = entry.get(columns["image"])
    names = [cell] if isinstance(cell, str) else cell
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        collector.error(where, f"no image under {columns['image']!r}", "write a path, or a list of paths")
        return
    images = tuple(collector.root / name for name in names)
    identifier = entry.get(columns.get("id", ""))
    yield Study(" + ".join(map(str, images)) if identifier is None else str(identifier), images)


def _images_in(folder: Path) -> Iterator[Path]:
    """Images to the bottom of a folder, in the order of their names; hidden ones are passed over."""
    with os.scandir(folder) as entries:
        found = sorted(
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if not entry.name.startswith(".")
            and (
                entry.is_dir(follow_symlinks=False)
                or (entry.name.lower().endswith(SUFFIXES) and entry.is_file())
            )
        )
    for name, is_folder in found:
        if is_folder:
            yield from _images_in(folder / name)
        else:
            yield folder / name


def _paths_in(file: Path) -> Iterator[Path]:
    """The paths of a manifest, a line each, relative to its folder; file names need be no UTF-8."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if name := line.strip():
                yield file.parent / name
