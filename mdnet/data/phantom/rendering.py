"""Draws a synthetic tile: tissue, nuclei and figures in stain, then light, focus and the masks.

Colour follows the Beer-Lambert law with the stain vectors of Ruifrok and Johnston,
"Quantification of histochemical staining by color deconvolution", Anal Quant Cytol Histol 2001.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from mdnet.data.phantom.figures import CLEARANCE, DISC_RADIUS, figure_patches, place_figures
from mdnet.data.phantom.nuclei import LAYERS, Patches, nucleus_patches, place_nuclei, place_stromal_nuclei
from mdnet.data.phantom.specification import PhantomSpec, TissueParameters, generator
from mdnet.data.phantom.tissue import Floats, Layout, paint_background, smooth_noise
from mdnet.errors import ConfigurationError

__all__ = ["MINIMUM_SIZE", "STRUCTURES", "PhantomTile", "render"]

STRUCTURES = ("mitosis", "nucleoli", "nuclei", "tissue")
"""Masks of a tile: discs around mitotic figures, nuclei that have a nucleolus, all nuclei (those of the
stroma too, figures not), and all that is not lumen. An insufficient tile has `tissue` only."""

MINIMUM_SIZE = 32
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])  # hematoxylin, eosin: absorbance in R, G, B
_STRENGTH = np.array([1.75, 0.62])  # natural-logarithm absorbance of one unit of each
_LIGHT = np.array([247.0, 245.0, 248.0], dtype=np.float32)  # empty glass
_GRAIN = 2.2  # standard deviation of the camera's noise, grey levels


@dataclass(frozen=True)
class PhantomTile:
    """A drawn study.

    Attributes:
        image: (size, size, 3) uint8, RGB.
        masks: Structure to (size, size) boolean; always `STRUCTURES` (empty where there is none), or
            `tissue` alone for an insufficient tile.
        figures: (m, 2), x and y of the mitotic figures in pixels, pixel centres at whole numbers.
    """

    image: npt.NDArray[np.uint8]
    masks: Mapping[str, npt.NDArray[np.bool_]]
    figures: npt.NDArray[np.float64]


def render(spec: PhantomSpec, size: int = 128) -> PhantomTile:
    """Draws a study at `size` pixels a side; every size shows the same scene."""
    if size < MINIMUM_SIZE:
        raise ConfigurationError(f"size {size}: a tile has at least {MINIMUM_SIZE} pixels a side")
    rng = generator(spec.seed, spec.index, 2)
    layout = Layout(spec.tissue, phase=rng.uniform(0.0, 2.0 * np.pi))
    figures = place_figures(rng, spec, layout)
    figure_centres = layout.to_tile(figures[:, 0], figures[:, 1])
    nuclei = place_nuclei(rng, spec, layout, figures=figures, clearance=CLEARANCE)
    stromal = place_stromal_nuclei(rng, spec, layout)
    background = paint_background(rng, layout, size)
    warp, chromatin_texture = smooth_noise(rng, 17, size), smooth_noise(rng, 44, size)
    cleared_cells, chromatin = figure_patches(rng, figure_centres, size)

    canvas = np.zeros((len(LAYERS), size, size), dtype=np.float32)
    canvas[0], canvas[1] = background.hematoxylin, background.eosin
    spindles, rounds = nucleus_patches(stromal, warp), nucleus_patches(nuclei, warp)
    for patches in itertools.chain([cleared_cells], spindles, rounds, [chromatin]):
        _lay(canvas, patches)
    hematoxylin, eosin, nucleus, nucleolus = canvas
    hematoxylin += 0.10 * nucleus * chromatin_texture

    image = _expose(generator(spec.seed, spec.index, 3), hematoxylin, eosin, spec.tissue)
    masks = {"tissue": background.tissue > 0.5}
    if spec.quality == "good":
        masks = {
            "mitosis": _discs(figure_centres, size),
            "nucleoli": nucleolus > 0.5,
            "nuclei": nucleus > 0.5,
        } | masks
    return PhantomTile(image, masks, figure_centres * size - 0.5)


def _lay(canvas: Floats, patches: Patches) -> None:
    """Lays patches over the canvas (layers, size, size), the first one lowest."""
    size, width = canvas.shape[1], patches.paint.shape[-1]
    for row, column, keep, paint in zip(
        patches.rows.tolist(), patches.columns.tolist(), patches.keep, patches.paint, strict=True
    ):
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + width, size), min(column + width, size)
        if top >= bottom or left >= right:
            continue
        if (bottom - top, right - left) != (width, width):
            window = (slice(None), slice(top - row, bottom - row), slice(left - column, right - column))
            keep, paint = keep[window], paint[window]
        piece = canvas[:, top:bottom, left:right]
        piece *= keep
        piece += paint


def _expose(
    rng: np.random.Generator, hematoxylin: Floats, eosin: Floats, tissue: TissueParameters
) -> npt.NDArray[np.uint8]:
    """Stain amounts (size, size) to an RGB image by absorbance, defocus and camera noise."""
    size = len(hematoxylin)
    turn = np.array([np.cos(tissue.hue), np.sin(tissue.hue)])
    colours = _STAINS.copy()
    colours[:, [0, 2]] = colours[:, [0, 2]] * turn[0] + colours[:, [2, 0]] * turn[1] * (-1.0, 1.0)
    colours *= (_STRENGTH * (tissue.hematoxylin, tissue.eosin))[:, None]
    image = np.empty((size, size, 3), dtype=np.uint8)
    for channel, (purple, pink) in enumerate(colours.T.astype(np.float32)):
        image[..., channel] = np.exp(-purple * hematoxylin - pink * eosin) * _LIGHT[channel]
    if tissue.defocus * size > 0.25:  # less changes no pixel
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(tissue.defocus * size)))
    noise = _GRAIN * rng.standard_normal((size, size, 1), dtype=np.float32) + 0.5
    return np.clip(image + noise, 0.0, 255.0).astype(np.uint8)


def _discs(centres: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.bool_]:
    """The mask of mitotic figures, (size, size)."""
    ruler = (np.arange(size) + 0.5) / size
    mask = np.zeros((size, size), dtype=bool)
    for x, y in centres:
        mask |= (ruler[None, :] - x) ** 2 + (ruler[:, None] - y) ** 2 <= DISC_RADIUS**2
    return mask
