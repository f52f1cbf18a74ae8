"""Pictures of activations: the maps of a layer, its statistics, and the studies that excite a unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mdnet.report.figures import INK, colour_map, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mdnet.explain.activations import Hit, LayerStatistics

__all__ = ["activation_sheet", "statistics_picture", "unit_sheet"]

_TILES = 64  # maps on a sheet; of more channels the strongest are shown
_COLUMNS = 8
_OPACITY = 0.6


def activation_sheet(
    image: npt.NDArray[np.uint8], maps: npt.NDArray[np.floating[Any]], *, layer: str
) -> Figure:
    """All activation maps of a layer for one image, on one scale, and their heat map over the image.

    The heat map is the mean over the channels; of a layer with negative values the mean of absolute
    values. No channel is scaled by itself: a dark tile is a weak channel.

    Args:
        image: (H, W, 3) uint8.
        maps: (channels, rows, columns).
        layer: The layer's name, for the title.
    """
    channels, rows, columns = maps.shape
    signed = bool((maps < 0).any())
    strength = np.abs(maps).mean(axis=(1, 2))
    shown = np.sort(np.argsort(-strength, kind="stable")[:_TILES])
    tile_rows = math.ceil(len(shown) / _COLUMNS)
    figure = new_figure(10.0, 4.9 + 1.15 * tile_rows)
    (top,), (bottom,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.4, 1.15 * tile_rows + 0.3])
    left, right = top.subplots(1, 2)
    number = f"{len(shown)} strongest of {channels}" if len(shown) < channels else str(channels)
    figure.suptitle(f"{layer}: {number} channels of {rows} x {columns}", fontsize=11)
    left.imshow(image)
    left.set_title("image", fontsize=9)
    left.set_axis_off()
    drawn = _overlay(right, image, np.abs(maps).mean(axis=0))
    right.set_title("heat map: mean of " + ("absolute activations" if signed else "activations"), fontsize=9)
    _bar(top, drawn, right, "activation, mean over channels")

    limit = float(np.abs(maps).max()) or 1.0
    axes = bottom.subplots(tile_rows, _COLUMNS, squeeze=False)
    tile = None
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, channel in zip(axes.flat, shown, strict=False):
        tile = axis.imshow(
            maps[channel],
            cmap=colour_map(signed=signed),
            vmin=-limit if signed else 0.0,
            vmax=limit,
            interpolation="nearest",
        )
        axis.set_title(str(channel), fontsize=7, pad=2)
    _bar(bottom, tile, list(axes.flat), "activation")
    return figure


def statistics_picture(statistics: Sequence[LayerStatistics]) -> Figure:
    """Range, sparsity and dead units of layers, a row each; every dot is a channel."""
    figure = new_figure(11.0, 1.6 + 0.5 * len(statistics))
    spread, sparsity, dead = figure.subplots(1, 3, sharey=True, width_ratios=[4, 3, 2])
    rows = np.arange(len(statistics))
    for row, layer in zip(rows, statistics, strict=True):
        # A fixed zigzag keeps dots of equal value apart.
        at = row + np.linspace(-0.3, 0.3, 7)[np.arange(len(layer.mean)) % 7]
        spread.hlines(row, layer.minimum.min(), layer.maximum.max(), color="#bbbbbb", linewidth=7)
        spread.plot(layer.mean, at, ".", color=INK[0], markersize=4)
        sparsity.plot(100 * layer.sparsity, at, ".", color=INK[0], markersize=4)
        sparsity.plot([100 * layer.sparsity.mean()], [row], "|", color=INK[1], markersize=16, mew=2)
        counts = [f"{layer.dead.sum()} of {len(layer.dead)} dead"]
        if layer.saturated is not None:
            counts.append(f"{layer.saturated.sum()} saturated")
        dead.text(0.02, row, ", ".join(counts), va="center", fontsize=9, transform=dead.get_yaxis_transform())
    spread.set_xlabel("activation (bar: range, dots: means of channels)")
    spread.axvline(0.0, color="#888888", linewidth=0.6)
    sparsity.set_xlabel("values that are 0, % (mark: layer)")
    sparsity.set_xlim(-3, 103)
    dead.set_xlabel("units never above 0")
    dead.set_xticks([])
    spread.set_yticks(rows, [layer.layer for layer in statistics])
    spread.set_ylim(len(statistics) - 0.5, -0.5)
    for axis in (spread, sparsity, dead):
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Activations over {statistics[0].studies} images", fontsize=11)
    return figure


def unit_sheet(
    images: Sequence[npt.NDArray[np.uint8]], hits: Sequence[Hit], *, names: Sequence[str], unit: str
) -> Figure:
    """The studies that excite a unit most, best first, each above its activation map.

    All maps share one scale. A cross marks the greatest activation of each; the line in the picture
    encloses where the unit reaches half of the greatest activation of all.

    Args:
        images: (H, W, 3) uint8 each, in the order of `hits`.
        hits: From `top_studies`.
        names: Of the studies.
        unit: What the title calls the unit.
    """
    figure = new_figure(max(1.75 * len(hits) + 0.9, 6.0), 4.5)
    axes = figure.subplots(2, len(hits), squeeze=False)
    signed = any((hit.map < 0).any() for hit in hits)
    limit = max(float(np.abs(hit.map).max()) for hit in hits) or 1.0
    half = 0.5 * hits[0].value
    drawn = None
    for column, (image, hit, name) in enumerate(zip(images, hits, names, strict=True)):
        picture, heat = axes[:, column]
        height, width = image.shape[:2]
        picture.imshow(image)
        picture.set_title(f"{column + 1}. {name}\n{hit.value:.3g}", fontsize=8)
        drawn = heat.imshow(
            hit.map,
            cmap=colour_map(signed=signed),
            vmin=-limit if signed else 0.0,
            vmax=limit,
            extent=(0, width, height, 0),
            interpolation="nearest",
        )
        rows, columns = hit.map.shape
        down, across = (np.arange(rows) + 0.5) * height / rows, (np.arange(columns) + 0.5) * width / columns
        if min(rows, columns) > 1 and hit.map.min() < half < hit.value:
            picture.contour(across, down, hit.map, levels=[half], colors="white", linewidths=2.0)
            picture.contour(across, down, hit.map, levels=[half], colors="black", linewidths=0.8)
        row, cell = hit.peak
        for axis in (picture, heat):
            axis.plot(across[cell], down[row], "+", color="white", markersize=13, markeredgewidth=3.5)
            axis.plot(across[cell], down[row], "+", color="black", markersize=12, markeredgewidth=1.5)
            axis.set_axis_off()
    _bar(figure, drawn, list(axes[1]), "activation")
    figure.suptitle(
        f"{unit}: the studies that excite it most, by their greatest activation (+)\n"
        f"line: activation of {half:.3g}, half the greatest of all",
        fontsize=9,
    )
    return figure


def _overlay(axis: Any, image: npt.NDArray[np.uint8], heat: npt.NDArray[np.floating[Any]]) -> Any:
    """A heat map, nowhere negative, over the image in grey."""
    height, width = image.shape[:2]
    extent = (0, width, height, 0)
    axis.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=extent)
    axis.set_axis_off()
    return axis.imshow(
        heat,
        cmap=colour_map(signed=False),
        vmin=0.0,
        vmax=float(heat.max()) or 1.0,  # a map of zeros is drawn as zeros
        alpha=_OPACITY,
        extent=extent,
        interpolation="nearest",
    )


def _bar(figure: Any, drawn: Any, axes: Any, label: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, shrink=0.9, pad=0.02, aspect=35)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.solids.set_alpha(1)
