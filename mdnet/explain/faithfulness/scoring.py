"""What the metrics share: scores of many changed copies, maps brought to the image's pixels, rank order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mdnet.errors import DataError
from mdnet.explain.by_design import spread_over

__all__ = ["Score", "covered_scores", "map_values", "pixel_ranks"]

Score = Callable[[Tensor], Tensor]  # images (B, channels, H, W) to the number explained, (B,)


@torch.inference_mode()
def covered_scores(
    score: Score,
    images: Tensor,
    baseline: Tensor,
    covered: Callable[[int], Tensor],
    copies: int,
    batch_size: int,
) -> Tensor:
    """Scores of `copies` changed copies of every image, (N, copies), in batches of about `batch_size`.

    Args:
        score: The number explained.
        images: (N, channels, H, W).
        baseline: What stands where a pixel is covered, of the same shape.
        covered: From the number of a copy to the pixels covered in it, bool (N, H, W) or (H, W).
        copies: Copies of every image.
        batch_size: Images in one pass, of one copy or of several.
    """
    at_once = max(1, batch_size // len(images))
    columns = []
    for start in range(0, copies, at_once):
        masks = [covered(copy) for copy in range(start, min(start + at_once, copies))]
        changed = torch.cat([torch.where(mask.unsqueeze(-3), baseline, images) for mask in masks])
        scores = torch.cat([score(part) for part in changed.split(batch_size)])
        columns.append(scores.view(len(masks), len(images)).T)
    return torch.cat(columns, dim=1)


def map_values(maps: Tensor, images: Tensor) -> Tensor:
    """Maps (N, rows, columns) over the images' pixels, (N, H, W), each keeping its sum.

    Linear interpolation between the centres of cells, as everywhere in mdnet; the identity on a map
    that has the images' size.

    Raises:
        DataError: The maps are not finite, or not one for every image.
    """
    if maps.ndim != 3 or len(maps) != len(images):
        raise DataError(
            "maps", f"shape {tuple(maps.shape)} for {len(images)} images", "give (images, rows, columns)"
        )
    if not maps.isfinite().all():
        raise DataError("maps", "a value is not finite", "mend the model or its input")
    size = images.shape[-2:]
    return maps if maps.shape[-2:] == size else spread_over(maps, size)


def pixel_ranks(values: Tensor, *, seed: int = 0) -> Tensor:
    """Rank of every pixel, (N, H, W): 0 for the largest value, each rank once.

    Equal values are put in a random order, the same for all images: reading order would make a flat
    map sweep from the top, and a ReLU's zeros with it.
    """
    flat = values.flatten(1)
    random = torch.Generator().manual_seed(seed)
    shuffle = torch.randperm(flat.shape[1], generator=random).to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]  # (N, H * W)
    return order.argsort(dim=1).view(values.shape)
