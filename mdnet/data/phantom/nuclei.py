"""Nuclei of a synthetic tile: where they lie, and each one's patch of stain.

The nuclei are computed in array operations over (nuclei, patch, patch): an ellipse whose outline is
bent by smooth noise, its edge softened over one pixel by the distance along the ray from the
centre (analytic anti-aliasing, no supersampling).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdnet.data.phantom.specification import NORMAL_RADIUS, PhantomSpec
from mdnet.data.phantom.tissue import Floats, Layout

__all__ = ["LAYERS", "Nuclei", "Patches", "nucleus_patches", "place_nuclei", "place_stromal_nuclei"]

LAYERS = ("hematoxylin", "eosin", "nucleus", "nucleolus")
"""What a patch paints; the last two are 1 on nuclei, and on nuclei that have a nucleolus."""

_UPRIGHT = np.deg2rad(8.0)  # how far an orderly nucleus leans
_JITTER = (0.30, 0.12)  # of a disordered nucleus's place and of an orderly one's, in steps of the rows
_RELAXATION_STEPS = 6
_FREE_COVERAGE = 0.36  # nuclei keep clear of each other up to this coverage, and overlap above it
_GROUP = 32  # nuclei of similar size that share one patch size
_BODY, _VESICULAR_BODY = 0.80, 0.50  # hematoxylin of a nucleus, and of one with a nucleolus
_EOSIN = 0.22
_RIM = 0.30  # what the nuclear membrane adds
_NUCLEOLUS_OFFSET = 0.2  # farthest from the centre, in half axes
_NUCLEOLUS_HEMATOXYLIN, _NUCLEOLUS_EOSIN = 1.25, 1.7
_WARP_LIMIT = 2.2  # the noise that bends outlines is cut here
_REFERENCE_SIZE = 128.0  # lengths in pixels below are meant at this size


@dataclass(frozen=True)
class Nuclei:
    """Nuclei as shapes; every field has one row a nucleus, lengths are fractions of the tile's side.

    Attributes:
        centres: (n, 2), x and y.
        radii: (n,), radius of the circle of the same area.
        elongations: (n,), long axis over short axis.
        orientations: (n,), direction of the long axis, radians from x towards y.
        tones: (n,), strength of the nuclear stain; 1 is usual.
        has_nucleolus: (n,), boolean.
        nucleolus_offsets: (n, 2), the nucleolus's place in units of the half axes.
        irregularity: Standard deviation of the outline's departure from the ellipse, in radii.
    """

    centres: npt.NDArray[np.float64]
    radii: npt.NDArray[np.float64]
    elongations: npt.NDArray[np.float64]
    orientations: npt.NDArray[np.float64]
    tones: npt.NDArray[np.float64]
    has_nucleolus: npt.NDArray[np.bool_]
    nucleolus_offsets: npt.NDArray[np.float64]
    irregularity: float


@dataclass(frozen=True)
class Patches:
    """Square pieces to lay over the tile, `layer = layer * keep + paint`.

    Attributes:
        rows, columns: (n,), pixel of each patch's first row and column; may lie outside the tile.
        keep: (n, 1, p, p).
        paint: (n, 4, p, p), in the order of `LAYERS`.
    """

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    keep: Floats
    paint: Floats


def place_nuclei(
    rng: np.random.Generator,
    spec: PhantomSpec,
    layout: Layout,
    *,
    figures: npt.NDArray[np.float64],
    clearance: float,
) -> Nuclei:
    """Nuclei of the epithelium, in rows along the basement membrane, clear of mitotic figures.

    Args:
        rng: Random numbers of the scene.
        spec: The study.
        layout: Where its tissue lies.
        figures: (m, 2), centres of the mitotic figures in (along, height).
        clearance: Radius around a figure that stays free of nuclei.
    """
    drawn, tissue = spec.nuclei, spec.tissue
    stretch = drawn.elongation ** (1.0 - drawn.disordered_share)  # of the room that a nucleus takes
    lowest = tissue.membrane + 1.5 * NORMAL_RADIUS
    highest = min(tissue.lumen - 1.5 * NORMAL_RADIUS, 0.8)  # below `lowest` there is room for none
    points, step = _rows_of_points(spec, stretch, (lowest, highest))
    points = points[_near_tile(layout.to_tile(points[:, 0], points[:, 1]), 2.0 * NORMAL_RADIUS)]
    disordered = _one_side(rng, points, drawn.disordered_share)
    points += np.where(disordered, *_JITTER)[:, None] * rng.uniform(-1.0, 1.0, points.shape) * step

    count = len(points)
    radii = NORMAL_RADIUS * np.exp(drawn.size_spread * _spread_evenly(rng, count))
    reach = radii * min(1.0, np.sqrt(_FREE_COVERAGE / drawn.coverage))
    points = _relax(points, reach, stretch, figures, clearance)
    points[:, 1] = np.minimum(np.maximum(points[:, 1], tissue.membrane + 1.1 * radii), highest)
    if len(figures):
        distance = np.linalg.norm(points[:, None] - figures[None], axis=2).min(axis=1)
        kept = distance > clearance + 0.4 * radii
        points, radii, disordered, count = points[kept], radii[kept], disordered[kept], int(kept.sum())

    lean = np.where(disordered, 0.5 * np.pi, _UPRIGHT) * _spread_evenly(rng, count)
    upright = tissue.direction - np.arctan(layout.slope(points[:, 0]))
    return Nuclei(
        centres=layout.to_tile(points[:, 0], points[:, 1]),
        radii=radii,
        elongations=drawn.elongation * rng.uniform(0.92, 1.08, count),
        orientations=upright + lean,
        tones=1.0 + drawn.tone_spread * rng.uniform(-1.0, 1.0, count),
        has_nucleolus=rng.permutation(count) < round(drawn.nucleoli_share * count),
        nucleolus_offsets=rng.uniform(-_NUCLEOLUS_OFFSET, _NUCLEOLUS_OFFSET, (count, 2)),
        irregularity=drawn.irregularity,
    )


def place_stromal_nuclei(rng: np.random.Generator, spec: PhantomSpec, layout: Layout) -> Nuclei:
    """A few thin spindle nuclei of fibroblasts, along the fibres."""
    count = 14
    along, depth = rng.uniform(-0.7, 0.7, count), rng.uniform(0.04, 0.45, count)
    return Nuclei(
        centres=layout.to_tile(along, spec.tissue.membrane - depth),
        radii=NORMAL_RADIUS * rng.uniform(0.6, 0.75, count),
        elongations=rng.uniform(4.0, 5.5, count),
        orientations=spec.tissue.direction + 0.5 * np.pi + rng.uniform(-0.25, 0.25, count),
        tones=rng.uniform(0.7, 0.9, count),
        has_nucleolus=np.zeros(count, dtype=bool),
        nucleolus_offsets=np.zeros((count, 2)),
        irregularity=0.0,
    )


def _rows_of_points(
    spec: PhantomSpec, stretch: float, heights: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Staggered rows of (along, height) as dense as the coverage asks, (n, 2), and their steps, (2,)."""
    spread = spec.nuclei.size_spread
    # The mean of r^2 for log r uniform over +-spread is sinh(2 spread) / (2 spread).
    mean_area = np.pi * NORMAL_RADIUS**2 * np.sinh(2.0 * spread) / (2.0 * spread)
    room = mean_area / spec.nuclei.coverage
    step = np.sqrt([room / stretch, room * stretch])
    rows = np.arange(heights[0], heights[1] + 1e-9, step[1])
    along, height = np.meshgrid(np.arange(-0.8, 0.8, step[0]), rows)
    along = along + 0.5 * step[0] * (np.arange(len(rows)) % 2)[:, None]
    return np.stack([along.ravel(), height.ravel()], axis=1), step


