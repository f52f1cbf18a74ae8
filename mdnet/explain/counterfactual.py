"""Which part of an image would have to go for the answer to change, in the sum and in the image.

The image is divided into the cells of C(I)'s grid. Cells are taken away in the order of their
evidence for the answer against each rival:

- **in the sum**: their evidence is left out. A logit is a sum over cells, so the cells with most
  evidence are the smallest set that brings the answer below a rival: there is none smaller.
- **in the image**: their pixels are replaced and the model looks again. Nothing is exact there, as
  what is left is seen differently; so the smallest set in the order of evidence is searched for by
  running the model, cells that turn out not to be needed are given back, and the result is one from
  which no single cell can be given back.

What stands where a cell was (`mdnet.explain.baselines` has two more) is by default its surroundings:
the kept pixels around it, averaged by a Gaussian of two cells, so that no edge and no colour is
added that the image did not have.

References:
    1. Fong and Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation",
       ICCV 2017, arXiv 1704.03296 (the smallest deletion).
    2. Knutsson and Westin, "Normalized and differential convolution", CVPR 1993 (the filling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.data.images import as_image
from mdnet.data.study import Aspect
from mdnet.errors import ConfigurationError
from mdnet.explain.baselines import BASELINES, baseline_images
from mdnet.explain.batching import IMAGES_AT_ONCE
from mdnet.explain.by_design import batch_evidence
from mdnet.inference.predictor import aspect_finding
from mdnet.inference.reading import source_of
from mdnet.metrics.grounding import cell_weights
from mdnet.models.mdnet import MDNet

if TYPE_CHECKING:
    from mdnet.inference.predictor import Predictor
    from mdnet.inference.reading import ImageLike

__all__ = ["FILLINGS", "Counterfactual", "Removal", "counterfactuals", "remove_cells", "smallest_removal"]

FloatArray = npt.NDArray[np.float64]
Cells = npt.NDArray[np.bool_]

FILLINGS = ("surroundings", *BASELINES)
_REACH = 2.0  # cells: deviation of the Gaussian that fills a hole
_CANDIDATES = 16  # sizes tried in one round of the search


@dataclass(frozen=True)
class Removal:
    """A set of cells without which the answer is another.

    Attributes:
        cells: True where taken away, (rows, columns) over the whole image.
        logits: Class name to logit without them.
        answer: What the model says without them.
        verified: The model was run on the image without these cells and said so.
    """

    cells: Cells
    logits: dict[str, float]
    answer: str
    verified: bool

    @property
    def count(self) -> int:
        return int(self.cells.sum())

    @property
    def share(self) -> float:
        """Share of the image, 0..1."""
        return float(self.cells.mean())


@dataclass(frozen=True)
class Counterfactual:
    """What the answer about one image hangs on.

    Attributes:
        source: Path or name of the image.
        aspect: Aspect name.
        answer: What the model says of the whole image.
        against: The class that must overtake it, where one was named.
        logits: Class name to logit of the whole image.
        in_sum: The smallest set in the sum of evidence; None where none within the limit does.
        in_image: A set in the image from which no cell can be given back; None where none within
            the limit was found.
        limit: Largest share of the image that may go.
        filling: What stood where a cell was.
    """

    source: str
    aspect: str
    answer: str
    against: str | None
    logits: dict[str, float]
    in_sum: Removal | None
    in_image: Removal | None
    limit: float
    filling: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON; cells as (row, column) pairs."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("in_sum", "in_image"):
            removal: Removal | None = getattr(self, name)
            record[name] = removal and {
                "cells": np.argwhere(removal.cells).tolist(),
                "share": removal.share,
                "logits": removal.logits,
                "answer": removal.answer,
                "verified": removal.verified,
            }
        return record


@torch.inference_mode()
def counterfactuals(
    predictor: Predictor,
    images: Sequence[ImageLike],
    *,
    aspect: str | None = None,
    against: str | None = None,
    limit: float = 0.5,
    filling: str = "surroundings",
) -> list[Counterfactual]:
    """The smallest set of cells whose removal changes the model's answer, one result an image.

    Args:
        predictor: The model.
        images: As `Predictor.__call__` takes them.
        aspect: Aspect whose answer is to change; the diagnosis unless named.
        against: A class that must overtake the answer; any unless named. Of a multi-label aspect,
            whose classes are answered one by one, the class whose presence must change.
        limit: Largest share of the cells that may go, in 0..1.
        filling: What stands where a cell was, one of `FILLINGS`.

    Raises:
        ConfigurationError: No such aspect, class or filling, or a limit out of range.
        ImageError: An image that cannot be decoded.
    """
    if filling not in FILLINGS:
        raise ConfigurationError(f"no filling {filling!r}; there are {', '.join(FILLINGS)}")
    if not 0 < limit <= 1:
        raise ConfigurationError(f"limit {limit} must lie above 0 and up to 1")
    model = predictor.model
    name = aspect or model.config.space.diagnosis
    if name is None:
        raise ConfigurationError("the model has no diagnosis: name an aspect")
    chosen = model.config.space[name]
    results = []
    for number, image in enumerate(images):
        pixel_values = predictor.pixel_values([as_image(image)])
        logits, evidence = cell_evidence(model, pixel_values, chosen)
        rivals = rival_weights(chosen, logits, against)
        margins = rivals @ logits
        shape = evidence.shape[1:]
        most = int(limit * evidence[0].size)
        ranked = rivals @ evidence.reshape(len(logits), -1)  # (R, P) evidence for the answer, by rival
        in_sum = smallest_removal(ranked, margins, most)
        search = _Search(model, pixel_values, chosen, rivals, filling, shape)
        in_image = search.smallest(np.argsort(-ranked, axis=1, kind="stable"), most)
        before = aspect_finding(chosen, torch.from_numpy(logits))
        results.append(
            Counterfactual(
                source=source_of(image, number),
                aspect=name,
                answer=before.label,
                against=against,
                logits=dict(before.logits),
                in_sum=None
                if in_sum is None
                else _removal(
                    chosen,
                    in_sum.reshape(shape),
                    logits - evidence[:, in_sum.reshape(shape)].sum(axis=1),
                    verified=False,
                ),
                in_image=None if in_image is None else search.verified(in_image),
                limit=limit,
                filling=filling,
            )
        )
    return results


def cell_evidence(model: MDNet, pixel_values: Tensor, aspect: Aspect) -> tuple[FloatArray, FloatArray]:
    """Logits (classes,) of one image, and its evidence by cell of the grid, (classes, rows, columns).

    Cells of finer blocks go to the cell of the grid that they lie in, cut ones in part, so that
    cells and bias sum to the logits.
    """
    batch = batch_evidence(model, pixel_values)
    maps = [block[0].double().cpu().numpy() for block in batch.blocks[aspect.name].values()]
    grid = maps[-1].shape[1:]
    total = np.zeros_like(maps[-1])
    for each in maps:
        down, across = (
            cell_weights(cells, fine) * fine / cells for cells, fine in zip(grid, each.shape[1:], strict=True)
        )
        total += down @ each @ across.T
    return batch.logits[aspect.name][0].double().cpu().numpy(), total


def rival_weights(aspect: Aspect, logits: FloatArray, against: str | None) -> FloatArray:
    """Rows (R, classes) whose products with the logits are all positive as long as the answer stands.

    Of classes that exclude each other, answer less rival; of a multi-label aspect every class by
    itself, with the sign of its presence.
    """
    unit = np.eye(len(logits))
    if aspect.multi_label:
        rows = np.where(logits >= 0, 1.0, -1.0)[:, None] * unit
        return rows if against is None else rows[[aspect.index(against)]]
    answer = int(logits.argmax())
    if against is None:
        return unit[answer] - np.delete(unit, answer, axis=0)
    if aspect.index(against) == answer:
        raise ConfigurationError(f"{aspect.name}: {against} is the model's answer; name another class")
    return (unit[answer] - unit[aspect.index(against)])[None]


def smallest_removal(ranked: FloatArray, margins: FloatArray, most: int) -> Cells | None:
    """The smallest set of cells whose evidence, left out, brings one margin below 0; None if there is none.

    Every cell adds to a margin by itself, so the largest ones go first and no other set is smaller.

    Args:
        ranked: (R, P) what each cell adds to each margin.
        margins: (R,) with all cells in place.
        most: How many cells may go.

    Returns:
        (P,) True where taken away.
    """
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :most]
    left = margins[:, None] - np.take_along_axis(ranked, order, axis=1).cumsum(axis=1)  # (R, most)
    enough = (left < 0).any(axis=0)
    if not enough.any():
        return None
    last = int(enough.argmax())
    cells = np.zeros(ranked.shape[1], bool)
    cells[order[left[:, last].argmin(), : last + 1]] = True
    return cells


def remove_cells(model: MDNet, pixel_values: Tensor, cells: Tensor, *, filling: str) -> Tensor:
    """One image without cells, once for every set.

    Args:
        model: Knows what the baselines are.
        pixel_values: (1, channels, H, W).
        cells: (N, rows, columns), True where taken away.
        filling: One of `FILLINGS`.

    Returns:
        (N, channels, H, W).
    """
    height, width = pixel_values.shape[-2:]
    rows = torch.arange(height, device=cells.device) * cells.shape[1] // height
    columns = torch.arange(width, device=cells.device) * cells.shape[2] // width
    gone = cells[:, rows][:, :, columns][:, None]  # (N, 1, H, W)
    if filling != "surroundings":
        return torch.where(gone, baseline_images(filling, model, pixel_values), pixel_values)
    kept = (~gone).to(pixel_values)
    down, across = (
        _gaussian(pixels, _REACH * pixels / grid).to(pixel_values)
        for pixels, grid in zip((height, width), cells.shape[1:], strict=True)
    )
    weight = down @ kept @ across.T
    colour = (pixel_values * kept).sum(dim=(2, 3), keepdim=True) / kept.sum(
        dim=(2, 3), keepdim=True
    ).clamp_min(1)
    faint = 1e-3  # of the image's mean colour, which is all there is far from any kept pixel
    around = (down @ (pixel_values * kept) @ across.T + faint * colour) / (weight + faint)
    return torch.where(gone, around, pixel_values)


def _gaussian(pixels: int, deviation: float) -> Tensor:
    """Matrix (pixels, pixels) that blurs along one axis, before normalisation."""
    place = torch.arange(pixels, dtype=torch.float64)
    return torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2) / (deviation * (2 * torch.pi) ** 0.5)


class _Search:
    """The search in the image: every question is a batch of runs of the model."""

    def __init__(
        self,
        model: MDNet,
        pixel_values: Tensor,
        aspect: Aspect,
        rivals: FloatArray,
        filling: str,
        shape: tuple[int, ...],
    ) -> None:
        self.model, self.pixel_values, self.aspect = model, pixel_values, aspect
        self.rivals, self.filling, self.shape = rivals, filling, shape

    def logits(self, cells: Cells) -> FloatArray:
        """Logits (N, classes) of the image without each set of cells (N, P)."""
        sets = torch.from_numpy(cells.reshape(-1, *self.shape)).to(self.pixel_values.device)
        found = []
        for some in sets.split(IMAGES_AT_ONCE):
            images = remove_cells(self.model, self.pixel_values, some, filling=self.filling)
            found.append(self.model(images).logits[self.aspect.name].double().cpu().numpy())
        return np.concatenate(found)

    def margins(self, cells: Cells) -> FloatArray:
        """The smallest margin without each set, (N,): below 0 the answer is another."""
        return (self.logits(cells) @ self.rivals.T).min(axis=1)

    def smallest(self, orders: npt.NDArray[np.intp], most: int) -> Cells | None:
        """The smallest set found along any rival's order (R, P), less what is not needed: (P,)."""
        if most < 1:
            return None
        rank = np.argsort(orders, axis=1)  # (R, P): a cell's place in each order
        sizes = np.unique(np.geomspace(1, most, _CANDIDATES).round().astype(int))
        changed = self.margins((rank[:, None] < sizes[:, None]).reshape(-1, rank.shape[1])) < 0
        changed = changed.reshape(len(rank), len(sizes))
        if not changed.any():
            return None
        first = np.where(changed.any(axis=1), changed.argmax(axis=1), len(sizes))
        rival = int(first.argmin())
        high = int(sizes[first[rival]])
        low = int(sizes[first[rival] - 1]) if first[rival] else 0
        while high - low > 1:  # the answer stands without `low` cells and is another without `high`
            between = np.unique(np.linspace(low + 1, high - 1, _CANDIDATES).round().astype(int))
            changed = self.margins(rank[rival] < between[:, None]) < 0
            index = int(changed.argmax()) if changed.any() else len(between)
            low = int(between[index - 1]) if index else low
            high = int(between[index]) if index < len(between) else high
        return self.pruned(rank[rival] < high)

    def pruned(self, cells: Cells) -> Cells:
        """A part of the set from which no single cell can be given back without the answer's return."""
        while True:
            taken = np.flatnonzero(cells)
            if len(taken) == 1:
                return cells
            without_one = np.repeat(cells[None], len(taken), axis=0)
            without_one[np.arange(len(taken)), taken] = False
            margins = self.margins(without_one)
            spare = taken[np.argsort(margins, kind="stable")][: int((margins < 0).sum())]
            if not len(spare):
                return cells
            without_more = np.repeat(cells[None], len(spare), axis=0)
            for count, cell in enumerate(spare):  # row i: the first i + 1 given back
                without_more[count:, cell] = False
            still = self.margins(without_more) < 0
            still[0] = True  # known from above
            still &= without_more.any(axis=1)
            cells = without_more[np.flatnonzero(still)[-1]]

    def verified(self, cells: Cells) -> Removal:
        """The set with what the model says without it, in a run of its own."""
        logits = self.logits(cells[None])[0]
        changed = bool((self.rivals @ logits).min() < 0)
        return _removal(self.aspect, cells.reshape(self.shape), logits, verified=changed)


def _removal(aspect: Aspect, cells: Cells, logits: FloatArray, *, verified: bool) -> Removal:
    after = aspect_finding(aspect, torch.from_numpy(logits))
    return Removal(cells, dict(after.logits), after.label, verified)
