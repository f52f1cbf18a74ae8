"""One way to keep what a benchmark measured: a JSON file with all that its numbers depend on.

`record` writes `benchmarks/results/NAME.json`: the table, the command, the machine, the load before it
began, and the versions. `render.py` makes `benchmarks/README.md` of these files, so that no number there was
typed by hand.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LOAD_BEFORE = os.getloadavg()  # taken when the benchmark is loaded, before it makes load itself
PACKAGES = ("mdnet", "torch", "torchvision", "transformers", "numpy")


def record(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    reading: str,
    peers: Sequence[str] = (),
    details: Mapping[str, Any] | None = None,
) -> None:
    """Writes a table and prints it.

    Args:
        name: Name of the file.
        rows: Column to value, the same columns in every row; the first column names the row.
        title: What was measured.
        reading: How to read it, in a sentence or two: what is better, what was asked for.
        peers: Packages measured beside ours, for their versions.
        details: Everything else worth keeping, such as single rounds.
    """
    result = {
        "title": title,
        "reading": reading,
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {package: version(package) for package in (*PACKAGES, *peers)},
        "rows": [dict(row) for row in rows],
        "details": dict(details or {}),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, the load of one minute before the start, and Python's version."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_before": round(LOAD_BEFORE[0], 2),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name, as Linux gives it, else as Python does."""
    file = Path("/proc/cpuinfo")
    if file.is_file():
        names = [line.partition(":")[2] for line in file.read_text().splitlines() if "model name" in line]
        if names:
            return names[0].strip()
    return platform.processor() or platform.machine()


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as lines of a Markdown table."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(cell(row[column]) for column in columns) + " |" for row in rows]


def cell(value: Any) -> str:
    """A value as a table shows it: three figures of a number, nothing for what is not there."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
