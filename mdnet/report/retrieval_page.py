"""The sheet of what a query found: every image with its score, and where the query's words look on it.

One self-contained HTML file. A map is the mean attention of the words of one part, drawn over the picture
from nothing to its own largest weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.files import write_text
from mdnet.inference.retrieval.looking import Look
from mdnet.inference.retrieval.phrasing import PhrasedPart
from mdnet.inference.retrieval.ranking import RankedImage
from mdnet.report.page import image_data_uri, render_page
from mdnet.report.view import packed

__all__ = ["SheetRow", "write_retrieval_page"]

DISPLAY_SIDE = 384  # pixels; larger images are scaled down for display


@dataclass(frozen=True)
class SheetRow:
    """One image of the sheet.

    Attributes:
        found: Its rank, score and diagnosis.
        name: What it is called.
        image: (H, W, 3) uint8.
        looks: Where each part of the query looks on it.
    """

    found: RankedImage
    name: str
    image: npt.NDArray[np.uint8]
    looks: Sequence[Look] = ()


def write_retrieval_page(
    rows: Sequence[SheetRow],
    path: Path,
    *,
    title: str,
    parts: Sequence[PhrasedPart] = (),
    model: str,
    folder: str,
    images: int,
) -> Path:
    """Writes the page in one step.

    Args:
        rows: Best first.
        path: The file.
        title: What was searched for.
        parts: Of the query; none of an image.
        model: Its name.
        folder: Where was searched.
        images: How many images were there.
    """
    html = render_page(
        "retrieval_page.html",
        script="retrieval.js",
        title=title,
        parts=parts,
        model=model,
        folder=folder,
        images=images,
        rows=[_row(row, parts) for row in rows],
        payload=[{"maps": [packed(look.map[None], exact=False) for look in row.looks]} for row in rows],
    )
    return write_text(path, html)


def _row(row: SheetRow, parts: Sequence[PhrasedPart]) -> dict[str, Any]:
    """What the template knows of an image."""
    found = row.found
    return {
        "rank": found.rank,
        "name": row.name,
        "score": found.hit.score,
        "diagnosis": found.diagnosis,
        "picture": image_data_uri(row.image, DISPLAY_SIDE, lossless=False),
        "width": row.image.shape[1],
        "height": row.image.shape[0],
        "looks": [
            {"part": part, "probability": math.exp(score), "score": score, "look": look}
            for part, score, look in zip(parts, found.parts, row.looks, strict=bool(row.looks))
        ],
    }
