"""Where the words of a query look on an image: their attention, teacher-forced (formula 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mdnet.inference.likelihood import Texts
from mdnet.inference.retrieval.exact import score_query_parts
from mdnet.inference.retrieval.phrasing import PhrasedPart
from mdnet.inference.retrieval.query import QueryPart
from mdnet.inference.retrieval.store import FeatureStore
from mdnet.inference.sections import of_first_views
from mdnet.models.mdnet import MDNet

__all__ = ["Look", "looks_of"]


@dataclass(frozen=True)
class Look:
    """Where one text looks on one image.

    Attributes:
        text: What the model finds likeliest of all that stands for a part of the query.
        section: The section that says it.
        map: Mean attention of its words, (rows, columns) over the feature grid; sums to 1.
    """

    text: str
    section: str
    map: npt.NDArray[np.float64]


def looks_of(model: MDNet, store: FeatureStore, part: PhrasedPart, rows: Sequence[int]) -> list[Look]:
    """Where a part of a query looks, one for each of some images."""
    texts = [QueryPart(text.text, (section,)) for text in part.texts for section in text.sections]
    scores = score_query_parts(model, store, texts, rows=np.array(rows))  # (texts, images)
    return [
        _look(model, store, texts[best], row) for best, row in zip(scores.argmax(axis=0), rows, strict=True)
    ]


@torch.inference_mode()
def _look(model: MDNet, store: FeatureStore, text: QueryPart, row: int) -> Look:
    assert model.report is not None
    assert model.tokenizer is not None
    (section,) = text.sections
    words = model.tokenizer.encode(text.text)
    taught = Texts.of_words(model, [words], [model.config.sections.index(section)])
    features = store.features(np.array([row]))
    guides = model.guides(store.logits(np.array([row])))
    prepared = model.prepare(features, guides).of_sections(taught.sections[None])
    attention = model.report(taught.inputs[None], features.grid, prepared).attention[0, 0]  # (T, P)
    weights = attention.double().mean(dim=0).cpu().numpy().reshape(features.rows, features.columns)
    views = features.views if features.present is None else int(features.present.sum())
    heat = of_first_views(weights, views, features.views)
    return Look(text.text, section, heat / heat.sum())
