"""The reports that fit an image: texts of a data set ranked by log p(report | image)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdnet.data.study import Study
from mdnet.errors import ConfigurationError
from mdnet.inference.likelihood import EncodedImage, report_log_likelihoods
from mdnet.inference.predictor import Predictor

__all__ = ["RankedReport", "rank_reports"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankedReport:
    """One report.

    Attributes:
        rank: From 1.
        study: Id of the study that it was written of.
        score: log p(report | image), natural logarithm.
        report: Section name to text.
    """

    rank: int
    study: str
    score: float
    report: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


@torch.inference_mode()
def rank_reports(
    predictor: Predictor, image: Path, studies: Sequence[Study], *, top: int
) -> list[RankedReport]:
    """The likeliest reports, the first writer's of each study, word for word the same ones once.

    Reports that lack a section of the model are left out: they could not be compared with whole ones. Nor is
    anything set right for length: of two that fit, the shorter is the likelier.

    Raises:
        ConfigurationError: No study has a whole report.
        ImageError: The image cannot be decoded.
    """
    model = predictor.model
    sections = model.config.sections
    whole = {
        study.id: {name: study.report[name][0] for name in sections}
        for study in studies
        if sections and all(study.report.get(name) for name in sections)
    }
    if not whole:
        raise ConfigurationError(
            f"no study has a report with the model's sections ({', '.join(sections) or 'none'}): name a data "
            "set with such reports"
        )
    if len(whole) < len(studies):
        _log.info("%d of %d studies have no whole report", len(studies) - len(whole), len(studies))
    first: dict[tuple[str, ...], str] = {}
    for name, report in whole.items():
        first.setdefault(tuple(report.values()), name)
    names = list(first.values())
    reports = [whole[name] for name in names]
    features = model.encode(*predictor.strips([predictor.decoded(image)]))
    logits = model.heads(features)[0] if model.heads is not None else None
    encoded = EncodedImage(features, model.guides(logits))
    scores = report_log_likelihoods(model, [encoded], reports)[:, 0]
    return [
        RankedReport(rank, names[row], float(scores[row]), reports[row])
        for rank, row in enumerate(np.argsort(-scores, kind="stable")[:top], start=1)
    ]
