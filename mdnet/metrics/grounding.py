"""Do maps point at what they should: pointing game, energy inside the mask, overlap.

Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016 (pointing game); Wang et al.,
"Score-CAM", CVPRW 2020 (energy-based pointing game).

A map (h, w) and a mask (H, W), non-zero inside, cover the same image, whatever their sizes: cell (i, j)
of the map is the rectangle of the image between i H / h and (i + 1) H / h, and likewise across. Where
the game asks for a point, a cell is its centre; where it asks for an amount, a cell is spread evenly
over its rectangle, pixels cut by its border counting in part. Only positive values are energy.
A study whose mask is empty has nothing to point at: leave it out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdnet.errors import DataError

__all__ = ["best_iou", "cell_weights", "chance", "energy_in_mask", "pointing_game", "pointing_hit"]

Floats = NDArray[np.float64]


def pointing_hit(heat: ArrayLike, mask: ArrayLike) -> bool:
    """The pointing game for one map (h, w) and one mask (H, W): `pointing_game`."""
    return bool(pointing_game(np.asarray(heat)[None], np.asarray(mask)[None])[0])


def pointing_game(maps: ArrayLike, masks: ArrayLike) -> NDArray[np.bool_]:
    """Whether the peak's centre lies inside the mask.

    Cells that share the maximum, as where a coarse map was enlarged, make one peak whose centre is their
    mean. There is no hit where that centre is not at the maximum itself, nor in a map of one value: a
    map that does not decide must not gain by the order in which its cells are read.

    Args:
        maps: Heat of any sign, (N, h, w).
        masks: Non-zero inside, (N, H, W).

    Returns:
        Hits, (N,).

    Raises:
        DataError: The shapes do not fit, or a map holds a value that is not finite.
    """
    heat, inside = _checked(maps, masks)
    peak = heat == heat.max(axis=(1, 2), keepdims=True)
    tied = peak.sum(axis=(1, 2))
    places = []  # of the centre, along each axis: cell of the map, pixel of the mask
    for axis, other in ((1, 2), (2, 1)):
        cells, pixels = heat.shape[axis], inside.shape[axis]
        # Twice the sum of the cells' centres, a whole number, keeps the floor exact.
        centres = (peak.sum(axis=other) * (2 * np.arange(cells) + 1)).sum(axis=1)
        places.append((centres // (2 * tied), centres * pixels // (2 * tied * cells)))
    (row, pixel_row), (column, pixel_column) = places
    study = np.arange(len(heat))
    decided = peak[study, row, column] & (tied < heat.shape[1] * heat.shape[2])
    hit: NDArray[np.bool_] = decided & inside[study, pixel_row, pixel_column]
    return hit


def energy_in_mask(maps: ArrayLike, masks: ArrayLike) -> Floats:
    """Share of each map's positive part that lies inside the mask, (N,) in [0, 1].

    A map without a positive value has no energy and scores 0. Arguments and errors: `pointing_game`.
    """
    heat, inside = _checked(maps, masks)
    energy = np.maximum(heat, 0)
    # The largest value is divided out, so that sums of very small or very large heat stay exact.
    energy /= np.maximum(energy.max(axis=(1, 2), keepdims=True), np.finfo(np.float64).tiny)
    within = (energy * _coverage(inside, heat.shape[1:])).sum(axis=(1, 2))
    total = energy.sum(axis=(1, 2))
    return np.divide(within, total, out=np.zeros_like(total), where=total > 0)


def best_iou(maps: ArrayLike, masks: ArrayLike) -> Floats:
    """Intersection over union of mask and thresholded map, at each map's best threshold, (N,).

    The thresholds are the map's own values (cells at or above one are taken); this is an upper bound,
    as the threshold is chosen with the mask in view. Arguments and errors: `pointing_game`.
    """
    heat, inside = _checked(maps, masks)
    values = heat.reshape(len(heat), -1)
    covered = _coverage(inside, heat.shape[1:]).reshape(values.shape)
    order = np.argsort(-values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    both = np.cumsum(np.take_along_axis(covered, order, axis=1), axis=1)  # in cells
    taken = np.arange(1, values.shape[1] + 1)
    mask_cells = covered.sum(axis=1, keepdims=True)
    iou = both / (taken + mask_cells - both)
    # A threshold takes all cells of one value, so only the last of equal ones ends a set.
    last = np.append(values[:, 1:] != values[:, :-1], np.ones((len(values), 1), bool), axis=1)
    best: Floats = np.where(last, iou, 0).max(axis=1)
    return best


def chance(masks: ArrayLike) -> Floats:
    """Share of each image that its mask covers, (N,): what a flat or a random map scores on average.

    Args:
        masks: Non-zero inside, (N, H, W).
    """
    inside = np.asarray(masks)
    if inside.ndim != 3 or 0 in inside.shape[1:]:
        raise DataError("masks", f"shape {inside.shape}", "give (studies, rows, columns)")
    share: Floats = (inside != 0).mean(axis=(1, 2))
    return share


def _checked(maps: ArrayLike, masks: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """The maps as float64 and the masks as booleans, or an error in words."""
    heat, inside = np.asarray(maps, np.float64), np.asarray(masks) != 0
    if (
        heat.ndim != 3
        or inside.ndim != 3
        or len(heat) != len(inside)
        or 0 in heat.shape[1:] + inside.shape[1:]
    ):
        raise DataError(
            "maps and masks",
            f"shapes {heat.shape} and {inside.shape}",
            "give (studies, h, w) and (studies, H, W), a mask for every map",
        )
    if not np.isfinite(heat).all():
        raise DataError(
            "maps", f"{(~np.isfinite(heat)).sum()} values not finite", "mend the model or its input"
        )
    return heat, inside


def _coverage(inside: NDArray[np.bool_], grid: tuple[int, ...]) -> Floats:
    """Share of every map cell's rectangle that the mask covers: (N, H, W) -> (N, h, w)."""
    rows, columns = (cell_weights(*sizes) for sizes in zip(grid, inside.shape[1:], strict=True))
    covered: Floats = rows @ inside @ columns.T
    return covered


def cell_weights(cells: int, pixels: int) -> Floats:
    """Share of each cell that each pixel takes along one axis, (cells, pixels); rows sum to 1."""
    scale = pixels / cells
    start = np.arange(cells)[:, None] * scale
    pixel = np.arange(pixels)
    return np.clip(np.minimum(start + scale, pixel + 1) - np.maximum(start, pixel), 0, None) / scale
