"""Files of JSON lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import Collector

__all__ = ["read_json_lines"]


def read_json_lines(file: Path, collector: Collector) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object with its file and line; a line that holds none is an error. Blank lines are passed over."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}:{number}"
            entry = _entry(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, where, collector)
            if entry is not None:
                yield where, entry


def _entry(line: bytes, where: str, collector: Collector) -> dict[str, Any] | None:
    """The object on one line; None for a blank line, and after noting an error."""
    if not line.strip():
        return None
    try:
        entry = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        collector.error(where, f"byte {error.start} of the line is not UTF-8", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        collector.error(where, f"broken JSON ({error.msg})", f"mend column {error.colno} of this line")
    except RecursionError:
        collector.error(where, "JSON nested too deeply", "write the study as docs/data.md says")
    else:
        if isinstance(entry, dict):
            return entry
        collector.error(where, "not an object", 'write {"id": ..., "images": [...]}')
    return None
