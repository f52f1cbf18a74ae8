"""The page of one run: what was trained on what, how well, and some of its findings.

The findings are the same interactive widget as in `finding_page`; truth stands beside each answer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdnet.errors import ConfigurationError
from mdnet.files import write_text
from mdnet.inference.finding import Finding
from mdnet.report.loss_curve import loss_curve
from mdnet.report.metrics_table import metrics_tables
from mdnet.report.page import image_data_uri, render_page
from mdnet.report.view import FindingView, finding_view

__all__ = ["write_run_page"]

logger = logging.getLogger(__name__)

DISPLAY_SIDE, THUMBNAIL_SIDE = 384, 64  # pixels
MOST_BYTES = 6_000_000  # of findings in the page; those beyond are left out, and the page says so


@dataclass(frozen=True)
class _Study:
    view: FindingView
    thumbnail: str

    @property
    def bytes(self) -> int:
        arrays = [block["maps"] for aspect in self.view.payload["aspects"] for block in aspect["blocks"]]
        arrays += [section["attention"] for section in self.view.payload["sections"]]
        return sum(len(array["data"]) for array in arrays) + len(self.view.picture) + len(self.thumbnail)

    @property
    def known(self) -> int:
        """Number of aspects whose truth is known."""
        return sum(row.truth is not None for row in self.view.rows)

    @property
    def right(self) -> int:
        """Number of those that the model named as the truth does."""
        return sum(row.truth is not None and row.agrees for row in self.view.rows)


def write_run_page(
    path: Path,
    *,
    title: str,
    metrics: Mapping[str, Any],
    findings: Sequence[Finding],
    truths: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> Path:
    """Writes the run's `index.html`, one self-contained file, in one step.

    Args:
        path: The file.
        title: The page's heading.
        metrics: `metrics.json`: group to metric to value, nested at will; `baselines` beside.
        findings: Studies to show, in this order.
        truths: One for each finding: `{"id", "labels": {aspect: class}, "references": [text, ...]}`.
        history: Rows of `history.csv`, at least `epoch` and some `loss` columns; may be empty.
        provenance: What was trained on what (`model`, `data`, seed, versions, ...), nested at will.

    Raises:
        ConfigurationError: Not one truth a finding.
        WeightsError: A map holds values that are not finite.
    """
    if len(findings) != len(truths):
        raise ConfigurationError(
            f"{len(findings)} findings but {len(truths)} truths: give one for each, in the same order"
        )
    studies: list[_Study] = []
    size = 0
    for finding, truth in zip(findings, truths, strict=True):
        view = finding_view(finding, max_side=DISPLAY_SIDE, exact=False, truth=truth)
        study = _Study(view, image_data_uri(finding.image, THUMBNAIL_SIDE, lossless=False))
        size += study.bytes
        if studies and size > MOST_BYTES:
            logger.warning(
                "%s: shows %d of %d studies, to keep the file small", path, len(studies), len(findings)
            )
            break
        studies.append(study)
    html = render_page(
        "run_page.html",
        title=title,
        tables=metrics_tables(metrics),
        studies=studies,
        offered=len(findings),
        curve=loss_curve(history),
        history=list(history),
        provenance=_facts(provenance),
        model=provenance.get("model"),
        data=provenance.get("data"),
    )
    return write_text(path, html)


def _facts(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(name, value) pairs of a nested record, names joined by ": "."""
    facts: list[tuple[str, str]] = []
    for name, value in record.items():
        label = prefix + str(name).replace("_", " ")
        if isinstance(value, Mapping):
            facts += _facts(value, f"{label}: ")
        elif isinstance(value, list | tuple):
            facts.append((label, ", ".join(map(str, value))))
        elif value is not None:
            facts.append((label, str(value)))
    return facts
