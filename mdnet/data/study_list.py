"""Studies of a set of any size, in a temporary file instead of memory.

A hundred thousand `Study` objects with their reports take a quarter of a gigabyte, and in a process
that loads data there is one such pile a worker. Here a study is 8 bytes of memory: its record lies in
a file without a name (nothing is left of it when the process ends, and no other process can open it),
and becomes a `Study` again when it is asked for, in some millionths of a second.
"""

from __future__ import annotations

import logging
import marshal
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from mdnet.data.study import Study

__all__ = ["StudyList"]

_TAIL = 1 << 20  # bytes held in memory before they go to the file; a small set has no file

_logger = logging.getLogger(__name__)


class StudyList(Sequence[Study]):
    """A sequence of studies that takes next to no memory; equal to any sequence of equal studies.

    A slice and `select` give a list of the same records. `append` is for a list that is no part of another.
    """

    def __init__(self, studies: Iterable[Study] = ()) -> None:
        self._records = _Records()
        self._chosen: array[int] | None = None
        for study in studies:
            self.append(study)

    def append(self, study: Study) -> None:
        assert self._chosen is None
        self._records.append(_packed(study))

    def select(self, indices: Iterable[int]) -> StudyList:
        """The studies at `indices`, in their order."""
        part = StudyList()
        part._records = self._records
        places = range(len(self)) if self._chosen is None else self._chosen
        part._chosen = array("q", (places[index] for index in indices))
        return part

    def __len__(self) -> int:
        return len(self._records if self._chosen is None else self._chosen)

    @overload
    def __getitem__(self, index: int) -> Study: ...
    @overload
    def __getitem__(self, index: slice) -> StudyList: ...
    def __getitem__(self, index: int | slice) -> Study | StudyList:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        place = range(len(self))[index]  # a negative index counts from the end
        return _unpacked(self._records[place if self._chosen is None else self._chosen[place]])

    def __iter__(self) -> Iterator[Study]:
        for index in range(len(self)):
            yield self[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # grows by `append`

    def __repr__(self) -> str:
        return f"StudyList({len(self)} studies)"


class _Records:
    """Bytes by number: the latest in memory, the others in the file."""

    def __init__(self) -> None:
        self._starts = array("q", (0,))  # of every record, and the end of the last
        self._tail = bytearray()
        self._filed = 0  # bytes in the file
        self._file: int | None = None
        self._most = _TAIL

    def append(self, record: bytes) -> None:
        self._tail += record
        self._starts.append(self._starts[-1] + len(record))
        if len(self._tail) > self._most:
            self._put_away()

    def _put_away(self) -> None:
        """Brings what is in memory into the file; where no file can be had, it stays in memory."""
        try:
            if self._file is None:
                with tempfile.TemporaryFile() as file:
                    self._file = os.dup(file.fileno())
                weakref.finalize(self, os.close, self._file)
            written = os.pwrite(self._file, self._tail, self._filed)
            if written < len(self._tail):
                raise OSError("no space left")
        except OSError as error:
            _logger.warning("%s: %s; the studies are held in memory", tempfile.gettempdir(), error)
            self._most *= 1 << 30
            return
        self._filed += written
        self._tail.clear()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> bytes:
        start, end = self._starts[number], self._starts[number + 1]
        if start >= self._filed:
            return bytes(self._tail[start - self._filed : end - self._filed])
        assert self._file is not None
        return os.pread(self._file, end - start, start)  # has no position that processes could share

    def __getstate__(self) -> list[bytes]:
        return [self[number] for number in range(len(self))]

    def __setstate__(self, records: list[bytes]) -> None:
        self.__init__()  # type: ignore[misc]
        for record in records:
            self.append(record)


def _packed(study: Study) -> bytes:
    """A study as bytes. `marshal` keeps tuples apart from lists and is quick; no other process reads them."""
    return marshal.dumps(
        _plain(
            (
                study.id,
                tuple(map(str, study.images)),
                study.split,
                study.patient,
                dict(study.labels),
                dict(study.report),
                {name: str(path) for name, path in study.masks.items()},
                study.source,
            )
        )
    )


def _plain(value: Any) -> Any:
    """The value, texts as `str` alone: of NumPy's `str_`, and of its numbers, `marshal` would make bytes."""
    kind = type(value)
    if kind is str or value is None:
        return value
    if kind is tuple or kind is list:
        return kind(map(_plain, value))
    if kind is dict:
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"a study holds {value!r} ({kind.__name__}); ids, labels and texts are str")


def _unpacked(record: bytes) -> Study:
    fields: tuple[Any, ...] = marshal.loads(record)
    identifier, images, split, patient, labels, report, masks, source = fields
    paths = {name: _path(path) for name, path in masks.items()} if masks else masks
    return Study(identifier, tuple(map(_path, images)), split, patient, labels, report, paths, source)


def _path(text: str) -> Path:
    """The path, put on its folder's: what takes time is to take a long one apart."""
    folder, _, name = text.rpartition("/")
    return _folder(folder) / name if folder else Path(text)


_folder = lru_cache(maxsize=1024)(Path)