def _one_side(
    rng: np.random.Generator, points: npt.NDArray[np.float64], share: float
) -> npt.NDArray[np.bool_]:
    """Marks the `share` of the points that lies farthest in a random direction, (n,)."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    order = np.argsort(points @ np.array([np.cos(angle), np.sin(angle)]), kind="stable")
    marked = np.zeros(len(points), dtype=bool)
    marked[order[len(points) - round(share * len(points)) :]] = True
    return marked


def _near_tile(
    centres: npt.NDArray[np.float64], margin: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Whether each centre (x, y) is less than `margin` outside the tile, (n,)."""
    return (np.abs(centres - 0.5).max(axis=1, initial=0.0) < 0.5 + margin).astype(bool)


def _spread_evenly(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers spread evenly over -1 to 1, in random order.

    Stratified, not independent: a tile with few nuclei shows its class as well as one with many.
    """
    return 2.0 * (rng.permutation(count) + rng.random(count)) / max(count, 1) - 1.0


def _relax(
    points: npt.NDArray[np.float64],
    reach: npt.NDArray[np.float64],
    stretch: float,
    fixed: npt.NDArray[np.float64],
    fixed_reach: float,
) -> npt.NDArray[np.float64]:
    """Pushes points (along, height) apart until pairs are as far as the sum of their `reach`.

    Distances along the height count less by `stretch`, so upright nuclei may lie closer side by side.
    `fixed` points push and do not move.
    """
    scale = np.array([np.sqrt(stretch), 1.0 / np.sqrt(stretch)])
    count = len(points)
    x, y = (np.concatenate([points, fixed]) * scale).astype(np.float32).T.copy()
    reaches = np.concatenate([reach, np.full(len(fixed), fixed_reach)]).astype(np.float32)
    wanted = reaches[:count, None] + reaches[None, :]  # (n, n + m)
    share = np.where(np.arange(len(x)) < count, 0.4, 1.0).astype(np.float32)  # both of a pair move
    for _ in range(_RELAXATION_STEPS):
        dx, dy = x[:count, None] - x[None, :], y[:count, None] - y[None, :]
        push = dx * dx
        push += dy * dy
        np.sqrt(push, out=push)
        push += np.float32(1e-9)
        np.divide(wanted, push, out=push)
        push -= 1.0
        np.clip(push, 0.0, 1.0, out=push)  # a point's push on itself meets dx = dy = 0
        x[:count] += np.einsum("ij,ij,j->i", push, dx, share)
        y[:count] += np.einsum("ij,ij,j->i", push, dy, share)
    return np.stack([x[:count], y[:count]], axis=1).astype(np.float64) / scale


def nucleus_patches(nuclei: Nuclei, warp: Floats) -> Iterator[Patches]:
    """The stain of every nucleus on its own patch of pixels, larger nuclei first.

    Args:
        nuclei: The shapes.
        warp: Noise of unit variance that bends the outlines, (size, size).
    """
    reach = _half_width(nuclei)
    seen = np.flatnonzero(_near_tile(nuclei.centres, reach))
    order = seen[np.argsort(-reach[seen], kind="stable")]
    limited = warp.clip(-_WARP_LIMIT, _WARP_LIMIT)
    for start in range(0, len(order), _GROUP):
        yield _group_patches(nuclei, order[start : start + _GROUP], limited)


def _half_width(nuclei: Nuclei) -> npt.NDArray[np.float64]:
    """Farthest that each nucleus reaches from its centre, (n,)."""
    return nuclei.radii * np.sqrt(nuclei.elongations) * (1.0 + _WARP_LIMIT * nuclei.irregularity)


def _group_patches(nuclei: Nuclei, chosen: npt.NDArray[np.int64], warp: Floats) -> Patches:
    single, size = np.float32, len(warp)
    pixel = size / _REFERENCE_SIZE
    root = np.sqrt(nuclei.elongations[chosen])
    half_long = (nuclei.radii[chosen] * root * size).astype(single)[:, None, None]  # (n, 1, 1), pixels
    half_short = (nuclei.radii[chosen] / root * size).astype(single)[:, None, None]
    half = int(np.ceil(_half_width(nuclei)[chosen].max() * size + 0.5))
    position = nuclei.centres[chosen] * size - 0.5  # pixel centres have whole coordinates
    corner = np.floor(position).astype(np.int64) - half
    offset = (position - corner).astype(single)

    ruler = np.arange(2 * half + 2)
    x = ruler.astype(single)[None, None, :] - offset[:, 0, None, None]  # (n, 1, p)
    y = ruler.astype(single)[None, :, None] - offset[:, 1, None, None]  # (n, p, 1)
    cosine = np.cos(nuclei.orientations[chosen]).astype(single)[:, None, None]
    sine = np.sin(nuclei.orientations[chosen]).astype(single)[:, None, None]
    long = x * (cosine / half_long) + y * (sine / half_long)  # (n, p, p), 1 at the ellipse's tip
    short = y * (cosine / half_short) - x * (sine / half_short)
    level = np.sqrt(long * long + short * short)
    outline: Floats | np.float32 = single(1.0)
    if nuclei.irregularity > 0.0:
        rows = (corner[:, 1, None] + ruler).clip(0, size - 1)
        columns = (corner[:, 0, None] + ruler).clip(0, size - 1)
        bend = warp.ravel().take(rows[:, :, None] * size + columns[:, None, :])  # (n, p, p)
        outline = 1.0 + single(nuclei.irregularity) * bend
    # Pixels beyond the outline along the ray from the centre, which is distance / level pixels a level.
    beyond = np.sqrt(x * x + y * y)
    beyond += half_short * single(0.05)
    beyond /= level + single(0.05)
    beyond *= level - outline
    cover = np.clip(0.5 - beyond, 0.0, 1.0)

    has = nuclei.has_nucleolus[chosen].astype(single)[:, None, None]
    body = nuclei.tones[chosen].astype(single)[:, None, None] * (_BODY + has * (_VESICULAR_BODY - _BODY))
    rim = np.clip(1.0 - np.square((beyond + single(0.8 * pixel)) / single(1.5 * pixel)), 0.0, 1.0)
    hematoxylin = body + single(_RIM) * rim
    eosin = np.full_like(cover, _EOSIN)
    if has.any():
        radius = np.clip(0.38 * half_short, 1.3 * pixel, 2.4 * pixel)
        place = nuclei.nucleolus_offsets[chosen].astype(single)
        near = int(_NUCLEOLUS_OFFSET * half_long.max() + radius.max()) + 2
        middle = (slice(None), *(2 * (slice(max(half - near, 0), half + near + 2),)))  # no nucleolus beyond
        dx, dy = (long[middle] - place[:, 0, None, None]), (short[middle] - place[:, 1, None, None])
        gap = np.sqrt((dx * half_long) ** 2 + (dy * half_short) ** 2) - radius
        dot = has * np.clip(0.5 - gap, 0.0, 1.0)
        hematoxylin[middle] += dot * (_NUCLEOLUS_HEMATOXYLIN - hematoxylin[middle])
        eosin[middle] += dot * (_NUCLEOLUS_EOSIN - _EOSIN)

    paint = np.empty((len(cover), len(LAYERS), *cover.shape[1:]), dtype=single)
    for layer, amount in enumerate((hematoxylin, eosin, single(1.0), has)):
        np.multiply(cover, amount, out=paint[:, layer])
    return Patches(corner[:, 1], corner[:, 0], 1.0 - cover[:, None], paint)
