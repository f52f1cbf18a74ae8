"""Tables: a CSV or TSV file, maybe packed as .gz, with one row an image.

    image,report,label,patient,split
    images/a.png,"Clear lungs.",normal,17,train

Which column holds what is found by its name (`mdnet.data.readers.columns`) or said
(`ReaderOptions.columns`); what the rows mean stands in `mdnet.data.readers.rows`. Images are looked for
in the table's folder and in `images/` there. A folder may hold one table, or one a split
(`train.csv`, `valid.csv`, `test.csv`). Where no study has a split, patients are parted by a hash
(`mdnet.data.readers.validation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mdnet.data.readers.collector import Collector
from mdnet.data.readers.columns import find_columns
from mdnet.data.readers.delimited import read_delimited
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.rows import Row, add_rows
from mdnet.data.readers.validation import settle_splits, split_named
from mdnet.data.study import StudySet
from mdnet.errors import ConfigurationError

__all__ = ["matches", "read"]

_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def matches(path: Path) -> bool:
    """Whether it is a table, or a folder that holds one."""
    return _is_table(path) or bool(_tables(path))


def read(path: Path, options: ReaderOptions) -> StudySet:
    """The studies of a table, or of the tables in a folder; each row that cannot be used is a fault."""
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else _tables(path)
    splits = {file: split_named(file.name.partition(".")[0]) for file in files}
    if len(files) > 1 and None in splits.values():
        names = ", ".join(file.name for file in files)
        raise ConfigurationError(f"{root} holds {len(files)} tables ({names}): name the one to read")
    collector = Collector(root, "table")
    collector.load_dataset_file()
    rows = [row for file in files for row in _rows(file, splits[file], options, collector)]
    add_rows(rows, collector, folders=(root, root / "images"), options=options)
    settle_splits(collector, files[0])
    return collector.finish()


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(_ENDINGS) and path.is_file()


def _tables(folder: Path) -> list[Path]:
    return sorted(filter(_is_table, folder.iterdir())) if folder.is_dir() else []


def _rows(file: Path, split: str | None, options: ReaderOptions, collector: Collector) -> Iterator[Row]:
    """The rows of a file that can be read.

    Args:
        file: The table.
        split: Of all its rows, where no column names one.
        options: Names columns.
        collector: Takes the faults.
    """
    records = read_delimited(file, collector)
    if (first := next(records, None)) is None:
        return
    where, header = first
    places = _places(header, options, where, collector)
    for where, cells in records:
        found = {role: cells[place] for role, place in places.items()}
        yield Row(where, found if split is None else {"split": split} | found)


def _places(names: list[str], options: ReaderOptions, where: str, collector: Collector) -> dict[str, int]:
    """What is held, as `ReaderOptions.columns` names it, to the number of its column."""
    columns = find_columns(names, options.columns, where=where)
    for name in dict.fromkeys(columns.values()):
        if names.count(name) > 1:
            collector.error(where, f"column {name!r} stands twice", "give each column a name of its own")
    unused = [name for name in names if name and name not in columns.values()]
    if unused and not options.columns:
        problem = f"{'columns' if len(unused) > 1 else 'column'} not used: {', '.join(unused)}"
        collector.warning(where, problem, "--column ROLE=NAME uses one, as label.grade=Grade")
    return {role: names.index(name) for role, name in columns.items()}
