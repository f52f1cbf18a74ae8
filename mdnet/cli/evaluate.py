"""`mdnet evaluate`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdnet.cli.options import Columns, Format, Uncertain, reader_options
from mdnet.errors import ConfigurationError

if TYPE_CHECKING:
    from mdnet.evaluation.evaluate import Evaluation
    from mdnet.report.digest import DigestTable

__all__ = ["evaluate"]

_WIDTH = 100
_COLUMN = 14  # characters: as wide as an interval


def evaluate(
    run: Annotated[Path | None, typer.Option(help="Run folder, as `mdnet train --out` made it.")] = None,
    split: Annotated[str, typer.Option(help="Split to score on.")] = "test",
    data: Annotated[Path | None, typer.Option(help="Another data set than the run's own.")] = None,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Score this file of another system's answers; needs --data, no run.")
    ] = None,
    abstain_below: Annotated[
        float | None, typer.Option(help="Also score only the answers of at least this probability.")
    ] = None,
    ood: Annotated[
        Path | None,
        typer.Option(help="Also tell the images in this folder, of another kind, from the split's."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and index.html of --predictions.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Score a run: metrics.json, predictions.jsonl and index.html in its folder.

    With --predictions, score a file of JSON lines with `id`, `report` and maybe `labels` and
    `probabilities`, by the same metrics.

    Example: mdnet evaluate --run runs/x --split test
    """
    from mdnet.evaluation.run import evaluate_file, evaluate_run
    from mdnet.report.digest import digest

    if (run is None) == (predictions is None):
        raise ConfigurationError("name either a run folder with --run or a file with --predictions")
    if abstain_below is not None and not 0 <= abstain_below <= 1:
        raise ConfigurationError(f"--abstain-below {abstain_below}: a probability lies between 0 and 1")
    if data is None and (column or uncertain):
        raise ConfigurationError("--column and --uncertain say how to read other data: add --data")
    options = reader_options(column, uncertain)
    if run is not None and out is not None:
        raise ConfigurationError("--out is for --predictions: a run's page is written into its own folder")
    result: Evaluation
    if run is not None:
        result = evaluate_run(
            run,
            split=split,
            data=data,
            format=format,
            options=options,
            abstain_below=abstain_below,
            ood=ood,
        )
    else:
        if data is None or predictions is None:
            raise ConfigurationError("--predictions needs the data that they are of: add --data")
        if ood is not None:
            raise ConfigurationError("--ood needs a model: name a run with --run")
        result = evaluate_file(
            predictions,
            data,
            split=split,
            format=format,
            options=options,
            abstain_below=abstain_below,
            out=out,
        )
    if json_:
        typer.echo(json.dumps(result.metrics, indent=2))
        return
    for sentence in result.metrics["verdict"]:
        typer.echo(textwrap.fill(sentence, _WIDTH, initial_indent="- ", subsequent_indent="  "))
    typer.echo()
    for line in table_lines(digest(result.metrics)):
        typer.echo(line)
    if run is not None:
        for file in ("model", "metrics.json", "predictions.jsonl", "index.html"):
            typer.echo(str(run / file))
    elif out is not None:
        for file in ("metrics.json", "index.html"):
            typer.echo(str(out / file))


def table_lines(tables: Sequence[DigestTable]) -> list[str]:
    """Tables as lines of text, a heading with its columns above the rows, intervals under their numbers."""
    lines = []
    for table in tables:
        widths = {column: max(_COLUMN, len(column)) for column in table.columns}
        lines.append(f"{table.heading:<28}" + "".join(f"  {column:>{w}}" for column, w in widths.items()))
        for name, row in table.rows.items():
            numbers = {column: cell.number for column, cell in row.items()}
            intervals = {column: cell.interval for column, cell in row.items()}
            lines.append(table_line(name, numbers, widths))
            if any(intervals.values()):
                lines.append(table_line("  95%", intervals, widths))
        lines.append("")
    return lines


def table_line(name: str, cells: Mapping[str, str], widths: Mapping[str, int]) -> str:
    """One row, its cells under their columns."""
    numbers = "".join(f"  {cells.get(column, ''):>{width}}" for column, width in widths.items())
    return f"  {name:<26}{numbers}".rstrip()
