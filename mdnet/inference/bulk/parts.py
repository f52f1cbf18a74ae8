"""What a run has written so far, batch by batch, so that it can be killed at any moment and go on.

Every process has a part of its own: a file to which it appends the text of a batch, and one of progress, to
which it then appends a line: the batch, where its text stands, its CRC-32, and the studies of it that could
not be read. A batch counts as written when its line of progress is whole and the text is what the line says.
So a kill costs the batches that were being computed and no more: what stands behind the last whole batch of a
part is cut off before the part is written on, and nothing stands twice.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from mdnet.data.study import Fault
from mdnet.files import write_bytes

__all__ = ["Part", "PartWriter", "Place", "find_written"]


class Place(NamedTuple):
    """Where the text of a batch stands."""

    file: Path
    start: int
    end: int
    crc: int
    findings: int
    unreadable: tuple[Fault, ...]

    def read(self) -> bytes:
        """The text."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.end - self.start)

    def is_whole(self) -> bool:
        """Whether the text is as it was written."""
        return self.end <= self.file.stat().st_size and zlib.crc32(self.read()) == self.crc


class Part(NamedTuple):
    """The files of one process."""

    text: Path
    progress: Path

    def lines(self) -> Iterator[tuple[bytes, int, Place]]:
        """The batches that are written, in the order in which they were: line of progress, number, place."""
        if not (self.text.is_file() and self.progress.is_file()):
            return
        with self.progress.open("rb") as lines:
            for line in lines:
                try:
                    record = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:  # of a machine that went down
                    record = None
                if record is None:
                    return
                number = record.pop("batch")
                unreadable = tuple(Fault(**each) for each in record.pop("unreadable"))
                place = Place(self.text, **record, unreadable=unreadable)
                if place.is_whole():
                    yield line, number, place


class PartWriter:
    """Appends batches to a part.

    Attributes:
        part: The part, which may hold batches; what is behind them is cut off.

    Raises:
        OSError: The disk is full; the batches before are whole.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        lines, self._end = b"", 0
        for line, _, place in part.lines():
            lines, self._end = lines + line, max(self._end, place.end)
        if part.progress.exists() and part.progress.read_bytes() != lines:
            write_bytes(part.progress, lines)  # without what is torn
        self._noted = len(lines)
        self._text = _opened(part.text, self._end)
        self._progress = _opened(part.progress, self._noted)

    def write(self, number: int, text: str, *, findings: int, unreadable: Sequence[Fault]) -> None:
        """Appends a batch."""
        content = text.encode("utf-8", errors="replace")  # file names may hold bytes that are no UTF-8
        _write(self._text, content, self._end, self.part.text)
        place = Place(
            self.part.text,
            self._end,
            self._end + len(content),
            zlib.crc32(content),
            findings,
            tuple(unreadable),
        )
        record = place._asdict() | {"unreadable": [asdict(each) for each in place.unreadable]}
        del record["file"]
        line = json.dumps({"batch": number, **record}).encode() + b"\n"
        _write(self._progress, line, self._noted, self.part.progress)
        self._end, self._noted = place.end, self._noted + len(line)

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._text.close()
        self._progress.close()


def find_written(parts: Sequence[Part]) -> dict[int, Place]:
    """All batches that are written, by number."""
    return {number: place for part in parts for _, number, place in part.lines()}


def _opened(file: Path, size: int) -> BinaryIO:
    """The file without what is behind its first bytes, to be written on."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    os.ftruncate(descriptor, size)
    return os.fdopen(descriptor, "r+b", buffering=0)


def _write(file: BinaryIO, content: bytes, end: int, path: Path) -> None:
    """Writes all of it at the end, or nothing."""
    try:
        file.seek(end)
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[file.write(remaining) :]
    except OSError as error:
        file.truncate(end)
        problem = f"{error.strerror}; what was written is kept: free some space and add --resume auto"
        raise OSError(error.errno or errno.EIO, problem, str(path)) from error
