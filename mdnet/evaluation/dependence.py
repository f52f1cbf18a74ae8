"""Does the language module hear the image? log p(reference | image), on its own image and on others.

A sample of studies is enough: every text is scored on every image of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mdnet.data.study import LabelSpace, Study
from mdnet.evaluation.collect import choose_sample
from mdnet.evaluation.record import Metrics, StudyRecord
from mdnet.inference.likelihood import EncodedImage, report_log_likelihoods
from mdnet.metrics.retrieval import retrieval_metrics
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

__all__ = ["ImageDependence", "measure_dependence", "sampled_places"]

_SAMPLE = 100


@dataclass(frozen=True)
class ImageDependence:
    """What the likelihoods say.

    Attributes:
        metrics: `retrieval` and `likelihood` of `metrics.json`.
        records: The sampled studies for which there is an image of another report.
        gains: For each of them log p(own report | own image), less the mean over the images of other
            reports; 0 on average where the image does not matter.
    """

    metrics: Metrics
    records: list[StudyRecord]
    gains: list[float]


def sampled_places(model: MDNet, studies: Sequence[Study]) -> list[int]:
    """Places of at most 100 studies with a report in the model's sections; none where it writes none."""
    if model.report is None:
        return []
    written = [place for place, study in enumerate(studies) if reference_of(study, model.config.sections)]
    return [written[place] for place in choose_sample(len(written), _SAMPLE)]


def measure_dependence(
    model: MDNet, records: Sequence[StudyRecord], features: Mapping[int, ImageFeatures]
) -> ImageDependence | None:
    """Scores the reports of the sampled studies on each other's images; None with fewer than two.

    Args:
        model: It wrote the records.
        records: All of them.
        features: C(I) of the sampled ones, by place in `records`; a batch of one each.
    """
    if len(features) < 2:
        return None
    sampled = [records[place] for place in features]
    reports = [reference_of(record.study, model.config.sections) for record in sampled]
    images = [
        EncodedImage(each, guides_of(records[place], model.config.space, each.grid.device))
        for place, each in features.items()
    ]
    scores = report_log_likelihoods(model, images, reports)  # (texts, images)
    same = np.array([[one == other for other in reports] for one in reports])
    compared = [row for row in range(len(sampled)) if not same[row].all()]
    own = [float(scores[row, row]) for row in compared]
    others = [float(scores[row, ~same[row]].mean()) for row in compared]
    metrics: Metrics = {"retrieval": retrieval_metrics(scores, same)}
    if compared:
        metrics["likelihood"] = {
            "studies": len(compared),
            "own_image": float(np.mean(own)),
            "other_images": float(np.mean(others)),
        }
    gains = [mine - theirs for mine, theirs in zip(own, others, strict=True)]
    return ImageDependence(metrics, [sampled[row] for row in compared], gains)


def reference_of(study: Study, sections: Sequence[str]) -> dict[str, str]:
    """The first writer's text of each of the model's sections."""
    return {name: study.report[name][0] for name in sections if study.report.get(name)}


def guides_of(record: StudyRecord, space: LabelSpace, device: torch.device) -> dict[str, Tensor]:
    """The predicted classes, as `MDNet.guides` gives them for a batch of one."""
    guides = {}
    for aspect in space.aspects:
        labels = record.labels[aspect.name]
        if aspect.multi_label:
            guide = torch.tensor([[float(name in labels) for name in aspect.classes]])
        else:
            guide = torch.tensor([aspect.index(labels[0])])
        guides[aspect.name] = guide.to(device)
    return guides
