"""A counterfactual as one PNG: the image with the cells that decide outlined, and the image without them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mdnet.explain.counterfactual import Counterfactual, remove_cells
from mdnet.report.figures import INK, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mdnet.inference.predictor import Predictor

__all__ = ["save_counterfactual_picture"]

_SIDE = 3.2  # inches a panel
_TITLE = 0.5  # inches above it: two lines


def save_counterfactual_picture(
    counterfactual: Counterfactual, predictor: Predictor, image: np.ndarray, path: Path
) -> Path:
    """Draws what was taken away in the image, and what the model then saw.

    Args:
        counterfactual: With or without an `in_image`; without, the picture says that none was found.
        predictor: The model that was asked.
        image: The image as decoded, (H, W, 3) uint8.
        path: The PNG file.
    """
    removal = counterfactual.in_image
    figure = new_figure(_SIDE * (2 if removal else 1), _SIDE + _TITLE)
    axes = figure.subplots(1, 2 if removal else 1, squeeze=False)[0]
    before = f"{counterfactual.aspect}: {counterfactual.answer}"
    height, width = image.shape[:2]
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(image, extent=(0, width, height, 0))
    if removal is None:
        axes[0].set_title(f"{before}\nno set of at most {counterfactual.limit:.1%} changes it", fontsize=9)
        return save_figure(figure, path)
    axes[0].set_title(f"{before}\n{removal.count} cells decide, {removal.share:.1%} of the image", fontsize=9)
    outline(axes[0], removal.cells, width, height)
    pixel_values = predictor.pixel_values([image])
    cells = torch.from_numpy(removal.cells[None]).to(pixel_values.device)
    without = remove_cells(predictor.model, pixel_values, cells, filling=counterfactual.filling)
    axes[1].imshow(predictor.preprocessing.to_image(without)[0], extent=(0, width, height, 0))
    axes[1].set_title(f"without them: {removal.answer}\nas the model sees it", fontsize=9)
    return save_figure(figure, path)


def outline(axis: Axes, cells: np.ndarray, width: int, height: int) -> None:
    """Draws the borders of a set of cells over an image of so many pixels."""
    padded = np.pad(cells, 1).astype(int)
    across, down = width / cells.shape[1], height / cells.shape[0]
    segments = [
        [(column * across, row * down), (column * across, (row + 1) * down)]
        for row, column in np.argwhere(np.diff(padded, axis=1)[1:-1])
    ]
    segments += [
        [(column * across, row * down), ((column + 1) * across, row * down)]
        for row, column in np.argwhere(np.diff(padded, axis=0)[:, 1:-1])
    ]
    from matplotlib.collections import LineCollection

    axis.add_collection(LineCollection(segments, colors="white", linewidths=3.0))
    axis.add_collection(LineCollection(segments, colors=INK[0], linewidths=1.5))
