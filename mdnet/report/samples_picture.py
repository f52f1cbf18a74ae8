"""A few studies as one picture: image, evidence for the diagnosis, attention of each section, both reports.

Drawn after every epoch of a training, so it is put together from pixels: dozens of matplotlib panels
would take seconds. The font is the one that matplotlib brings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mdnet.data.study import Study
from mdnet.inference.finding import Finding
from mdnet.report.colour_maps import COLOURS, diverging, sequential
from mdnet.report.figures import INK

__all__ = ["samples_picture"]

_SIDE, _GAP = 120, 6  # pixels: height of a panel, space around it
_PANELS = 8  # that fit side by side; a report of more sections is drawn up to here
_WIDTH = _PANELS * (_SIDE + _GAP) + _GAP
_FONT, _LINE = 11, 14  # pixels
_TITLE_LINES, _TEXT_LINES = 3, 4  # most of a panel's title, and of a report
_OPACITY = 0.65
_BLACK = "#111111"

Pixels = npt.NDArray[np.uint8]


class _Panel(NamedTuple):
    """A picture (rows, columns, 3) and the lines above it."""

    title: tuple[str, ...]
    pixels: Pixels


def samples_picture(findings: Sequence[Finding], studies: Sequence[Study]) -> Pixels:
    """What a model writes and where it looks, beside what is true: (rows, columns, 3).

    Every map has its own scale, which stands above it: of the evidence its largest amount in either
    direction, of the attention (a mean over the section's words) its largest weight.

    Args:
        findings: At least one.
        studies: Theirs, in the same order.
    """
    import matplotlib

    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT)
    return np.concatenate(
        [_drawn(finding, study, font) for finding, study in zip(findings, studies, strict=True)]
    )


def _drawn(finding: Finding, study: Study, font: ImageFont.FreeTypeFont) -> Pixels:
    """One study: a row of panels, and both reports below it."""
    panels = _panels(finding, study.id)
    width = panels[0].pixels.shape[1]
    columns = min(len(panels), max(1, (_WIDTH - _GAP) // (width + _GAP)))
    texts = [
        (_wrapped(f"true: {next(iter(study.references()), 'no report')}", font), INK[2]),
        (_wrapped(f"written: {finding.report.text or 'no report'}", font), INK[0]),
    ]
    top = _GAP + _TITLE_LINES * _LINE + 2
    y = top + _SIDE + _GAP
    height = y + sum(len(lines) * _LINE + 3 for lines, _ in texts) + 2 * _GAP
    canvas = Image.new("RGB", (max(_WIDTH, width + 2 * _GAP), height), "white")
    pen = ImageDraw.Draw(canvas)
    for place, panel in enumerate(panels[:columns]):
        left = _GAP + place * (width + _GAP)
        canvas.paste(Image.fromarray(panel.pixels), (left, top))
        for line, text in enumerate(reversed(panel.title)):
            pen.text((left, top - 2 - (line + 1) * _LINE), _cut(text, width, font), _BLACK, font)
    for report, colour in texts:
        for row in report:
            pen.text((_GAP, y), row, colour, font)
            y += _LINE
        y += 3
    return np.asarray(canvas)


def _panels(finding: Finding, name: str) -> list[_Panel]:
    height, width = finding.image.shape[:2]
    size = (min(max(1, round(_SIDE * width / height)), _WIDTH - 2 * _GAP), _SIDE)
    image = np.asarray(Image.fromarray(finding.image).resize(size, Image.Resampling.BILINEAR))
    panels = [_Panel((name,), image)]
    if finding.label_space.diagnosis is not None:
        answer = finding.diagnosis
        label = max(answer.logits, key=lambda name: answer.logits[name])
        against = answer.opposite(label)
        heat = finding.evidence(answer.name, label, against=against)
        against_line = () if against is None else (f"against {against}",)
        title = (f"for {label}", *against_line, f"±{np.abs(heat).max():.1e} a pixel")
        panels.append(_Panel(title, _overlaid(image, heat, signed=True)))
    for section in finding.report.sections.values():
        mean = section.attention.mean(axis=0) if len(section.words) else np.zeros((1, 1))
        scale = f"0 to {mean.max():.2g}" if len(section.words) else "no word"
        panels.append(_Panel((section.name, scale), _overlaid(image, mean, signed=False)))
    return panels


def _overlaid(image: Pixels, heat: npt.NDArray[np.floating], *, signed: bool) -> Pixels:
    """A map over the grey image, from 0 (signed: the middle of the colours) to its largest value."""
    limit = float(np.abs(heat).max()) or 1.0  # a map of zeros is drawn as zeros
    share = 0.5 + 0.5 * heat / limit if signed else heat / limit
    index = np.rint(np.clip(np.nan_to_num(share), 0.0, 1.0) * (COLOURS - 1)).astype(np.uint8)
    rows, columns = image.shape[:2]
    places = np.asarray(Image.fromarray(index).resize((columns, rows), Image.Resampling.NEAREST))
    colours = (diverging() if signed else sequential())[places]  # (rows, columns, 3)
    grey = image.mean(axis=2, keepdims=True)
    return np.rint(_OPACITY * colours + (1.0 - _OPACITY) * grey).astype(np.uint8)


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Lines about as wide as the picture."""
    letters = int(0.95 * (_WIDTH - 2 * _GAP) * len(text) / font.getlength(text))
    return textwrap.wrap(text, letters, max_lines=_TEXT_LINES, placeholder=" ...")


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """As much of a text as fits into so many pixels."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
