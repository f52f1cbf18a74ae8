"""The files of a feature store: rows of numbers that are only ever appended to.

    card.json           what the numbers are and of which weights, and the folder they are in
    rows-0/             grids.float16 (N, P, D), pooled.float32 (N, D), logits.float32 (N, K): rows one
                        after the other, no header; sources.jsonl, a line a row

A row counts once its line stands in `sources.jsonl`, which is written last; what a killed process left
behind it is cut off by the next writer. Rows that go are left out of a copy, `rows-1`, that takes the place
of the old ones when `card.json` names it. So those who read need no lock: what they have mapped into memory
never changes.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdnet.errors import ConfigurationError, DataError
from mdnet.files import naming_full_disk, write_text

__all__ = ["Card", "Kept", "StoreFiles"]

_CARD, _SOURCES = "card.json", "sources.jsonl"
_FORMAT = 1
_ROWS_AT_ONCE = 256  # copied

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Card:
    """What the numbers of a store are.

    Attributes:
        weights: Hash of the image module and the heads that computed them.
        preprocessing: Hash of what was done with an image before.
        model: Name of the weights, for people.
        version: The mdnet version that computed them.
        rows: Of the grid of C(I).
        columns: Likewise, those of all views together.
        views: How many images a study may have.
        channels: D.
        classes: K, of all aspects together.
    """

    weights: str
    preprocessing: str
    model: str
    version: str
    rows: int
    columns: int
    views: int
    channels: int
    classes: int

    def shapes(self) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]:
        """Of a row in every file, by the file's name."""
        return {
            "grids.float16": (np.dtype("<f2"), (self.rows * self.columns, self.channels)),
            "pooled.float32": (np.dtype("<f4"), (self.channels,)),
            "logits.float32": (np.dtype("<f4"), (self.classes,)),
        }


@dataclass(frozen=True)
class Kept:
    """A study whose features are kept: its name, and path, size and modification time (ns) of its images."""

    source: str
    images: tuple[tuple[str, int, int], ...]


