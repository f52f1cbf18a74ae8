"""The page of one evaluation: how good, by what measure, where it goes wrong, and some of its findings.

The findings are the same interactive widget as in `finding_page`; truth stands beside each answer.
Pictures and tables are made of `metrics.json` alone, by `headline`, `digest`, `confusion_tables` and
`calibration_charts`; what was not measured is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdnet.files import write_text
from mdnet.report.calibration_charts import ReliabilityChart, RiskChart, reliability_chart, risk_chart
from mdnet.report.confusion_tables import confusion_tables
from mdnet.report.digest import digest
from mdnet.report.headline import headlines
from mdnet.report.loss_curve import loss_curve
from mdnet.report.page import image_data_uri, render_page
from mdnet.report.view import AspectRow, FindingView, finding_view

if TYPE_CHECKING:
    from mdnet.evaluation.evaluate import Shown

__all__ = ["write_run_page"]

logger = logging.getLogger(__name__)

DISPLAY_SIDE, THUMBNAIL_SIDE = 384, 64  # pixels
MOST_BYTES = 6_000_000  # of findings in the page; those beyond are left out, and the page says so

_TEXT = {"bleu_4": "BLEU-4", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider": "CIDEr"}

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class _Study:
    """A finding of the page; `text_scores` are (title, value) of its report."""

    view: FindingView
    thumbnail: str
    worst: bool
    score: float
    text_scores: tuple[tuple[str, float], ...]

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
    def wrong(self) -> list[AspectRow]:
        """Those of them that the model answered otherwise."""
        return [row for row in self.view.rows if row.truth is not None and not row.agrees]


@dataclass(frozen=True)
class _Calibration:
    """The diagnosis's calibration: numbers as (name, value) pairs, and the two pictures."""

    numbers: tuple[tuple[str, float], ...]
    temperature: float | None
    ece_before: float | None
    reliability: ReliabilityChart | None
    risk: RiskChart | None


def write_run_page(
    path: Path,
    *,
    title: str,
    metrics: Metrics,
    shown: Sequence[Shown],
    history: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> Path:
    """Writes `index.html`, one self-contained file, in one step.

    Args:
        path: The file.
        title: The page's heading.
        metrics: As in `metrics.json`.
        shown: Studies to show, in this order, with their findings.
        history: Rows of `history.csv`, at least `epoch` and some `loss` columns; may be empty.
        provenance: What was scored on what (`model`, `data`, seed, versions, ...), nested at will.

    Raises:
        WeightsError: A map holds values that are not finite.
    """
    studies: list[_Study] = []
    size = 0
    for each in shown:
        study = _study(each)
        size += study.bytes
        if studies and size > MOST_BYTES:
            logger.warning(
                "%s: shows %d of %d studies, to keep the file small", path, len(studies), len(shown)
            )
            break
        studies.append(study)
    html = render_page(
        "run_page.html",
        title=title,
        scored=metrics.get("studies"),
        split=provenance.get("split"),
        verdict=metrics.get("verdict", ()),
        headlines=headlines(metrics),
        tables=digest(metrics),
        confusions=confusion_tables(metrics),
        calibration=_calibration(metrics),
        groups=[
            (heading, [study for study in studies if study.worst is worst])
            for heading, worst in (("Worst studies", True), ("Best studies", False))
        ],
        studies=len(studies),
        offered=len(shown),
        curve=loss_curve(history),
        history=list(history),
        provenance=_facts(provenance),
        system=provenance.get("model") or provenance.get("predictions"),
        data=provenance.get("data"),
    )
    return write_text(path, html)


def _study(shown: Shown) -> _Study:
    truth = {
        "id": shown.study.id,
        "labels": dict(shown.study.labels),
        "references": shown.study.references(),
    }
    return _Study(
        view=finding_view(shown.finding, max_side=DISPLAY_SIDE, exact=False, truth=truth),
        thumbnail=image_data_uri(shown.finding.image, THUMBNAIL_SIDE, lossless=False),
        worst=shown.worst,
        score=shown.score,
        text_scores=tuple(
            (title, shown.text_scores[key]) for key, title in _TEXT.items() if key in shown.text_scores
        ),
    )


def _calibration(metrics: Metrics) -> _Calibration | None:
    values = metrics.get("calibration")
    if not values:
        return None
    scaling = metrics.get("temperature_scaling", {})
    before = scaling.get("before", {})
    numbers = {
        "ECE": metrics["diagnosis"]["ece"],
        "negative log-likelihood": values["negative_log_likelihood"],
        "Brier score": values["brier"],
        "AURC": values["aurc"],
        "AURC above the best order": values["excess_aurc"],
    }
    return _Calibration(
        numbers=tuple((name, value) for name, value in numbers.items() if value is not None),
        temperature=scaling.get("temperature"),
        ece_before=before.get("ece"),
        reliability=reliability_chart(values["reliability"], before.get("reliability", ())),
        risk=risk_chart(values["risk_coverage"], metrics.get("abstention", {}).get("diagnosis")),
    )


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
