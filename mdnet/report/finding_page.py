"""The page of one finding: what was said, and which part of the image says it.

One self-contained HTML file. Pointing at a word shows its attention; choosing an aspect and two
classes shows the contrast (formula 3 of docs/method.md) with its sum check.
"""

from __future__ import annotations

from pathlib import Path

from mdnet.files import write_text
from mdnet.inference.finding import Finding
from mdnet.report.page import render_page
from mdnet.report.view import finding_view

__all__ = ["render_finding_page", "write_finding_page"]

DISPLAY_SIDE = 1024  # pixels; larger images are scaled down for display


def render_finding_page(finding: Finding) -> str:
    """The page as one string of HTML; maps are embedded in float32, as the model gave them."""
    return render_page("finding_page.html", view=finding_view(finding, max_side=DISPLAY_SIDE))


def write_finding_page(finding: Finding, path: Path) -> Path:
    """Writes the page in one step and returns `path`."""
    return write_text(path, render_finding_page(finding))
