"""`mdnet compare`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mdnet.evaluation.compare import Comparison

__all__ = ["compare"]

_WIDTH = 100


def compare(
    run_a: Annotated[Path, typer.Argument(help="Evaluated run folder.")],
    run_b: Annotated[Path, typer.Argument(help="Another, evaluated on the same split of the same data.")],
    json_: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Test whether two evaluated runs differ by more than noise, study by study.

    Intervals resample patients; p is McNemar's exact test or randomisation, after Holm over the metrics.

    Example: mdnet compare runs/a runs/b
    """
    from mdnet.evaluation.compare import compare_runs

    result = compare_runs(run_a, run_b)
    if json_:
        typer.echo(json.dumps(result.to_dict(), indent=2))
        return
    typer.echo(f"A: {run_a}\nB: {run_b}\n{result.split} split, {result.studies} studies\n")
    for sentence in result.sentences():
        typer.echo(textwrap.fill(sentence, _WIDTH, initial_indent="- ", subsequent_indent="  "))
    typer.echo()
    for line in difference_lines(result):
        typer.echo(line)


def difference_lines(result: Comparison) -> list[str]:
    """The differences as a table of text."""
    lines = [
        f"{'':<28}{'A':>8}{'B':>8}{'B - A':>9}{'95% interval':>19}{'p':>9}{'p, Holm':>9}  {'test':<14}studies"
    ]
    for each in result.differences:
        interval = "" if each.low is None else f"{each.low:+.3f} to {each.high:+.3f}"
        lines.append(
            f"{each.title:<28}{each.first:>8.3f}{each.second:>8.3f}{each.difference:>+9.3f}{interval:>19}"
            f"{each.p:>9.4f}{each.p_holm:>9.4f}  {each.test:<14}{each.studies:>7}"
        )
    return lines
