"""What the benchmark feeds to methods: studies in batches of one class, and their maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdnet.data.images import load_mask
from mdnet.data.study import Study
from mdnet.data.views import mask_strip
from mdnet.explain.by_design import spread_over
from mdnet.explain.registry import Maps, get_method
from mdnet.explain.targets import ClassTarget, Scorer, SectionTarget
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet

__all__ = ["RANDOM", "SECTION", "Batch", "batches_of", "draw", "maps_of"]

RANDOM = "random"  # in no registry: random numbers on a coarse grid, which all methods are read against
SECTION = "section_attention"
_RANDOM_CELL = 8  # pixels


@dataclass(frozen=True)
class Batch:
    """Studies of one true class.

    Attributes:
        target: That class against the reference class.
        pixel_values: (N, channels, H, W)
        masks: (N, H, W) bool; empty where a study has none.
        findings: What the model said.
        section: The section that the aspect guides, if any.
    """

    target: ClassTarget
    pixel_values: Tensor
    masks: NDArray[np.bool_]
    findings: list[Finding]
    section: str | None


def batches_of(
    predictor: Predictor, studies: Sequence[Study], aspect: str, section: str | None
) -> Iterator[Batch]:
    """The studies in batches of one class."""
    reference = predictor.model.config.space[aspect].reference
    by_label: dict[str, list[Study]] = defaultdict(list)
    for study in studies:
        by_label[str(study.labels[aspect])].append(study)
    for label, members in by_label.items():
        for start in range(0, len(members), predictor.batch_size):
            chosen = members[start : start + predictor.batch_size]
            pictures = [predictor.decoded(study) for study in chosen]
            pixel_values = predictor.pixel_values(pictures)
            views = predictor.model.views
            size = (pixel_values.shape[2], pixel_values.shape[3] // views)
            masks = [
                mask_strip(load_mask(study.masks[aspect], size), views)
                if aspect in study.masks
                else np.zeros(pixel_values.shape[2:], bool)
                for study in chosen
            ]
            findings = list(predictor.stream(pictures))
            yield Batch(
                ClassTarget(aspect, label, reference), pixel_values, np.stack(masks), findings, section
            )


def draw(model: MDNet, name: str, batch: Batch, seed: int) -> Maps | Tensor:
    """A method's maps of a batch; those of a section are of what the model itself wrote."""
    images = batch.pixel_values
    if name == RANDOM:
        random = torch.Generator().manual_seed(seed)
        cells = torch.rand(
            len(images), *(-(-side // _RANDOM_CELL) for side in images.shape[2:]), generator=random
        )
        return spread_over(cells.to(images), images.shape[2:])
    if name != SECTION:
        return get_method(name).draw(Scorer(model, batch.target), images, seed=seed)
    assert batch.section is not None
    targets = [SectionTarget.of(finding, batch.section) for finding in batch.findings]
    # A section left empty looked nowhere: its map stays flat.
    maps = images.new_zeros(len(images), *batch.findings[0].attention(batch.section).shape[1:])
    for target in dict.fromkeys(target for target in targets if target.words):
        rows = [row for row, other in enumerate(targets) if other == target]
        maps[rows] = maps_of(get_method(SECTION).draw(Scorer(model, target), images[rows]))
    return maps


def maps_of(drawn: Maps | Tensor) -> Tensor:
    return (drawn.maps if isinstance(drawn, Maps) else drawn).detach()
