"""Rows of a published CSV file of which the columns are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mdnet.data.readers.collector import Collector
from mdnet.data.readers.delimited import read_delimited

__all__ = ["read_rows"]


def read_rows(
    file: Path, columns: Sequence[str], collector: Collector
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row's file and line, and its cells of `columns`; other columns are passed over.

    A column that is not there is an error, and nothing comes of the file; for what else is one see
    `read_delimited`.

    Args:
        file: `.csv` or `.csv.gz`.
        columns: Those that are needed.
        collector: Takes the faults.
    """
    rows = read_delimited(file, collector)
    where, header = next(rows, (f"{file}:1", None))
    if header is None:
        return
    absent = [column for column in columns if column not in header]
    if absent or len(set(header)) < len(header):
        problem = f"no column {absent[0]!r}" if absent else "a column's name stands twice"
        collector.error(where, problem, f"the first line names {', '.join(columns)}")
        return
    places = {column: header.index(column) for column in columns}
    for where, cells in rows:
        yield where, {column: cells[place] for column, place in places.items()}
