"""Several views of a study in one model: strips taken apart for the image module, features put together.

A strip (B, C, H, V W) holds a study's V images side by side. The image module sees them one by one, the
same weights for each, so no convolution crosses the border between two. Its maps are put side by side
again, and all that follows works on them as on those of one wide image: the grids of all views are one
grid for attention, and evidence adds over views (formula 3 is a mean over positions, whosever they are).

A view that is not there takes no part: the image module is not run on it, so BatchNorm's statistics are
of real images; its features are 0, and so is its evidence; attention gives it nothing. The blocks, of which
the heads take the mean over all V views, are scaled by V / (views there) to be the mean over those there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.models.image_module import ImageFeatures, ImageModule

__all__ = ["encode_views", "join_views", "split_views"]


def encode_views(
    image: ImageModule, strips: Tensor, views: int, *, present: Tensor | None = None
) -> ImageFeatures:
    """C(I) of studies of several views.

    Args:
        image: The image module, shared by all views.
        strips: (B, C, H, V W).
        views: V.
        present: (B, V), true for a view that is there; None: all are.

    Raises:
        ConfigurationError: The strip does not divide into V, `present` has another shape, or a study
            has no view.
    """
    images = split_views(strips, views)
    if present is None:
        features = image(images)
    else:
        _check_present(present, (len(strips), views))
        features = _spread_out(image(images[present.flatten()]), present)
    grid = features.grid.unflatten(1, (features.rows, features.columns))  # (B V, rows, columns, D)
    return ImageFeatures(
        blocks=tuple(join_views(block, views) for block in features.blocks),
        grid=join_views(grid.movedim(3, 1), views).flatten(2).transpose(1, 2),  # (B, rows V columns, D)
        rows=features.rows,
        columns=views * features.columns,
        views=views,
        present=present,
    )


def split_views(strips: Tensor, views: int) -> Tensor:
    """(B, C, H, V W) to (B V, C, H, W), a study's views behind one another."""
    if strips.shape[3] % views:
        raise ConfigurationError(
            f"{strips.shape[3]} columns of pixels are not {views} views of one width: "
            "put a study's views side by side"
        )
    return strips.unflatten(3, (views, -1)).movedim(3, 1).flatten(0, 1)


def join_views(maps: Tensor, views: int) -> Tensor:
    """The inverse of `split_views`, for maps of any size."""
    return maps.unflatten(0, (-1, views)).movedim(1, 3).flatten(3)


def _spread_out(features: ImageFeatures, present: Tensor) -> ImageFeatures:
    """From the features of the images that are there to those of all B V places, 0 where there is none."""
    index = present.flatten().nonzero().squeeze(1)

    def placed(values: Tensor) -> Tensor:
        return values.new_zeros(present.numel(), *values.shape[1:]).index_copy(0, index, values)

    scale = 1.0 / present.to(features.grid).mean(dim=1)  # V / (views there), (B,)
    scale = scale.repeat_interleave(present.shape[1])[:, None, None, None]
    blocks = tuple(scale.to(block) * placed(block) for block in features.blocks)
    return ImageFeatures(blocks, placed(features.grid), features.rows, features.columns)


def _check_present(present: Tensor, shape: tuple[int, int]) -> None:
    if tuple(present.shape) != shape or present.dtype != torch.bool:
        raise ConfigurationError(
            f"present is {present.dtype} of shape {tuple(present.shape)}: give a bool for every view, {shape}"
        )
    if not present.any(dim=1).all():
        empty = (~present.any(dim=1)).nonzero()[0].item()
        raise ConfigurationError(f"study {empty} of the batch has no view: give at least one image a study")
