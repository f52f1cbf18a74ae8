"""The loss curve of a run as points of a small SVG, drawn by the template `run_page.html`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdnet.report.plot_area import Marks, PlotArea

__all__ = ["LossCurve", "LossLine", "loss_curve"]

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 210, 12, 32
MOST_LINES = 4  # as many as the style sheet tells apart by dashes


@dataclass(frozen=True)
class LossLine:
    """One column of the history; `label_y` keeps the names apart where lines end close together."""

    name: str
    points: str
    last: float
    label_y: float


@dataclass(frozen=True)
class LossCurve:
    """Lines and axis marks, (position, text), in a view box of `width` x `height`."""

    width: int
    height: int
    area: PlotArea
    lines: tuple[LossLine, ...]
    x_marks: Marks
    y_marks: Marks


def loss_curve(history: Sequence[Mapping[str, Any]]) -> LossCurve | None:
    """Curve of the columns named `loss...` or `..._loss` over epochs; None with fewer than two epochs.

    Values may be the strings of a CSV file; an empty or non-finite one is a gap.
    """
    columns = [
        name for name in (history[0] if history else ()) if name.startswith("loss") or name.endswith("_loss")
    ]
    series = {name: _numbers(history, name) for name in columns[:MOST_LINES]}
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return None
    epochs = [epoch for points in series.values() for epoch, _ in points]
    losses = [loss for points in series.values() for _, loss in points]
    first, last, low, high = min(epochs), max(epochs), min(0.0, *losses), max(losses)
    high = high if high > low else low + 1.0

    area = PlotArea(LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM, (first, last), (low, high))
    lines: list[LossLine] = []
    label_y = -math.inf
    for name, points in sorted(series.items(), key=lambda item: -item[1][-1][1]):
        label_y = max(area.y(points[-1][1]) + 4, label_y + 14)
        lines.append(LossLine(name.replace("_", " "), area.points(points), points[-1][1], label_y))
    return LossCurve(
        width=WIDTH,
        height=HEIGHT,
        area=area,
        lines=tuple(lines),
        x_marks=area.x_marks((first, last)),
        y_marks=area.y_marks((low, (low + high) / 2, high)),
    )


def _numbers(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    points = []
    for row_number, row in enumerate(history):
        value: Any = row.get(name)
        if value in (None, ""):
            continue
        loss = float(value)
        if math.isfinite(loss):
            points.append((float(row.get("epoch") or row_number), loss))
    return points
