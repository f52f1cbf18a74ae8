"""Where numbers lie in an SVG picture: points are computed here, templates only draw them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Marks", "PlotArea"]

Marks = tuple[tuple[float, str], ...]
"""Axis marks: (position, text)."""


@dataclass(frozen=True)
class PlotArea:
    """A rectangle of a view box, with the numbers at its edges; y grows upwards.

    Attributes:
        x_range: Numbers at the left and right edge.
        y_range: Numbers at the bottom and top edge.
    """

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """Position of a number, to a tenth; all at the left edge of an empty range."""
        low, high = self.x_range
        return round(self.left + (value - low) / ((high - low) or 1.0) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Position of a number, to a tenth; all at the bottom of an empty range."""
        low, high = self.y_range
        return round(self.bottom - (value - low) / ((high - low) or 1.0) * (self.bottom - self.top), 1)

    def points(self, pairs: Iterable[tuple[float, float]]) -> str:
        """The `points` of an SVG polyline."""
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in pairs)

    def x_marks(self, values: Iterable[float]) -> Marks:
        """Marks at these numbers."""
        return tuple((self.x(value), f"{value:.3g}") for value in values)

    def y_marks(self, values: Iterable[float]) -> Marks:
        """Marks at these numbers."""
        return tuple((self.y(value), f"{value:.3g}") for value in values)
