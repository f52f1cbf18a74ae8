"""Where stroma, epithelium and lumen lie in a synthetic tile, and the texture of each.

Tissue is drawn as two amounts of stain per pixel, hematoxylin and eosin, which `rendering` turns
into colour by the Beer-Lambert law. All lengths are fractions of the tile's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.data.phantom.specification import TissueParameters

__all__ = ["Background", "Layout", "paint_background", "smooth_noise"]

Floats = npt.NDArray[np.float32]
Reals = npt.NDArray[Any]  # float32 or float64; the result has the type of the argument

_WAVES = 1.3  # undulations of the surfaces along one side of the tile


@dataclass(frozen=True)
class Layout:
    """The tissue's own coordinates, from the tile's centre: `along` the membrane, `height` towards the lumen.

    Both surfaces are the same undulating line, at heights `membrane` and `lumen`.
    """

    parameters: TissueParameters
    phase: float

    @property
    def axes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Unit vectors (x, y) along the membrane and towards the lumen."""
        cosine, sine = np.cos(self.parameters.direction), np.sin(self.parameters.direction)
        return np.array([-sine, cosine]), np.array([cosine, sine])

    def undulation(self, along: Reals) -> Reals:
        """Rise of the surfaces at a position along them."""
        return self.parameters.waviness * np.sin(2.0 * np.pi * _WAVES * along + self.phase)

    def slope(self, along: Reals) -> Reals:
        """Derivative of `undulation`."""
        rate = 2.0 * np.pi * _WAVES
        return self.parameters.waviness * rate * np.cos(rate * along + self.phase)

    def to_tissue(self, x: Reals, y: Reals) -> tuple[Reals, Reals]:
        """Tile coordinates (0 to 1 over the tile) to (along, height)."""
        (along_x, along_y), (height_x, height_y) = (axis.astype(x.dtype) for axis in self.axes)
        along = (x - 0.5) * along_x + (y - 0.5) * along_y
        height = (x - 0.5) * height_x + (y - 0.5) * height_y
        return along, height - self.undulation(along).astype(x.dtype)

    def to_tile(self, along: Reals, height: Reals) -> Reals:
        """(along, height) to tile coordinates (x, y), shape (..., 2)."""
        along_axis, height_axis = self.axes
        rise = height + self.undulation(along)
        return 0.5 + along[..., None] * along_axis + rise[..., None] * height_axis


@lru_cache(maxsize=32)
def _spline(cells: int, pixels: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """First of the four grid points that matter to each pixel, (pixels,), and their weights, (4, pixels).

    The weights are those of the uniform cubic B-spline over `cells` intervals, of unit energy.
    """
    positions = (np.arange(pixels) + 0.5) * cells / pixels
    first = np.floor(positions).astype(np.int64)
    t = positions - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
    return first, (weights / np.sqrt((weights**2).sum(axis=0))).astype(np.float32)


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Floats:
    """Noise of unit variance that varies over 1 / `cells` of the side, (size, size).

    The random numbers do not depend on `size`: every resolution shows the same noise. Written as sums
    of four taps and not as matrix products, whose threads would fight when many tiles are drawn.
    """
    values = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    first, weights = _spline(cells, size)
    for _ in range(2):  # along rows, then, transposed, along columns
        taps = [weights[tap, :, None] * values[first + tap] for tap in range(4)]
        values = np.ascontiguousarray((taps[0] + taps[1] + taps[2] + taps[3]).T)
    return values


@dataclass(frozen=True)
class Background:
    """The tile before any nucleus; every field is (size, size) float32.

    Attributes:
        hematoxylin: Amount of the nuclear stain.
        eosin: Amount of the counterstain.
        tissue: 1 on tissue, 0 on the lumen, fractions at the edge.
    """

    hematoxylin: Floats
    eosin: Floats
    tissue: Floats


def paint_background(rng: np.random.Generator, layout: Layout, size: int) -> Background:
    """Stroma, basement membrane, cytoplasm and lumen."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    along, height = layout.to_tissue(centres[None, :], centres[:, None])
    clouds, grains = smooth_noise(rng, 6, size), smooth_noise(rng, 40, size)
    strands = np.minimum(np.abs(smooth_noise(rng, 13, size)), np.abs(smooth_noise(rng, 13, size)))
    borders = np.clip(1.0 - strands / 0.22, 0.0, 1.0)  # a net of faint lines: cell membranes
    phases = rng.uniform(0.0, 2.0 * np.pi, 3).tolist()

    # Collagen: waves across the membrane's direction, bent by noise, at three spacings.
    fibres = np.zeros_like(height)
    for frequency, tilt, phase in zip((21.0, 34.0, 55.0), (0.15, -0.2, 0.1), phases, strict=True):
        fibres += np.sin(2.0 * np.pi * frequency * (height + tilt * along) + 2.2 * clouds + phase)

    above_membrane = height - layout.parameters.membrane
    epithelium = np.clip(above_membrane * size + 0.5, 0.0, 1.0)
    tissue = np.clip((layout.parameters.lumen - height) * size + 0.5, 0.0, 1.0)
    membrane = np.exp(-((above_membrane / 0.007) ** 2))

    cytoplasm_eosin = 0.40 + 0.05 * clouds + 0.05 * grains + 0.12 * borders
    cytoplasm_hematoxylin = 0.16 + 0.02 * clouds + 0.02 * grains
    stroma_eosin = 0.62 + 0.13 * fibres + 0.04 * grains
    stroma_hematoxylin = 0.04 + 0.015 * fibres

    eosin = stroma_eosin + epithelium * (cytoplasm_eosin - stroma_eosin) + 0.45 * membrane
    hematoxylin = stroma_hematoxylin + epithelium * (cytoplasm_hematoxylin - stroma_hematoxylin)
    edge = np.exp(-(((layout.parameters.lumen - height) / 0.010) ** 2))  # apical membranes
    eosin = (eosin + 0.3 * edge) * tissue + 0.02
    return Background(
        hematoxylin=np.clip(hematoxylin * tissue, 0.0, None).astype(np.float32),
        eosin=np.clip(eosin, 0.0, None).astype(np.float32),
        tissue=tissue.astype(np.float32),
    )
