"""Explanations as one PNG: the picture, then every map over it with a colour bar in its own unit."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mdnet.errors import ConfigurationError
from mdnet.explain.explanation import Explanation
from mdnet.report.figures import colour_map, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save_picture"]

_COLUMNS = 4
_SIDE = 2.6  # inches a panel
_OPACITY = 0.65
_LETTERS = 40  # of a line below a panel


def save_picture(explanations: Sequence[Explanation], path: Path) -> Path:
    """Draws explanations of one picture side by side.

    Args:
        explanations: At least one; the first one's image stands at the front.
        path: The PNG file.

    Raises:
        ConfigurationError: There is none.
    """
    if not explanations:
        raise ConfigurationError("nothing to draw: give at least one explanation")
    panels = 1 + len(explanations)
    columns = min(panels, _COLUMNS)
    rows = math.ceil(panels / columns)
    height, width = explanations[0].image.shape[:2]
    tall = _SIDE * min(height / width, 1.0)  # a strip of views needs no square
    figure = new_figure(_SIDE * columns, (tall + 1.1) * rows)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(explanations[0].image)
    axes[0].set_title(Path(explanations[0].source).name or "image", fontsize=8)
    for axis, explanation in zip(axes[1:], explanations, strict=False):
        _draw(figure, axis, explanation)
    return save_figure(figure, path)


def _draw(figure: Figure, axis: Axes, explanation: Explanation) -> None:
    from matplotlib.ticker import ScalarFormatter

    heat = explanation.map
    signed = explanation.signed
    limit = float(np.abs(heat).max()) or 1.0  # a map of zeros is drawn as zeros
    height, width = explanation.image.shape[:2]
    grey = explanation.image.mean(axis=2)
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    drawn = axis.imshow(
        heat,
        cmap=colour_map(signed=signed),
        vmin=-limit if signed else 0.0,
        vmax=limit,
        alpha=_OPACITY,
        extent=(0, width, height, 0),
        interpolation="nearest",
    )
    axis.set_title(f"{explanation.method}\n{explanation.target}", fontsize=8)
    numbers = ScalarFormatter()
    numbers.set_powerlimits((-3, 4))
    bar = figure.colorbar(drawn, ax=axis, orientation="horizontal", shrink=0.9, pad=0.02, format=numbers)
    unit = f"{explanation.unit}, per cell of {heat.shape[0]} × {heat.shape[1]}"
    bar.set_label(textwrap.fill(unit, _LETTERS), fontsize=7)
    bar.ax.tick_params(labelsize=6)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.ax.xaxis.get_offset_text().set_fontsize(6)
