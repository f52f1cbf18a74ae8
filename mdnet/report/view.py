"""A finding as the page shows it: rows for the templates, and the maps that the script draws.

`FindingView` is all that the templates know. Its `payload` is the JSON that `finding.js` reads;
arrays in it are base64, see `packed`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.errors import WeightsError
from mdnet.inference.finding import AspectFinding, Finding, SectionFinding
from mdnet.report.page import image_data_uri

__all__ = ["AspectRow", "ClassRow", "FindingView", "finding_view", "packed"]

SHOWN_CLASSES = 6  # of an aspect with more, the others are folded away


@dataclass(frozen=True)
class ClassRow:
    """One class of an aspect."""

    name: str
    probability: float
    chosen: bool
    true: bool


@dataclass(frozen=True)
class AspectRow:
    """One aspect: the model's answer and, where known, the truth.

    Attributes:
        probability: Of the answer; None, and no `classes`, where the system gives classes alone.
        folded: Classes beyond the `SHOWN_CLASSES` most probable ones.
        truth: The true class or classes; None where unknown.
        evidence: Position among the payload's aspects; None where the model gives no evidence.
    """

    name: str
    label: str
    probability: float | None
    multi_label: bool
    classes: tuple[ClassRow, ...]
    folded: tuple[ClassRow, ...]
    truth: str | None
    agrees: bool
    evidence: int | None


@dataclass(frozen=True)
class FindingView:
    """One finding, ready for `finding_widget.html`.

    Attributes:
        diagnosis: The aspect that concludes, if there is one; `aspects` holds the others.
        abstained: What stands in the place of the diagnosis where the finding gives none.
        out_of_distribution: What is said of an image that is; None where it is not, or not known.
        picture: Data URI; `width` and `height` are those of the image as decoded.
        payload: What `finding.js` reads.
        exact: Maps are float32 as the model gave them, not 16-bit steps.
        references: True reports, where known.
    """

    name: str
    source: str
    model: str
    picture: str
    width: int
    height: int
    diagnosis: AspectRow | None
    abstained: str | None
    out_of_distribution: str | None
    aspects: tuple[AspectRow, ...]
    sections: tuple[SectionFinding, ...]
    references: tuple[str, ...]
    payload: Mapping[str, Any]
    exact: bool

    @property
    def rows(self) -> tuple[AspectRow, ...]:
        """Every aspect, the diagnosis first."""
        return ((self.diagnosis,) if self.diagnosis else ()) + self.aspects


def finding_view(
    finding: Finding, *, max_side: int, exact: bool = True, truth: Mapping[str, Any] | None = None
) -> FindingView:
    """Prepares `finding` for the templates.

    Args:
        finding: What the model said.
        max_side: The picture is scaled down to this many pixels a side.
        exact: Keep the maps in float32 and the picture lossless; otherwise 16-bit steps and JPEG.
        truth: `{"id", "labels": {aspect: class or classes}, "references": [text, ...]}`, where known.

    Raises:
        WeightsError: A map holds values that are not finite.
    """
    truth = truth or {}
    diagnosis = finding.label_space.diagnosis
    shown = [
        name
        for name, evidence in finding.aspect_evidence.items()
        if name in finding.aspects and evidence.blocks
    ]
    shown.sort(key=lambda name: name != diagnosis)  # the page opens with the first: why this diagnosis
    labels: Mapping[str, Any] = truth.get("labels") or {}
    rows = {
        name: _aspect_row(aspect, labels.get(name), evidence=shown.index(name) if name in shown else None)
        for name, aspect in finding.aspects.items()
    }
    try:
        payload = {
            "aspects": [_aspect_payload(finding, name, exact=exact) for name in shown],
            "sections": [
                _section_payload(section, exact=exact) for section in finding.report.sections.values()
            ],
        }
    except WeightsError as error:
        raise WeightsError(f"{finding.source}: {error}") from None
    height, width = finding.image.shape[:2]
    unusual = finding.unusualness
    return FindingView(
        name=str(truth.get("id") or _name_of(finding) or "image"),
        source=finding.source,
        model=finding.model,
        picture=image_data_uri(finding.image, max_side, lossless=exact),
        width=width,
        height=height,
        diagnosis=rows.get(diagnosis) if diagnosis else None,
        abstained=finding.verdict if finding.abstained else None,
        out_of_distribution=str(unusual) if unusual is not None and unusual.beyond_threshold else None,
        aspects=tuple(row for name, row in rows.items() if name != diagnosis),
        sections=tuple(finding.report.sections.values()),
        references=tuple(truth.get("references") or ()),
        payload=payload,
        exact=exact,
    )


def _name_of(finding: Finding) -> str:
    """The file's name, or those of all views."""
    paths = [finding.source] if len(finding.views) == 1 else finding.source.split(" + ")
    return " + ".join(PurePath(path).name for path in paths)


