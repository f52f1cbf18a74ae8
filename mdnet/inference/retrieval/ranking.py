"""The images that a query finds, best first, each with what the model says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.inference.finding import AspectFinding
from mdnet.inference.predictor import aspect_finding
from mdnet.inference.retrieval.phrasing import PhrasedPart, score_parts
from mdnet.inference.retrieval.store import FeatureStore
from mdnet.inference.retrieval.two_stage import Hit, find_rows, similar_images
from mdnet.models.mdnet import MDNet

__all__ = ["RankedImage", "rank_alike", "rank_images"]


@dataclass(frozen=True)
class RankedImage:
    """One image that was found.

    Attributes:
        rank: From 1.
        hit: The image, and its score: the sum of `parts`, or the likeness to another image.
        parts: Log p of each part of the query; none where an image was searched for.
        diagnosis: The aspect that concludes; None where the model has none.
    """

    rank: int
    hit: Hit
    parts: tuple[float, ...]
    diagnosis: AspectFinding | None

    def to_dict(self, asked: Sequence[PhrasedPart] = ()) -> dict[str, Any]:
        """As `--json` prints it."""
        record: dict[str, Any] = {"rank": self.rank, "image": self.hit.source, "score": self.hit.score}
        if self.diagnosis is not None:
            record |= {"diagnosis": self.diagnosis.label, "probability": self.diagnosis.probability}
        if asked:
            record["parts"] = [
                {"text": part.asked, "states": part.statement and str(part.statement), "score": score}
                for part, score in zip(asked, self.parts, strict=True)
            ]
        return record


def rank_images(
    model: MDNet, store: FeatureStore, parts: Sequence[PhrasedPart], *, top: int, exact: bool = False
) -> list[RankedImage]:
    """The images with the greatest log p(query | image), the sum over its parts.

    Args:
        model: In evaluation mode.
        store: The images.
        parts: As `phrase_query` gives them.
        top: How many.
        exact: Score every image of a large store too (`mdnet.inference.retrieval.two_stage.search`).
    """
    rows, scores = find_rows(
        store,
        lambda some: score_parts(model, store, parts, rows=some),
        [sorted({section for text in part.texts for section in text.sections}) for part in parts],
        top=top,
        two_stage=False if exact else None,
    )
    hits = [
        Hit(store.sources[row], row, score)
        for row, score in zip(rows.tolist(), scores.sum(axis=0).tolist(), strict=True)
    ]
    return _ranked(model, store, hits, scores.T.tolist())


def rank_alike(
    model: MDNet, store: FeatureStore, pooled: npt.NDArray[np.float32], *, top: int, but: str
) -> list[RankedImage]:
    """The images that are most like another (`similar_images`).

    Args:
        model: In evaluation mode.
        store: The images.
        pooled: C(I) of the other image, pooled over positions, (D,).
        top: How many.
        but: The source of the other image, which is left out where it is among them.
    """
    hits = [hit for hit in similar_images(store, pooled, top=top + 1) if hit.source != but][:top]
    return _ranked(model, store, hits, [[]] * len(hits))


def _ranked(
    model: MDNet, store: FeatureStore, hits: Sequence[Hit], parts: Sequence[Sequence[float]]
) -> list[RankedImage]:
    diagnoses = _diagnoses(model, store, hits)
    return [
        RankedImage(rank, hit, tuple(scores), diagnosis)
        for rank, (hit, scores, diagnosis) in enumerate(zip(hits, parts, diagnoses, strict=True), start=1)
    ]


def _diagnoses(model: MDNet, store: FeatureStore, hits: Sequence[Hit]) -> list[AspectFinding | None]:
    """The diagnosis of each image, calibrated where the model is."""
    space = model.config.space
    if space.diagnosis is None or not hits:
        return [None] * len(hits)
    logits = store.logits(np.array([hit.row for hit in hits]))[space.diagnosis].cpu().double()
    temperatures = model.calibration.temperatures if model.calibration is not None else {}
    temperature = temperatures.get(space.diagnosis, 1.0)
    return [aspect_finding(space[space.diagnosis], row, temperature=temperature) for row in logits]
