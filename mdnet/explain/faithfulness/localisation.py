"""Localisation by amount: relevance mass and rank accuracy, and boxes as masks.

Arras et al., "CLEVR-XAI", Information Fusion 2022, arXiv 2003.07258. Their mass accuracy is
`grounding.energy_in_mask` where the map is not negative; theirs lets negative relevance count against
the total, which is no share any more, so maps are cut at 0 there, as they pool channels to positive
values too. The pointing game and best overlap are in `mdnet.metrics.grounding` likewise.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mdnet.errors import DataError
from mdnet.explain.faithfulness.scoring import pixel_ranks

__all__ = ["box_mask", "relevance_rank_accuracy"]


def relevance_rank_accuracy(maps: ArrayLike, masks: ArrayLike, *, seed: int = 0) -> NDArray[np.float64]:
    """Share of a map's K largest pixels that lie in the mask, K the size of the mask, (N,).

    Equal pixels stand in random order. A study whose mask is empty gives NaN.

    Args:
        maps: (N, H, W); enlarge a coarser one first (`scoring.map_values`).
        masks: Non-zero inside, (N, H, W).
        seed: Of the order among equal pixels.

    Raises:
        DataError: The shapes differ, or a map holds a value that is not finite.
    """
    values, inside = torch.as_tensor(np.asarray(maps, np.float64)), torch.as_tensor(np.asarray(masks) != 0)
    if values.ndim != 3 or values.shape != inside.shape:
        raise DataError(
            "maps and masks",
            f"shapes {tuple(values.shape)} and {tuple(inside.shape)}",
            "give (studies, H, W) twice",
        )
    if not values.isfinite().all():
        raise DataError("maps", "a value is not finite", "mend the model or its input")
    size = inside.sum(dim=(1, 2))
    chosen = pixel_ranks(values, seed=seed) < size[:, None, None]
    share: NDArray[np.float64] = ((chosen & inside).sum(dim=(1, 2)) / size.double()).numpy()
    return share


def box_mask(boxes: Iterable[tuple[float, float, float, float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The union of boxes as a mask (H, W): the pixels whose centre is inside one.

    Args:
        boxes: (left, top, right, bottom) in pixels, the right and bottom edges outside.
        size: (H, W)
    """
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None, :] + 0.5
    mask = np.zeros(size, bool)
    for left, top, right, bottom in boxes:
        if not (left < right and top < bottom):
            raise DataError(
                "box", f"{(left, top, right, bottom)} is empty", "give left < right and top < bottom"
            )
        mask |= (left <= columns) & (columns < right) & (top <= rows) & (rows < bottom)
    return mask
