"""The page of one picture's explanations: every method's map side by side, in its own unit.

One self-contained HTML file with one opacity and one threshold for all maps; and an index of such
pages for a folder of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mdnet.errors import ConfigurationError
from mdnet.explain.explanation import Explanation
from mdnet.explain.registry import get_method
from mdnet.files import write_text
from mdnet.report.page import image_data_uri, render_page
from mdnet.report.view import packed

__all__ = ["Entry", "write_explain_index", "write_explain_page"]

DISPLAY_SIDE, THUMBNAIL_SIDE = 1024, 160  # pixels; larger images are scaled down for display


def write_explain_page(explanations: Sequence[Explanation], path: Path) -> Path:
    """Writes the page of one picture in one step.

    Args:
        explanations: Of one and the same picture, at least one.
        path: The file.

    Raises:
        ConfigurationError: There is none, or they are of several pictures.
        WeightsError: A map holds values that are not finite.
    """
    if len({each.source for each in explanations}) != 1:
        raise ConfigurationError(
            "a page shows the explanations of one picture: give those of one, at least one"
        )
    first = explanations[0]
    methods = [get_method(each.method) for each in explanations]
    html = render_page(
        "explain_page.html",
        script="explain.js",
        name=PurePath(first.source).name or "image",
        source=first.source,
        model=first.model,
        target=first.target,
        targets=list(dict.fromkeys(each.target for each in explanations)),
        picture=image_data_uri(first.image, DISPLAY_SIDE),
        width=first.image.shape[1],
        height=first.image.shape[0],
        cards=[
            {"summary": method.summary, "by_design": method.by_design, "residual": each.residual}
            | each.to_dict()
            for each, method in zip(explanations, methods, strict=True)
        ],
        payload=[_payload(each) for each in explanations],
    )
    return write_text(path, html)


@dataclass(frozen=True)
class Entry:
    """One picture of the index: its page, and what it shows in a thumbnail."""

    page: Path
    name: str
    target: str
    thumbnail: str

    @classmethod
    def of(cls, page: Path, explanation: Explanation) -> Entry:
        """The entry of a page, small enough to keep one for every image of a folder."""
        thumbnail = image_data_uri(explanation.image, THUMBNAIL_SIDE, lossless=False)
        return cls(page, PurePath(explanation.source).name, explanation.target, thumbnail)


def write_explain_index(entries: Sequence[Entry], path: Path) -> Path:
    """Writes the index of a folder: every picture with what was explained, linked to its page."""
    return write_text(
        path, render_page("explain_index.html", script="explain.js", entries=entries, folder=path.parent)
    )


def _payload(explanation: Explanation) -> dict[str, Any]:
    return {
        "method": explanation.method,
        "unit": explanation.unit,
        "diverging": explanation.signed,
        "adds_up": explanation.offset is not None,
        "map": packed(explanation.map[None], exact=True),
    }
