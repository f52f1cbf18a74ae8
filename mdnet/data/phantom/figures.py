"""Mitotic figures of a synthetic tile: dark ragged chromatin without a nuclear membrane, in a cleared cell.

Three phases are drawn, as a pathologist counts them: prometaphase (one irregular clump), metaphase
(a plate seen from its side) and anaphase (two parallel plates).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdnet.data.phantom.nuclei import LAYERS, Patches
from mdnet.data.phantom.specification import NORMAL_RADIUS, PhantomSpec
from mdnet.data.phantom.tissue import Layout

__all__ = ["CLEARANCE", "DISC_RADIUS", "figure_patches", "place_figures"]

DISC_RADIUS = 2.0 * NORMAL_RADIUS
"""Radius of the disc that marks a figure in the mask."""
CLEARANCE = 1.55 * NORMAL_RADIUS
"""Radius of the cleared cell around a figure's chromatin."""

_REACH = 1.45 * NORMAL_RADIUS  # no chromatin lies farther from the centre
_CHROMATIN = 2.4  # hematoxylin; three times a nucleus's
_CANDIDATES = 600


def place_figures(rng: np.random.Generator, spec: PhantomSpec, layout: Layout) -> npt.NDArray[np.float64]:
    """Centres (along, height) of the figures, (m, 2).

    Each disc lies wholly in the tile and touches no other; the chromatin lies in the epithelium.
    """
    drawn = rng.uniform(DISC_RADIUS, 1.0 - DISC_RADIUS, (_CANDIDATES, 2))
    along, height = layout.to_tissue(drawn[:, 0], drawn[:, 1])
    tissue = spec.tissue
    inside = (height > tissue.membrane + 1.3 * _REACH) & (height < tissue.lumen - 1.3 * _REACH)
    candidates = np.flatnonzero(inside)
    chosen: list[int] = []
    while len(chosen) < spec.nuclei.figures and len(candidates):
        chosen.append(int(candidates[0]))
        distance = np.linalg.norm(drawn[candidates] - drawn[chosen[-1]], axis=1)
        candidates = candidates[distance > 2.02 * DISC_RADIUS]
    return np.stack([along[chosen], height[chosen]], axis=1)


def figure_patches(
    rng: np.random.Generator, centres: npt.NDArray[np.float64], size: int
) -> tuple[Patches, Patches]:
    """The cleared cells and the chromatin of the figures at `centres` (m, 2) in tile coordinates."""
    count = len(centres)
    radius = NORMAL_RADIUS * size
    half = int(np.ceil(1.2 * CLEARANCE * size)) + 1
    position = centres * size - 0.5
    corner = np.floor(position).astype(np.int64) - half
    ruler = np.arange(2 * half + 2)
    x = (ruler[None, None, :] - (position - corner)[:, 0, None, None]) / radius  # in normal radii
    y = (ruler[None, :, None] - (position - corner)[:, 1, None, None]) / radius
    angle = rng.uniform(0.0, np.pi, (count, 1, 1))
    across, away = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    distance = np.hypot(x, y)

    phase = rng.integers(0, 3, (count, 1, 1))
    shift = rng.uniform(0.0, 2.0 * np.pi, (count, 4, 1, 1))
    ragged = 0.5 * np.sin(4.3 * across + shift[:, 0]) + 0.5 * np.sin(7.1 * across + 1.5 * away + shift[:, 1])
    theta = np.arctan2(away, across)
    clump = distance - 0.88 * (
        1.0 + 0.16 * np.cos(3.0 * theta + shift[:, 2]) + 0.14 * np.cos(5.0 * theta + shift[:, 3])
    )
    plate = _capsule(across, away, half_length=0.85) - (0.42 + 0.08 * ragged)
    pair = _capsule(across, np.abs(away) - 0.66 + 0.22 * across**2, half_length=0.62) - (0.29 + 0.06 * ragged)
    beyond = np.choose(phase, [clump, plate, pair])
    chromatin = np.clip(0.5 - beyond * radius, 0.0, 1.0)
    cleared = np.clip((CLEARANCE / NORMAL_RADIUS - distance) / 0.35, 0.0, 1.0)
    return _patches(corner, cleared, (0.06, 0.26)), _patches(corner, chromatin, (_CHROMATIN, 0.35))


def _capsule(
    along: npt.NDArray[np.float64], across: npt.NDArray[np.float64], *, half_length: float
) -> npt.NDArray[np.float64]:
    """Distance to a segment of the first axis centred on the origin."""
    return np.hypot(np.clip(np.abs(along) - half_length, 0.0, None), across)


def _patches(
    corner: npt.NDArray[np.int64], cover: npt.NDArray[np.float64], stains: tuple[float, float]
) -> Patches:
    """Patches of one amount of hematoxylin and eosin; they belong to no nucleus."""
    amounts = np.array([*stains, 0.0, 0.0])
    assert len(amounts) == len(LAYERS)
    paint = cover[:, None] * amounts[:, None, None]
    return Patches(
        corner[:, 1], corner[:, 0], (1.0 - cover[:, None]).astype(np.float32), paint.astype(np.float32)
    )
