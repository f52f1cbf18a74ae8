"""The page of a data set in the plane: every study a mark, its picture and answers beside it.

One self-contained HTML file. All thumbnails stand in one JPEG; colours are those of Okabe & Ito, "Color
Universal Design" (2008), and every class has a shape of its own besides.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mdnet.explain.overview.embedding import METHODS, Embedding
from mdnet.explain.overview.observations import Observation
from mdnet.explain.overview.summary import Overview
from mdnet.files import write_text
from mdnet.report.page import render_page

__all__ = ["METHOD_TITLES", "SPACE_TITLES", "write_scatter_page"]

SPACE_TITLES = {"pixels": "Pixels", "features": "C(I)", "sections": "Sections"}
METHOD_TITLES = dict(zip(METHODS, ("PCA", "t-SNE", "UMAP"), strict=True))

_NOTES = {
    "pixels": "the image itself, downsized; what the model adds to it is seen by comparing with C(I)",
    "features": "the image module’s features, pooled over positions, each of unit variance",
    "sections": "what the report LSTM held while it wrote: its mean hidden state of each section, side by "
    "side, each of unit variance",
}
_QUALITY = 70  # of the JPEG


def write_scatter_page(overview: Overview, path: Path) -> Path:
    """Writes the page in one step; it grows by some 2 kB a study, to about 4 MB."""
    observations = overview.observations
    sheet, columns = _sprites(observations)
    html = render_page(
        "scatter_page.html",
        script="scatter.js",
        model=overview.model,
        count=len(observations),
        aspects=overview.space.names,
        spaces={name: SPACE_TITLES[name] for name in dict.fromkeys(e.space for e in overview.embeddings)},
        methods={name: METHOD_TITLES[name] for name in dict.fromkeys(e.method for e in overview.embeddings)},
        first=overview.space.diagnosis,
        payload={
            "sheet": sheet,
            "columns": columns,
            "side": observations[0].thumbnail.shape[0],
            "aspects": [
                {"name": aspect.name, "classes": list(aspect.classes)} for aspect in overview.space.aspects
            ],
            "studies": [_study(each, overview.space.names) for each in observations],
            "embeddings": [_embedding(each) for each in overview.embeddings],
        },
    )
    return write_text(path, html)


def _study(observation: Observation, aspects: Sequence[str]) -> dict[str, Any]:
    """Id, and truth and answer of every aspect in words; null where there is no truth."""
    record = observation.record
    labels = record.study.labels
    truth = [None if labels.get(name) is None else _words(labels[name]) for name in aspects]
    return {"id": record.study.id, "truth": truth, "said": [_words(record.labels[name]) for name in aspects]}


def _words(labels: str | tuple[str, ...]) -> str:
    return labels if isinstance(labels, str) else ", ".join(labels) or "none"


def _embedding(embedding: Embedding) -> dict[str, Any]:
    return {
        "space": embedding.space,
        "method": embedding.method,
        "points": [[float(f"{value:.5g}") for value in point] for point in embedding.points],
        "facts": embedding_facts(embedding),
        "note": _NOTES[embedding.space],
        "agreement": {
            name: {
                "chance": whole.chance,
                "space": whole.neighbours,
                "plane": embedding.in_plane[name].neighbours,
                "silhouette": embedding.in_plane[name].silhouette,
            }
            for name, whole in embedding.in_space.items()
        },
    }


def embedding_facts(embedding: Embedding) -> str:
    """What the picture was made with, in words."""
    values = embedding.parameters
    whole = f"{METHOD_TITLES[embedding.method]} of {embedding.dimensions} dimensions"
    if embedding.method == "pca":
        shares = [f"{share:.0%}" for share in values["explained_variance"]]
        return f"{whole}; the axes hold {' and '.join(shares)} of the variance"
    settings = ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items() if name != "divergence"
    )
    return f"{whole}; {settings}; distances and sizes of clusters mean little, who is near whom does"


def _sprites(observations: Sequence[Observation]) -> tuple[str, int]:
    """All thumbnails, row by row, as one JPEG data URI; and how many stand in a row."""
    side = observations[0].thumbnail.shape[0]
    columns = math.ceil(math.sqrt(len(observations)))
    rows = math.ceil(len(observations) / columns)
    sheet = np.zeros((rows * side, columns * side, 3), np.uint8)
    for place, each in enumerate(observations):
        top, left = side * (place // columns), side * (place % columns)
        sheet[top : top + side, left : left + side] = each.thumbnail
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", columns
