"""The history of a run as small multiples: one panel a question, all over the same epochs.

Drawn after every epoch, so it must read well with one row as with a hundred. What a run does not
measure has no panel. Colours are Okabe and Ito's, for colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mdnet.report.figures import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["history_picture"]

_WIDTH, _HEIGHT = 9.0, 1.95  # inches, of the picture and of a row of panels
_COLUMNS = 3
_LEFT, _RIGHT, _ABOVE, _BELOW = 0.5, 0.05, 0.48, 0.25  # inches around a panel: numbers; title and legend
_COLOURS = (INK[0], INK[1], "#009e73", INK[2])
_FAINT = "#e4e4e4"
_MARKED = 30  # epochs up to which each has a dot

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Panel:
    """One panel.

    Attributes:
        title: What it shows.
        lines: Name to a value an epoch; NaN is a gap.
        share: Whether the values are shares: the axis then reaches 1.
        logarithmic: Whether the axis is where the lines span a decade; what is not positive is a gap.
    """

    title: str
    lines: Mapping[str, Numbers]
    share: bool = False
    logarithmic: bool = False


def history_picture(rows: Sequence[Mapping[str, float]], *, best: int | None = None) -> Figure | None:
    """Losses, validation, learning rate, gradient norm and what else the rows hold, over epochs.

    Args:
        rows: Of `history.csv`, one an epoch.
        best: Place in them of the best epoch, which a dotted line marks.

    Returns:
        None where there is nothing to draw.
    """
    panels = [panel for panel in _panels(rows) if panel.lines]
    if not panels:
        return None
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    width, height = _WIDTH * columns / _COLUMNS, _HEIGHT * lines + _BELOW
    figure = new_figure(width, height)
    # Fixed margins: to fit them to what is drawn takes as long as the drawing, after every epoch.
    figure.set_layout_engine("none")
    margins = {
        "left": _LEFT / width,
        "right": 1.0 - _RIGHT / width,
        "bottom": 2 * _BELOW / height,
        "top": 1.0 - _ABOVE / height,
        "wspace": (_LEFT + _RIGHT) / (_WIDTH / _COLUMNS - _LEFT - _RIGHT),
        "hspace": (_ABOVE + _BELOW) / (_HEIGHT - _ABOVE - _BELOW),
    }
    axes = np.atleast_1d(figure.subplots(lines, columns, gridspec_kw=margins)).ravel()
    epochs = np.array([row.get("epoch", place + 1) for place, row in enumerate(rows)], dtype=float)
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, epochs)
        if best is not None:
            axis.axvline(epochs[best], color=INK[2], linewidth=0.8, linestyle=":", zorder=0)
    for axis in axes[len(panels) :]:
        axis.remove()
    label = "epoch" if best is None else f"epoch (best: {epochs[best]:.0f})"
    for place in range(max(0, len(panels) - columns), len(panels)):  # the lowest panel of every column
        axes[place].set_xlabel(label, fontsize=8, color=INK[2])
    return figure


def _panels(rows: Sequence[Mapping[str, float]]) -> list[_Panel]:
    """Every panel, in reading order; one without lines is not drawn."""
    column = _columns(rows)
    losses = {
        name.removeprefix("train_").removesuffix("_loss"): values
        for name, values in column.items()
        if name.startswith("train_") and name.endswith("_loss")
    }
    if len(losses) > 1:
        apart = np.array(list(losses.values()))  # one rests where the schedule has it rest
        losses["joint"] = np.where(np.isnan(apart).all(axis=0), np.nan, np.nansum(apart, axis=0))
    pointing = {
        kind: np.mean([column[name] for name in chosen], axis=0)
        for kind in ("evidence", "attention")
        if (chosen := [name for name in column if name.endswith(f"_{kind}_pointing")])
    }
    rates = {
        name.removeprefix("learning_rate").strip("_") or "all parts": values
        for name, values in column.items()
        if name.startswith("learning_rate")
    }

    def named(**names: str) -> dict[str, Numbers]:
        return {text: column[name] for name, text in names.items() if name in column}

    return [
        _Panel("Training loss", losses),
        _Panel(
            "Diagnosis: accuracy",
            named(
                train_diagnosis_accuracy="training",
                val_diagnosis_accuracy="validation",
                val_score="score",
            ),
            share=True,
        ),
        _Panel(
            "Validation, as shares",
            named(
                val_mean_aspect_accuracy="aspects",
                val_statements_true="statements",
                val_bleu_4="BLEU-4",
                val_distinct_share="distinct",
            ),
            share=True,
        ),
        _Panel("Validation: CIDEr", named(val_cider="generated freely")),
        _Panel("Pointing game, mean of aspects", pointing, share=True),
        _Panel(
            "Health, as shares",
            named(dead_units="dead units", attention_entropy="attention entropy"),
            share=True,
        ),
        _Panel("Learning rate, end of epoch", _merged(rates)),
        _Panel(
            "Gradient norm",
            named(gradient_norm="mean", gradient_norm_max="greatest"),
            logarithmic=True,
        ),
        _Panel("Images a second", named(images_per_second="training")),
    ]


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Numbers]:
    """Column to a value a row; missing and non-finite ones are NaN, a column of nothing else is left out."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = {}
    for name in names:
        values = np.array([float(row.get(name, np.nan)) for row in rows])
        values[~np.isfinite(values)] = np.nan
        if not np.isnan(values).all():
            found[name] = values
    return found


def _merged(lines: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Lines that lie on one another as one, under all their names."""
    merged: dict[str, Numbers] = {}
    for name, values in lines.items():
        same = next(
            (other for other in merged if np.array_equal(merged[other], values, equal_nan=True)), None
        )
        merged[name if same is None else f"{same}, {name}"] = values if same is None else merged.pop(same)
    return merged


def _draw(axis: Axes, panel: _Panel, epochs: Numbers) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    lines = panel.lines
    if panel.logarithmic:
        lines = {name: np.where(values > 0, values, np.nan) for name, values in lines.items()}
    numbers = np.concatenate(list(lines.values()))
    numbers = numbers[np.isfinite(numbers)]
    mark: dict[str, Any] = {"marker": "o", "markersize": 2.5} if len(epochs) <= _MARKED else {}
    for (name, values), colour in zip(lines.items(), _COLOURS, strict=False):
        axis.plot(epochs, values, color=colour, linewidth=1.4, label=name, **mark)
    axis.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if panel.logarithmic and numbers.size and numbers.max() >= 10 * numbers.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axis.yaxis.set_minor_locator(NullLocator())
    elif panel.share:
        axis.set_ylim(0.0, 1.03 * max(1.0, numbers.max()))  # the line at 1 is not cut
    else:
        axis.set_ylim(bottom=0.0)
    # Without a factor common to all numbers, which would stand where the legend is.
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.tick_params(labelsize=7.5, colors="#333333", length=2)
    axis.grid(axis="y", color=_FAINT, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#aaaaaa")
    axis.set_title(panel.title, loc="left", fontsize=9, pad=15).set_in_layout(False)
    axis.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=len(_COLOURS),
        fontsize=7.5,
        frameon=False,
        handlelength=0.8,
        columnspacing=0.7,
        handletextpad=0.3,
        borderaxespad=0.0,
    ).set_in_layout(False)  # else a wide one pushes the columns apart
