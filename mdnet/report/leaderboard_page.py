"""The page of all runs: one sortable table for each data set and split, and the runs that are in none."""

from __future__ import annotations

import os
from pathlib import Path

from mdnet.evaluation.leaderboard import Leaderboard, Row
from mdnet.evaluation.leaderboard_columns import COLUMNS
from mdnet.files import write_text
from mdnet.report.page import render_page

__all__ = ["write_leaderboard_page"]


def write_leaderboard_page(path: Path, board: Leaderboard, *, title: str) -> Path:
    """Writes one self-contained file in one step.

    Args:
        path: The file.
        board: What it shows; runs are linked to their own pages by relative paths.
        title: The page's heading.
    """
    html = render_page(
        "leaderboard_page.html",
        script="leaderboard.js",
        title=title,
        columns=COLUMNS,
        tables=board.tables,
        links={run: _link(run, path) for table in board.tables for row in table.rows for run in row.runs},
        left_out=board.left_out,
        several=any(_several_seeds(row) for table in board.tables for row in table.rows),
    )
    return write_text(path, html)


def _several_seeds(row: Row) -> bool:
    return len(row.seeds) > 1


def _link(run: Path, page: Path) -> str | None:
    """The run's own page as seen from the leaderboard; None where it has none."""
    target = run / "index.html"
    if not target.is_file():
        return None
    return Path(os.path.relpath(target.resolve(), page.parent.resolve())).as_posix()
