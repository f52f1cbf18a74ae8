"""Makes `benchmarks/README.md` of the results that lie beside it: `python benchmarks/render.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recording import RESULTS, table

README = Path(__file__).with_name("README.md")

HEAD = """# Benchmarks

One command a table; `make bench` runs those that take minutes. Every table is rendered from
`results/*.json` by `python benchmarks/render.py`: each file holds the command, the machine with its load
before the start, the versions, and single rounds where there are some. Times are medians of interleaved
rounds; read ratios, not seconds.
"""


def main() -> None:
    README.write_text(rendered(), encoding="utf-8")
    print(README)


def rendered() -> str:
    """The page, from all results in the order of their names."""
    files = sorted(RESULTS.glob("*.json"))
    return "\n".join([HEAD, *(section(json.loads(file.read_text(encoding="utf-8"))) for file in files)])


def section(result: dict[str, Any]) -> str:
    """One result: title, command, table, how to read it, where it was measured."""
    machine, versions = result["machine"], result["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    where = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, load "
        f"{machine['load_before']} before the start, Python {machine['python']}, {packages}; {result['date']}"
    )
    lines = [f"## {result['title']}", f"`{result['command']}`", "", *table(result["rows"]), ""]
    return "\n".join([*lines, result["reading"], "", f"<sub>{where}</sub>", ""])


if __name__ == "__main__":
    main()
