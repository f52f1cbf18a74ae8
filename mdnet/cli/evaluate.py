"""`mdnet evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, typer.Option(help="Run folder, as `mdnet train --out` made it.")],
    split: Annotated[str, typer.Option(help="Split to score on.")] = "test",
    data: Annotated[Path | None, typer.Option(help="Another data set than the run's own.")] = None,
    format: Annotated[str | None, typer.Option(help="Reader of that data.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Score a run: metrics.json, predictions.jsonl and index.html in its folder.

    Example: mdnet evaluate --run runs/x --split test
    """
    from mdnet.report.digest import digest
    from mdnet.training.evaluate_run import evaluate_run

    result = evaluate_run(run, split=split, data=data, format=format)
    if json_:
        typer.echo(json.dumps(result.metrics, indent=2))
        return
    for line in table_lines(digest(result.metrics)):
        typer.echo(line)
    for file in ("model", "metrics.json", "predictions.jsonl", "index.html"):
        typer.echo(str(run / file))


def table_lines(tables: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Tables as lines of text, a heading with its columns above the rows."""
    lines = []
    for heading, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        lines.append(f"{heading:<28}" + "".join(f"  {column:>12}" for column in columns))
        for name, row in rows.items():
            cells = (f"{row[c]:.3f}" if c in row else "" for c in columns)
            numbers = "".join(f"  {cell:>{max(12, len(c))}}" for cell, c in zip(cells, columns, strict=True))
            lines.append(f"  {name:<26}{numbers}")
        lines.append("")
    return lines
