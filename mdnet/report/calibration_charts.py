"""Two pictures of whether the diagnosis's probabilities can be believed, as points of small SVGs.

Reliability: accuracy against confidence, bin by bin (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017). Risk and coverage: what share of the answers given is wrong when only the surest
are given, beside the best order, every right answer before every wrong one, and a random one (Geifman &
El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdnet.report.plot_area import Marks, PlotArea

__all__ = ["Bin", "ReliabilityChart", "RiskChart", "reliability_chart", "risk_chart"]

WIDTH, LEFT, RIGHT, TOP, PLOT = 400, 56, 12, 10, 260  # of both; PLOT is the height of the plot
COUNTS_TOP, COUNTS_HEIGHT = 302, 52  # the bars under the reliability plot
RISK_HEIGHT, RELIABILITY_HEIGHT = 312, 382
LARGEST_DOT, SMALLEST_DOT = 10.0, 3.0  # radii
RISK_TOPS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the axis; no lower, so that few errors look like few
_BEST_POINTS = 40

Metrics = Mapping[str, Any]
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Bin:
    """Studies of like confidence: a dot, whose area grows with their number, and a bar of it."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    x: float
    y: float
    radius: float
    bar: tuple[float, float, float, float]  # x, y, width, height
    label: str


@dataclass(frozen=True)
class ReliabilityChart:
    """The diagonal runs from corner to corner of `area`.

    Attributes:
        before: Positions of the dots without temperature scaling.
    """

    area: PlotArea
    counts: PlotArea
    bins: tuple[Bin, ...]
    before: tuple[tuple[float, float], ...]
    x_marks: Marks
    y_marks: Marks
    width: int = WIDTH
    height: int = RELIABILITY_HEIGHT


@dataclass(frozen=True)
class RiskChart:
    """Lines as the `points` of a polyline.

    Attributes:
        risk: Share of wrong answers at full coverage, what a random order has throughout.
        chosen: Where the answers from `--abstain-below` on lie; None without.
        rows: (from probability, coverage, risk) of every point of the model's line.
    """

    area: PlotArea
    model: str
    best: str
    random: str
    risk: float
    chosen: tuple[float, float] | None
    rows: tuple[tuple[float, float, float], ...]
    x_marks: Marks
    y_marks: Marks
    width: int = WIDTH
    height: int = RISK_HEIGHT


def reliability_chart(bins: Sequence[Metrics], before: Sequence[Metrics] = ()) -> ReliabilityChart | None:
    """The chart of `calibration.reliability`; None where no bin holds a study.

    Args:
        bins: `low`, `high`, `count`, `confidence`, `accuracy` of each.
        before: The same without temperature scaling.
    """
    filled = [each for each in bins if each["count"]]
    if not filled:
        return None
    most = max(each["count"] for each in filled)
    area = PlotArea(LEFT, WIDTH - RIGHT, TOP, TOP + PLOT, (0.0, 1.0), (0.0, 1.0))
    counts = PlotArea(
        LEFT, WIDTH - RIGHT, COUNTS_TOP, COUNTS_TOP + COUNTS_HEIGHT, (0.0, 1.0), (0.0, float(most))
    )
    drawn = []
    for each in filled:
        left, right, top = area.x(each["low"]), area.x(each["high"]), counts.y(each["count"])
        drawn.append(
            Bin(
                low=each["low"],
                high=each["high"],
                count=each["count"],
                confidence=each["confidence"],
                accuracy=each["accuracy"],
                x=area.x(each["confidence"]),
                y=area.y(each["accuracy"]),
                radius=round(max(SMALLEST_DOT, LARGEST_DOT * math.sqrt(each["count"] / most)), 1),
                bar=(left + 1, top, round(right - left - 2, 1), round(counts.bottom - top, 1)),
                label=short(each["count"]),
            )
        )
    return ReliabilityChart(
        area=area,
        counts=counts,
        bins=tuple(drawn),
        before=tuple((area.x(b["confidence"]), area.y(b["accuracy"])) for b in before if b["count"]),
        x_marks=area.x_marks(_SHARES),
        y_marks=area.y_marks(_SHARES),
    )


def risk_chart(curve: Metrics, abstention: Metrics | None = None) -> RiskChart | None:
    """The chart of `calibration.risk_coverage`; None where it has no point.

    Args:
        curve: `threshold`, `coverage` and `risk`, by rising coverage.
        abstention: `coverage` and `accuracy` of the answers that are given.
    """
    rows = tuple(zip(curve["threshold"], curve["coverage"], curve["risk"], strict=True))
    if not rows:
        return None
    risk = rows[-1][2]
    top = next(top for top in RISK_TOPS if max(row[2] for row in rows) <= top)
    area = PlotArea(LEFT, WIDTH - RIGHT, TOP, TOP + PLOT, (0.0, 1.0), (0.0, top))
    chosen = None
    if abstention is not None and abstention["accuracy"] is not None:
        chosen = (area.x(abstention["coverage"]), area.y(1 - abstention["accuracy"]))
    return RiskChart(
        area=area,
        model=area.points((coverage, wrong) for _, coverage, wrong in rows),
        best=area.points(best_order(risk)),
        random=area.points([(0.0, risk), (1.0, risk)]),
        risk=risk,
        chosen=chosen,
        rows=rows,
        x_marks=area.x_marks(_SHARES),
        y_marks=area.y_marks((0.0, top / 2, top)),
    )


def best_order(risk: float) -> list[tuple[float, float]]:
    """(coverage, risk) when every right answer comes before every wrong one: 1 - (1 - risk) / coverage."""
    start = 1.0 - risk
    points = [(0.0, 0.0)]
    for step in range(_BEST_POINTS + 1):
        coverage = start + risk * step / _BEST_POINTS
        if coverage > 0:
            points.append((coverage, 1.0 - start / coverage))
    return points


def short(count: int) -> str:
    """A count that fits over a narrow bar: 950, 1.2k, 34k."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"
