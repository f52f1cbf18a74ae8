"""The history of a run, a row an epoch: `history.csv` to read on, `history.png` to look at."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mdnet.files import write_text
from mdnet.report.figures import save_figure
from mdnet.report.history_picture import history_picture

__all__ = ["Row", "draw_history", "write_history"]

Row = dict[str, float]


def write_history(path: Path, rows: Sequence[Row]) -> Path:
    """Writes the rows as CSV in one step, columns in order of first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write_text(path, text.getvalue())


def draw_history(path: Path, rows: Sequence[Row], *, best: int | None = None) -> Path | None:
    """Draws the rows as one PNG, in one step.

    Args:
        path: The file.
        rows: One an epoch.
        best: Place in them of the best epoch, to be marked.

    Returns:
        None, and no file is written, where no row has a number to draw.
    """
    figure = history_picture(rows, best=best)
    return None if figure is None else save_figure(figure, path)
