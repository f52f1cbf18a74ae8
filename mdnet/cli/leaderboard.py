"""`mdnet leaderboard`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["leaderboard"]


def leaderboard(
    runs: Annotated[Path, typer.Argument(help="Folder with run folders below it.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into; the folder of the runs unless named.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
) -> None:
    """Set all evaluated runs of a folder side by side: leaderboard.html and leaderboard.csv.

    Runs on other data or another split stand in a table of their own; runs that differ in the seed only
    are one row, mean and spread.

    Example: mdnet leaderboard runs --out pages
    """
    from mdnet.evaluation.leaderboard import leaderboard as look_over
    from mdnet.evaluation.leaderboard import to_csv
    from mdnet.files import write_text
    from mdnet.report.leaderboard_page import write_leaderboard_page

    board = look_over(runs)
    folder = out or runs
    page = write_leaderboard_page(folder / "leaderboard.html", board, title=f"Runs in {runs}")
    table = write_text(folder / "leaderboard.csv", to_csv(board))
    if json_:
        typer.echo(json.dumps(asdict(board), indent=2, default=str))
        return
    for each in board.tables:
        typer.echo(f"{each.split} split of {each.data}, {each.studies} studies, {len(each.rows)} rows")
        for sentence in each.sentences:
            typer.echo(f"- {sentence}")
    for run, reason in board.left_out:
        typer.echo(f"left out: {run}: {reason}")
    typer.echo(f"{page}\n{table}")
