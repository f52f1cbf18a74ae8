"""Which block decides, class by class, as one picture: shares of the evidence, and its signed mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mdnet.explain.overview.scales import ScaleRow
from mdnet.report.figures import colour_map, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["scales_picture"]


def scales_picture(rows: Sequence[ScaleRow]) -> Figure:
    """A row for each aspect and class, a column for each block; every cell holds its number.

    Args:
        rows: From `scale_table`, at least one.
    """
    blocks = list(rows[0].shares)
    shares = np.array([[row.shares[block] for block in blocks] for row in rows])
    signed = np.array([[row.signed[block] for block in blocks] for row in rows])
    figure = new_figure(3.2 + 1.7 * len(blocks), 1.6 + 0.3 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    _table(left, 100.0 * shares, blocks, form="{:.0f}", signed=False, limit=100.0)
    _table(right, signed, blocks, form="{:+.2f}", signed=True, limit=float(np.abs(signed).max()) or 1.0)
    left.set_title("share of the absolute evidence, %", fontsize=9)
    right.set_title("mean evidence, logit", fontsize=9)
    left.set_yticks(
        range(len(rows)), [f"{row.aspect}: {row.label} ({row.studies})" for row in rows], fontsize=8
    )
    for place, (row, before) in enumerate(zip(rows[1:], rows, strict=False), start=1):
        if row.aspect != before.aspect:
            for axis in (left, right):
                axis.axhline(place - 0.5, color="black", linewidth=1.0)
    return figure


def _table(
    axis: Any,
    values: npt.NDArray[np.float64],
    blocks: Sequence[str],
    *,
    form: str,
    signed: bool,
    limit: float,
) -> None:
    colours = colour_map(signed=signed)
    low = -limit if signed else 0.0
    axis.imshow(values, cmap=colours, vmin=low, vmax=limit, aspect="auto", interpolation="nearest")
    axis.set_xticks(range(len(blocks)), blocks, fontsize=8)
    axis.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        red, green, blue = colours((value - low) / (limit - low))[:3]
        dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5
        axis.text(
            column,
            row,
            form.format(value),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else "black",
        )
