"""One pass over the images: a compact record of every study, its maps scored and let go.

Memory grows by a few kilobytes a study; only the grids C(I) of the few studies that the likelihoods
are computed on are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from mdnet.data.study import Study
from mdnet.evaluation.maps import score_maps, tissue_share
from mdnet.evaluation.record import StudyRecord
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor
from mdnet.models.image_module import ImageFeatures

__all__ = ["Collected", "choose_sample", "collect"]


@dataclass(frozen=True)
class Collected:
    """What one pass leaves.

    Attributes:
        records: One a study, in order.
        features: C(I) of the studies asked for, by their place in `records`; a batch of one each.
    """

    records: list[StudyRecord]
    features: dict[int, ImageFeatures]


def collect(
    predictor: Predictor,
    studies: Sequence[Study],
    *,
    keep: Collection[int] = (),
    progress: bool = True,
) -> Collected:
    """Looks at the images of every study, as many as the model has views, once.

    Args:
        predictor: The model.
        studies: What to look at.
        keep: Places in `studies` whose features are kept.
        progress: Show a bar where stderr is a terminal.
    """
    records, kept = [], {}
    findings = predictor.stream_with_features(studies)
    pairs = zip(studies, findings, strict=True)
    hide = None if progress else True
    for place, (study, (finding, features)) in enumerate(
        tqdm(pairs, total=len(studies), disable=hide, unit="study")
    ):
        records.append(record_of(finding, study, features))
        if place in keep:
            kept[place] = replace(features, grid=features.grid.clone())  # not to hold the whole batch
    return Collected(records, kept)


def record_of(finding: Finding, study: Study, features: ImageFeatures) -> StudyRecord:
    """The record of one finding.

    Args:
        finding: What the model said.
        study: What is true.
        features: C(I), a batch of one.
    """
    space = finding.label_space
    one_answer = space.diagnosis is not None and not space[space.diagnosis].multi_label
    on_tissue = "tissue" in study.masks and one_answer
    return StudyRecord(
        study=study,
        labels={name: aspect.labels for name, aspect in finding.aspects.items()},
        probabilities={
            name: tuple(aspect.probabilities.values()) for name, aspect in finding.aspects.items()
        },
        text=finding.report.text if finding.report.sections else None,
        sections={name: section.text for name, section in finding.report.sections.items()},
        features=features.pooled()[0].float().cpu().numpy(),
        unusualness=finding.unusualness,
        maps=tuple(score_maps(finding, study)),
        tissue=tissue_share(finding, study) if on_tissue else None,
        line=prediction_line(finding, study),
    )


def prediction_line(finding: Finding, study: Study) -> dict[str, Any]:
    """A line of `predictions.jsonl`: what was said and what is true."""
    line = {"id": study.id, "patient": study.patient, "split": study.split} | finding.to_dict()
    line["logits"] = {name: dict(aspect.logits) for name, aspect in finding.aspects.items()}
    truth = {name: list(v) if isinstance(v, tuple) else v for name, v in study.labels.items()}
    line["truth"] = {"labels": truth, "report": {name: list(texts) for name, texts in study.report.items()}}
    return line


def choose_sample(size: int, limit: int, *, seed: int = 0) -> list[int]:
    """At most `limit` of `size` places, in order; the same ones every time."""
    if size <= limit:
        return list(range(size))
    return sorted(np.random.default_rng(seed).choice(size, limit, replace=False).tolist())
