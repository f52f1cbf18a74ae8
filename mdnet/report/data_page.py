"""The contact sheet of a data set: studies with their images, labels, reports and masks on one page.

One self-contained HTML file, to be looked through by eye: what is cut off, upside down, under a wrong
label, or has another study's report.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mdnet.data.images import MaskArray, load_image, load_mask
from mdnet.data.study import Study, StudySet
from mdnet.errors import DataError, ImageError
from mdnet.files import write_text
from mdnet.report.page import image_data_uri, render_page

__all__ = ["OUTLINES", "choose_studies", "write_data_page"]

OUTLINES = ("#00e5ff", "#ffeb3b", "#76ff03", "#ff4dd8", "#ffffff")
"""Colours of the outlines of masks, by the place of the structure's name; they repeat beyond the last."""

_SIDE = 320  # pixels; larger images are scaled down
_AHEAD = 64  # studies that are decoded at once
_HALO = (0, 0, 0, 150)  # around an outline, so that it is seen on any ground


@dataclass(frozen=True)
class _Picture:
    """A view as a data URI, or why there is none."""

    uri: str = ""
    width: int = 0
    height: int = 0
    fault: str = ""


@dataclass(frozen=True)
class _Outline:
    """The edge of a mask, as a transparent picture over the first view, or why there is none."""

    structure: str
    uri: str = ""
    fault: str = ""


@dataclass(frozen=True)
class _Card:
    """One study."""

    study: Study
    pictures: tuple[_Picture, ...]
    outlines: tuple[_Outline, ...]

    @property
    def labels(self) -> list[tuple[str, str]]:
        """Aspect and class; a study may have several classes of an aspect."""
        return [
            (aspect, name)
            for aspect, label in self.study.labels.items()
            for name in ((label,) if isinstance(label, str) else label)
        ]


def choose_studies(
    studies: StudySet,
    *,
    split: str | None = None,
    aspect: str | None = None,
    label: str | None = None,
    limit: int = 60,
) -> tuple[Sequence[Study], int]:
    """At most `limit` studies, evenly spaced over all that are asked for, and how many those are.

    Args:
        studies: To choose from.
        split: Only of this one.
        aspect: Only studies with a label of it.
        label: Only studies of this class of `aspect`.
        limit: Most studies.

    Raises:
        ConfigurationError: No such aspect or class.
        DataError: No study is asked for.
    """
    found = studies.studies if split is None else studies.split(split)
    if aspect is not None:
        known = studies.label_space[aspect]
        if label is not None:
            known.index(label)
        found = [study for study in found if _has(study, aspect, label)]
    if not found:
        what = (
            "no study that can be shown"
            if aspect is None
            else f"no study of {aspect}: {label or 'any class'}"
        )
        raise DataError(studies.root, what, "ask for another split or class, or see mdnet data check")
    shown = min(limit, len(found))
    return [found[place * len(found) // shown] for place in range(shown)], len(found)


def write_data_page(
    path: Path,
    studies: StudySet,
    chosen: Sequence[Study],
    *,
    asked_for: str,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the page in one step.

    Args:
        path: The file.
        studies: The data set.
        chosen: The studies to show, as `choose_studies` gives them. An image that cannot be decoded is
            shown as the reason why.
        asked_for: What was chosen, in words.
        progress: Called with the number of studies done and the number of all.
    """
    structures = tuple(dict.fromkeys(name for study in chosen for name in study.masks))
    cards: list[_Card] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(chosen), _AHEAD):
            for card in pool.map(lambda study: _card(study, structures), chosen[start : start + _AHEAD]):
                cards.append(card)
                if progress is not None:
                    progress(len(cards), len(chosen))
    classes = [f"{aspect.name}: {name}" for aspect in studies.label_space.aspects for name in aspect.classes]
    present = {f"{aspect}: {name}" for card in cards for aspect, name in card.labels}
    html = render_page(
        "data_page.html",
        script="data_page.js",
        name=studies.root.resolve().name,
        studies=studies,
        asked_for=asked_for,
        cards=cards,
        structures=[(name, _colour(place)) for place, name in enumerate(structures)],
        classes=[name for name in classes if name in present],
        splits=list(dict.fromkeys(study.split for study in chosen if study.split)),
        errors=sum(1 for _ in studies.errors()),
    )
    return write_text(path, html)


def _has(study: Study, aspect: str, label: str | None) -> bool:
    found = study.labels.get(aspect)
    return found is not None and (
        label is None or label == found or (isinstance(found, tuple) and label in found)
    )


def _card(study: Study, structures: Sequence[str]) -> _Card:
    pictures = tuple(_picture(image) for image in study.images)
    size = (pictures[0].height, pictures[0].width)
    outlines = tuple(
        _outline(name, mask, size, _colour(structures.index(name))) for name, mask in study.masks.items()
    )
    return _Card(study, pictures, outlines if pictures[0].uri else ())


def _picture(path: Path) -> _Picture:
    try:
        image = load_image(path)
    except ImageError as error:
        return _Picture(fault=f"{path.name}: {error.problem}")
    return _Picture(image_data_uri(image, _SIDE, lossless=False), image.shape[1], image.shape[0])


def _outline(structure: str, path: Path, size: tuple[int, int], colour: str) -> _Outline:
    """The outline of a mask over an image of `size` (rows, columns), about `_SIDE` pixels large."""
    try:
        scale = _SIDE / max(*size, 1)
        rows, columns = (max(round(side * scale), 1) for side in size)
        uri = _outline_data_uri(load_mask(path, (rows, columns)), colour)
    except ImageError as error:
        return _Outline(structure, fault=f"{path.name}: {error.problem}")
    return _Outline(structure, uri)


def _outline_data_uri(mask: MaskArray, colour: str) -> str:
    """The edge of a mask (H, W) as a transparent PNG: a line inside, a dark halo around it."""
    line = mask & ~_shrunk(_shrunk(mask))
    halo = ~_shrunk(~line) & ~line
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[halo] = _HALO
    pixels[line] = (*bytes.fromhex(colour.removeprefix("#")), 255)
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(4, method=Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _shrunk(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where a pixel and its four neighbours are inside; beyond the border counts as inside."""
    inner = np.pad(mask, 1, constant_values=True)
    return mask & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]


def _colour(place: int) -> str:
    return OUTLINES[place % len(OUTLINES)]
