"""Pictures of what goes on inside: an image made to excite a unit, and gradients layer by layer."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mdnet.report.figures import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mdnet.explain.gradient_flow import GradientFlow
    from mdnet.explain.maximisation import Maximisation

__all__ = ["gradient_picture", "maximisation_picture"]

_LOSSES = {"classification": "L_M (classification)", "language": "L_L (language, per word)"}


def maximisation_picture(
    result: Maximisation, best: npt.NDArray[np.uint8], *, best_name: str, unit: str
) -> Figure:
    """The image found, the best real one, how the score rose, and where both stand among the sample.

    Args:
        result: From `maximise`.
        best: (H, W, 3) uint8, the image of the sample that scores highest.
        best_name: Its study.
        unit: Of the score.
    """
    figure = new_figure(11.0, 3.4)
    made, real, rise, place = figure.subplots(1, 4, width_ratios=[3, 3, 3.4, 3.4])
    highest, mean = float(result.sample.max()), float(result.sample.mean())
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if result.image.shape[2] == 1 else {}
    made.imshow(result.image.squeeze(), **grey)
    made.set_title(f"made: {result.activation:.3g}", fontsize=9)
    real.imshow(best)
    real.set_title(f"best of {len(result.sample)} real: {highest:.3g}\n{best_name}", fontsize=9)
    for axis in (made, real):
        axis.set_axis_off()
    rise.plot(
        np.arange(1, len(result.history) + 1), result.history, color=INK[1], linewidth=1.2, label="made"
    )
    rise.axhline(highest, color=INK[0], linewidth=1.2, label="best real")
    rise.axhline(mean, color=INK[0], linewidth=1.2, linestyle="--", label="mean real")
    rise.set_xlabel("step", fontsize=8)
    rise.set_ylabel(unit, fontsize=8)
    rise.legend(fontsize=7, frameon=False)
    place.hist(result.sample, bins=20, color=INK[0], alpha=0.8, label="real images")
    place.axvline(result.activation, color=INK[1], linewidth=2, label="made")
    place.set_xlabel(unit, fontsize=8)
    place.set_ylabel("images", fontsize=8)
    place.legend(fontsize=7, frameon=False)
    for axis in (rise, place):
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(result.target, fontsize=10)
    return figure


def gradient_picture(flow: GradientFlow) -> Figure:
    """Gradient norm, and its ratio to the weights, of every layer from the input down, a dot a loss."""
    count = len(flow.layers)
    figure = new_figure(10.0, 1.9 + 0.17 * count + 0.2 * min(len(flow.warnings), 5))
    norms, ratios = figure.subplots(1, 2, sharey=True)
    rows = np.arange(count)
    labels = {loss: _LOSSES.get(loss, loss) for loss in flow.losses}
    values = ", ".join(f"{labels[loss].split(' ')[0]} = {value:.3g}" for loss, value in flow.losses.items())
    for loss, colour, marker in zip(flow.losses, cycle(INK), cycle("oDs"), strict=False):
        _dots(norms, [layer.gradient_norm[loss] for layer in flow.layers], colour, marker, labels[loss])
        _dots(ratios, [layer.ratio(loss) for layer in flow.layers], colour, marker, labels[loss])
    for axis, label in (
        (norms, "gradient norm (Euclidean)"),
        (ratios, "gradient norm / weight norm"),
    ):
        axis.set_xscale("log")
        axis.set_xlabel(label, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(axis="both", color="#e4e4e4", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    norms.set_yticks(rows, [layer.layer for layer in flow.layers])
    norms.set_ylim(count - 0.5, -0.5)
    figure.legend(
        *norms.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    warnings = [*flow.warnings[:4], *(["..."] if len(flow.warnings) > 4 else [])]
    said = "\n".join(warnings) or "no layer a thousand times under or over the median"
    figure.suptitle(
        f"Gradient flow of one batch, unscaled at the fork of the image module: {values}\n{said}", fontsize=9
    )
    return figure


def _dots(axis: Any, values: list[float | None], colour: str, marker: str, label: str) -> None:
    """A dot a layer on a logarithmic axis; one that is not reached, or is 0, has none."""
    rows = [row for row, value in enumerate(values) if value]
    filled = colour if marker == "o" else "none"  # so that none hides another
    shown = [values[row] for row in rows]
    axis.plot(shown, rows, marker, color=colour, markerfacecolor=filled, markersize=4.5, label=label)