class StoreFiles:
    """The rows that are there.

    Attributes:
        card: What they are.
        kept: A study a row.

    Args:
        folder: Of the store.

    Raises:
        ConfigurationError: There is no store in the folder.
        DataError: It is damaged, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        if not self.are_in(folder):
            raise ConfigurationError(
                f"{folder}: no feature store; name a folder that `mdnet retrieve` has kept features in"
            )
        self.folder = folder
        try:
            self.card, self.rows_folder = _read_card(folder)
            self.kept = list(_read_sources(self.rows_folder / _SOURCES))
            sizes = [
                (self.rows_folder / name).stat().st_size // (dtype.itemsize * int(np.prod(shape)))
                for name, (dtype, shape) in self.card.shapes().items()
                if np.prod(shape)
            ]
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            mend = "name another folder, or remove this one to have it made anew"
            raise DataError(folder, f"a feature store that cannot be read ({error})", mend) from error
        del self.kept[min(sizes) :]  # lines that a power cut let come before their rows

    @staticmethod
    def are_in(folder: Path) -> bool:
        """Whether a folder holds a store, by its card: other things have a `card.json`, too."""
        try:
            record = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False
        return isinstance(record, dict) and {"format", "folder", "card"} <= record.keys()

    @classmethod
    def create(cls, folder: Path, card: Card) -> StoreFiles:
        """A store of no row.

        Raises:
            ConfigurationError: The folder holds something else.
        """
        own = {"rows-0", *card.shapes(), _SOURCES}  # of a process that was killed before it wrote the card
        if any(each.name not in own and not each.name.endswith(".partial") for each in folder.rglob("*")):
            raise ConfigurationError(
                f"{folder}: holds other files than features; name a new folder, or an empty one"
            )
        _new_rows(folder / "rows-0", card)
        _name_rows(folder, card, folder / "rows-0")
        return cls(folder)

    def array(self, name: str) -> npt.NDArray[np.generic]:
        """One file, mapped into memory to be read: (N, ...)."""
        dtype, shape = self.card.shapes()[name]
        if not self.kept or not np.prod(shape):  # nothing cannot be mapped
            return np.zeros((len(self.kept), *shape), dtype)
        return np.memmap(self.rows_folder / name, dtype, mode="r", shape=(len(self.kept), *shape))

    def append(self, kept: Sequence[Kept], arrays: Arrays) -> None:
        """Adds rows: file name to (n, ...)."""
        for name, (dtype, _) in self.card.shapes().items():
            with (self.rows_folder / name).open("ab") as file:
                file.write(np.ascontiguousarray(arrays[name], dtype).data)
                file.flush()
                os.fsync(file.fileno())
        with (self.rows_folder / _SOURCES).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(each)) + "\n" for each in kept)
            file.flush()
            os.fsync(file.fileno())
        self.kept += kept

    def keep(self, rows: npt.NDArray[np.int64]) -> None:
        """Goes on with these rows alone, in their order; removes what a killed process has left behind."""
        for folder in self.folder.glob("rows-*"):
            if folder != self.rows_folder:
                shutil.rmtree(folder, ignore_errors=True)
        if len(rows) == len(self.kept):
            self._cut_off()
            return
        old, number = self.rows_folder, int(self.rows_folder.name.rpartition("-")[2]) + 1
        new = self.folder / f"rows-{number}"
        _new_rows(new, self.card)
        for name in self.card.shapes():
            array = self.array(name)
            with (new / name).open("wb") as file:
                for start in range(0, len(rows), _ROWS_AT_ONCE):
                    file.write(np.ascontiguousarray(array[rows[start : start + _ROWS_AT_ONCE]]).data)
                file.flush()
                os.fsync(file.fileno())
        self.kept = [self.kept[row] for row in rows.tolist()]
        lines = (json.dumps(asdict(each)) + "\n" for each in self.kept)
        write_text(new / _SOURCES, "".join(lines))
        _name_rows(self.folder, self.card, new)
        self.rows_folder = new
        shutil.rmtree(old, ignore_errors=True)

    def _cut_off(self) -> None:
        """Cuts off what a killed process has written behind the last whole row."""
        for name, (dtype, shape) in self.card.shapes().items():
            os.truncate(self.rows_folder / name, len(self.kept) * dtype.itemsize * int(np.prod(shape)))
        lines = (json.dumps(asdict(each)) + "\n" for each in self.kept)
        write_text(self.rows_folder / _SOURCES, "".join(lines))

    @staticmethod
    @contextmanager
    def writing(folder: Path) -> Iterator[None]:
        """A context in which no other process writes to the store.

        Raises:
            ConfigurationError: Another one does.
            OSError: The disk is full; the rows that were there stay.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with naming_full_disk(folder):
            if sys.platform == "win32":
                yield
                return
            import fcntl

            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
            except BlockingIOError as error:
                raise ConfigurationError(
                    f"{folder}: another process is adding features to it; wait for it, or name another folder"
                ) from error
            finally:
                os.close(lock)


def _new_rows(folder: Path, card: Card) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed before it was named
    folder.mkdir(parents=True)
    for name in (*card.shapes(), _SOURCES):
        (folder / name).touch()


def _name_rows(folder: Path, card: Card, rows: Path) -> None:
    record = {"format": _FORMAT, "folder": rows.name, "card": asdict(card)}
    write_text(folder / _CARD, json.dumps(record, indent=1) + "\n")


def _read_card(folder: Path) -> tuple[Card, Path]:
    """The card, and the folder of the rows.

    Raises:
        ValueError: They are of another format.
        TypeError: The card lacks something.
    """
    record = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    if record["format"] != _FORMAT:
        raise ValueError(f"format {record['format']}, not {_FORMAT}")
    return Card(**record["card"]), folder / record["folder"]


def _read_sources(file: Path) -> Iterator[Kept]:
    """The whole lines; the last one may be broken off."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                record = json.loads(line)
                yield Kept(record["source"], tuple((p, s, t) for p, s, t in record["images"]))
