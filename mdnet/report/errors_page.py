"""The page of the surest errors: each image beside the evidence for the wrong answer against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mdnet.explain.overview.error_analysis import AspectErrors, ErrorCase
from mdnet.files import write_text
from mdnet.inference.finding import Finding, FloatArray
from mdnet.report.colour_maps import diverging
from mdnet.report.page import image_data_uri, render_page

__all__ = ["write_errors_page"]

_SIDE = 256  # pixels that a picture is shown at
_OPACITY = 0.65


def write_errors_page(
    path: Path,
    *,
    model: str,
    studies: int,
    errors: Mapping[str, AspectErrors],
    cases: Sequence[ErrorCase],
    findings: Mapping[str, Finding],
    pages: Mapping[str, Path],
) -> Path:
    """Writes the page in one step.

    Args:
        path: The file.
        model: Name of the weights.
        studies: How many were looked at.
        errors: By aspect.
        cases: What to show, in this order.
        findings: Study id to what the model said, of every case.
        pages: Study id to the finding's own page, under the folder of `path`.
    """
    html = render_page(
        "errors_page.html",
        script="scatter.js",
        model=model,
        studies=studies,
        errors=errors,
        cases=[
            _shown(case, findings[case.study], pages[case.study].relative_to(path.parent)) for case in cases
        ],
    )
    return write_text(path, html)


def _shown(case: ErrorCase, finding: Finding, page: PurePath) -> dict[str, Any]:
    evidence = finding.evidence(case.aspect, case.label, against=case.against)
    heat = _displayed(np.asarray(evidence))
    limit = float(np.abs(heat).max())
    return {
        "case": case,
        "page": page.as_posix(),
        "image": image_data_uri(finding.image, _SIDE, lossless=False),
        "map": image_data_uri(_overlay(finding.image, heat, limit), _SIDE),
        "limit": limit,
        "total": _signed(evidence.total),
        "terms": [
            *(f"{block.name} {_signed(float(block.sum()))}" for block in evidence.blocks),
            f"bias {_signed(evidence.bias)}",
        ],
    }


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _displayed(heat: FloatArray) -> FloatArray:
    """The map at the size that it is shown at; larger ones as means over display pixels."""
    rows, columns = heat.shape
    scale = min(_SIDE / max(rows, columns), 1.0)
    size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    picture = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(picture, np.float64)


def _overlay(image: npt.NDArray[np.uint8], heat: FloatArray, limit: float) -> npt.NDArray[np.uint8]:
    """The map in colours over the picture in grey; `limit` takes the ends of the scale, 0 the middle."""
    table = diverging()
    share = heat / limit if limit > 0 else np.zeros_like(heat)
    colours = table[np.rint((share + 1.0) / 2.0 * (len(table) - 1)).astype(int)]  # (rows, columns, 3)
    grey = Image.fromarray(image).convert("L").resize(heat.shape[::-1], Image.Resampling.BOX)
    mixed = _OPACITY * colours + (1.0 - _OPACITY) * np.asarray(grey, np.float64)[..., None]
    return np.rint(mixed).astype(np.uint8)