def packed(maps: npt.ArrayLike, *, exact: bool) -> dict[str, Any]:
    """Maps (n, rows, columns) as JSON: `{"shape", "data"}`, and `"steps"` unless `exact`.

    Exact: little-endian float32. Otherwise int16 multiples of one step a map (`steps`, largest
    magnitude / 32766). The running sum is rounded rather than the values, so that any stretch of a
    map, the whole of it included, sums to the truth within one step.

    Raises:
        WeightsError: A value is not finite.
    """
    values = np.asarray(maps, dtype=np.float64)
    if not np.isfinite(values).all():
        raise WeightsError("a map holds values that are not finite; check the weights and the image")
    if exact:
        return {"shape": list(values.shape), "data": _base64(values.astype("<f4"))}
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))  # a section may have no word
    steps = np.abs(flat).max(axis=1, initial=0.0) / 32766
    running = np.rint(np.cumsum(flat / np.where(steps > 0, steps, 1.0)[:, None], axis=1))
    multiples = np.diff(running, axis=1, prepend=0.0).astype("<i2")
    return {"shape": list(values.shape), "steps": steps.tolist(), "data": _base64(multiples)}


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _aspect_row(aspect: AspectFinding, truth: object, *, evidence: int | None) -> AspectRow:
    true = () if truth is None else (truth,) if isinstance(truth, str) else tuple(map(str, _iterable(truth)))
    rows = [
        ClassRow(name, float(probability), chosen=name in aspect.labels, true=name in true)
        for name, probability in aspect.probabilities.items()
    ]
    folded: list[ClassRow] = []
    if len(rows) > SHOWN_CLASSES:
        rows.sort(key=lambda row: (not (row.chosen or row.true), -row.probability))
        rows, folded = rows[:SHOWN_CLASSES], rows[SHOWN_CLASSES:]
    return AspectRow(
        name=aspect.name,
        label=aspect.label,
        probability=aspect.probability if aspect.probabilities else None,
        multi_label=aspect.aspect.multi_label,
        classes=tuple(rows),
        folded=tuple(folded),
        truth=None if truth is None else ", ".join(true) or "none",
        agrees=set(true) == set(aspect.labels),
        evidence=evidence,
    )


def _iterable(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _aspect_payload(finding: Finding, name: str, *, exact: bool) -> dict[str, Any]:
    aspect, evidence = finding.aspects[name], finding.aspect_evidence[name]
    classes = aspect.aspect.classes
    by_probability = sorted(classes, key=lambda label: -aspect.probabilities[label])
    label = aspect.labels[0] if aspect.labels else by_probability[0]
    against = aspect.opposite(label)
    return {
        "name": aspect.name,
        "classes": list(classes),
        "logits": [float(aspect.logits[name]) for name in classes],
        "bias": evidence.bias.astype(np.float64).tolist(),
        "blocks": [
            {"name": block, "maps": packed(maps, exact=exact)} for block, maps in evidence.blocks.items()
        ],
        "label": classes.index(label),
        "against": -1 if against is None else classes.index(against),
    }


def _section_payload(section: SectionFinding, *, exact: bool) -> dict[str, Any]:
    return {
        "name": section.name,
        "words": list(section.words),
        "attention": packed(section.attention, exact=exact),
        "sharpness": [float(value) for value in section.sharpness],
        "probability": np.exp(section.log_probabilities).tolist(),
        "guide": [section.aspect, section.guided_by],
    }
