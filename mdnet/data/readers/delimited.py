"""CSV and TSV files, maybe packed as .gz, read row by row; each broken row is an error.

The file is UTF-8, with or without a byte order mark. A `.tsv` is parted by tabs; a `.csv` by commas,
semicolons (as Excel does in German) or tabs, whichever its first line has most of, or says (`sep=;`).
Quotes are read strictly, since one too many would swallow the rows up to the next.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdnet.data.readers.collector import Collector

__all__ = ["read_delimited"]

_DELIMITERS = ",;\t"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNREADABLE = "is a quote not closed, or a carriage return no line's end? nothing below is read"


def read_delimited(file: Path, collector: Collector) -> Iterator[tuple[str, list[str]]]:
    """The header, then each row that is not blank and has as many cells: file and line, and cells.

    Nothing comes of a file without a header that can be read.

    Args:
        file: Its ending says how it is parted and packed.
        collector: Takes the faults.
    """
    lines = _Lines(file)
    try:
        with lines.open():
            header, delimiter = lines.header()
            names = [
                name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True), [])
            ]
            if lines.fault is None and not any(names):
                lines.fault = "no header", "name the columns in the first line"
            if lines.fault is not None:
                collector.error(f"{file}:{lines.number}", *lines.fault)
                return
            yield f"{file}:{lines.number}", names
            lines.begin()
            for cells in csv.reader(lines, delimiter=delimiter, strict=True):
                blank = not any(cell.strip() for cell in cells)
                if lines.fault is None and not blank and len(cells) != len(names):
                    mend = "quote a cell that holds a delimiter or a line break"
                    lines.fault = f"{len(cells)} cells under {len(names)} columns", mend
                if lines.fault is not None:
                    collector.error(f"{file}:{lines.first}", *lines.fault)
                elif not blank:
                    yield f"{file}:{lines.first}", cells
                lines.begin()
    except csv.Error as error:
        collector.error(f"{file}:{lines.first}", f"broken table ({error})", _UNREADABLE)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        collector.error(
            f"{file}:{lines.number + 1}", f"broken .gz ({error})", "copy it again from its source"
        )
    except OSError as error:
        collector.error(file, f"cannot be read ({error.strerror})", "check path and permissions")


class _Lines:
    """Lines of a file as text, for `csv.reader`; knows where the row that it reads began.

    Attributes:
        number: Of the last line read, from 1.
        first: Of the row's first line.
        fault: What is wrong with the row's lines, and the mend.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.number = 0
        self.fault: tuple[str, str] | None = None
        self.begin()

    @contextmanager
    def open(self) -> Iterator[None]:
        packed = self.file.suffix.lower() == ".gz"
        with gzip.open(self.file) if packed else self.file.open("rb") as self._stream:
            yield

    def begin(self) -> None:
        """A row is done: what is read next is another."""
        self.first = self.number + 1
        self.fault = None

    def header(self) -> tuple[str, str]:
        """The line that names the columns, and the delimiter."""
        line = next(self, "")
        if said := re.fullmatch(r"sep=(.)\s*", line):
            return next(self, ""), said[1]
        names = self.file.name.lower().removesuffix(".gz")
        return line, "\t" if names.endswith(".tsv") else max(_DELIMITERS, key=line.count)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line: bytes = next(self._stream)
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            encoding = "utf-16" if line.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
            mend = f"save the file as UTF-8: iconv -f {encoding} -t utf-8 FILE > NEW, if it is {encoding}"
            self.fault = f"byte {error.start} of line {self.number} is not UTF-8", mend
            return line.decode("utf-8", "replace")
        if "\0" in text:
            self.fault = f"a NUL byte in line {self.number}", "copy the file again from its source"
        return text
