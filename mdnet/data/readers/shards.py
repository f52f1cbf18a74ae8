"""Tar shards: those of `mdnet.data.shards`, and any that the webdataset library reads.

Without an index (`shards.jsonl`, `shards.npy`) all shards are read once and one is written beside them. A
study's split is that of its record, else the one that its shard is named after.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import DATASET_FILE, Collector
from mdnet.data.readers.json_lines import read_json_lines
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.studies import add_entry
from mdnet.data.shard_index import INDEX_FILE, RECORDS_FILE
from mdnet.data.study import StudySet
from mdnet.errors import DataError

__all__ = ["matches", "read"]


def matches(root: Path) -> bool:
    """Whether the folder holds tars, and beside them nothing that could be another layout."""
    beside = (DATASET_FILE, RECORDS_FILE, INDEX_FILE)
    found = [each for each in os.scandir(root) if each.name not in beside and not each.name.startswith(".")]
    tars = [each for each in found if each.name.endswith(".tar")]
    return bool(tars) and all(each in tars or each.name.endswith((".md", ".txt")) for each in found)


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`; each record that cannot be used is a fault."""
    from mdnet.data.shards import index_shards, records_fault  # decodes images: not needed to look

    collector = _Collector(root, "shards")
    collector.load_dataset_file()
    records = root / RECORDS_FILE
    try:
        if not (records.is_file() and (root / INDEX_FILE).is_file()):
            index_shards(root)
    except DataError as error:
        collector.error(error.where, error.problem, error.mend)
        return collector.finish()
    if (problem := records_fault(root)) is not None:
        collector.error(records, problem, f"delete it and {INDEX_FILE}: they are made anew from the shards")
        return collector.finish()
    for where, entry in read_json_lines(records, collector):
        if "digest" not in entry:  # the last line
            add_entry(entry, where, collector)
    return collector.finish()


class _Collector(Collector):
    """Takes the index at its word about the members of shards, so that a large set is read quickly."""

    def images(self, value: Any, where: str, folders: tuple[Path, ...]) -> tuple[Path, ...]:
        if not value:
            return super().images(value, where, folders)
        return tuple(self.root / name for name in value)

    def masks(self, value: Any, where: str) -> dict[str, Path]:
        return {name: self.root / path for name, path in (value or {}).items()}
