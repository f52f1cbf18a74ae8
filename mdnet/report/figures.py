"""What matplotlib pictures share: a figure without global state, our colour maps, a whole file or none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from mdnet.files import write_bytes
from mdnet.report.colour_maps import diverging, sequential

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

__all__ = ["INK", "colour_map", "new_figure", "save_figure"]

INK = ("#0072b2", "#d55e00", "#555555")  # blue, orange (Okabe & Ito, for colour-blind readers), grey
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches; pyplot, which keeps every figure alive, is not touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=_DPI)


def colour_map(*, signed: bool) -> ListedColormap:
    """The diverging map for values of both signs, the sequential one for others."""
    from matplotlib.colors import ListedColormap

    return ListedColormap((diverging() if signed else sequential()) / 255.0)


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a PNG in one step."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_bytes(path, buffer.getvalue())
