"""The page of a run: numbers, truth beside answers, the same widget, small and silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import TISSUE, make_finding

from mdnet.errors import ConfigurationError
from mdnet.report import run_page
from mdnet.report.run_page import write_run_page

WORDS = dict.fromkeys(
    TISSUE.names,
    ("twelve", "words", "for", "this", "aspect", "as", "a", "report", "would", "have", "them", "."),
)
METRICS = {
    "diagnosis": {"accuracy": 0.9541},
    "aspects": {"mitosis": {"accuracy": 0.9}},
    "text": {"bleu_4": 0.5121},
    "baselines": {"majority_class": {"diagnosis": {"accuracy": 0.3123}}},
}
HISTORY = [{"epoch": str(i), "loss": str(2 / (i + 1)), "loss_report": str(1 / (i + 1))} for i in range(5)]
PROVENANCE = {"model": "mdnet_tiny", "data": "synthetic tissue", "seed": 3, "versions": {"torch": "2.13"}}


def write(path: Path, count: int, **changes: Any) -> Path:
    findings = [make_finding(seed=i, words=WORDS, source=f"images/p{i}.png") for i in range(count)]
    truths = [
        {
            "id": f"p{i}",
            "labels": {name: aspect.label for name, aspect in finding.aspects.items()},
            "references": ["a", "b"],
        }
        for i, finding in enumerate(findings)
    ]
    arguments = {"title": "runs/demo", "metrics": METRICS, "findings": findings, "truths": truths}
    arguments |= {"history": HISTORY, "provenance": PROVENANCE}
    return write_run_page(path, **(arguments | changes))


def test_twelve_studies_of_six_aspects_fit_in_six_megabytes(tmp_path: Path) -> None:
    path = write(tmp_path / "index.html", 12)
    assert path.stat().st_size < 6_000_000
    assert path.read_text(encoding="utf-8").count('<details class="study"') == 12


def test_metrics_baselines_loss_and_provenance_are_on_the_page(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page(write(tmp_path / "index.html", 1))
    text = page.locator("main").inner_text()
    for expected in ("0.954", "majority class 0.312", "0.512", "synthetic tissue", "versions: torch"):
        assert expected in text
    assert page.locator("svg.curve polyline").count() == 2
    assert "loss ends at 0.4" in page.locator("svg.curve").get_attribute("aria-label")


def test_disagreement_with_the_truth_is_said_in_words(open_page: Callable[..., Any], tmp_path: Path) -> None:
    finding = make_finding()
    wrong = next(
        label for label in TISSUE["conclusion"].classes if label != finding.aspects["conclusion"].label
    )
    labels = {"conclusion": wrong, "mitosis": finding.aspects["mitosis"].label}
    truth = {"id": "p1", "labels": labels, "references": ["one true report"]}
    page = open_page(write(tmp_path / "index.html", 1, findings=[finding], truths=[truth]))
    summary = page.locator(".study > summary").inner_text()
    assert f"✗ truth: {wrong}" in summary
    assert "1 of 2 aspects right" in summary
    row = page.locator(".aspects tr", has_text="mitosis")
    assert "✓ truth agrees" in row.inner_text()
    page.locator(".references summary").click()
    assert "one true report" in page.locator(".references").inner_text()


def test_each_study_has_its_own_widget_once_it_is_opened(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page(write(tmp_path / "index.html", 2))
    second = make_finding(seed=1, words=WORDS)
    study = page.locator(".study").nth(1)
    assert study.locator('[data-part="sums"]').text_content() == ""
    study.locator("summary").first.click()
    study.locator('[data-part="aspect"]').select_option(label="mitosis")
    study.locator('[data-part="label"]').select_option(label="frequent")
    study.locator('[data-part="against"]').select_option(label="absent")
    total = second.evidence("mitosis", "frequent", against="absent").total
    text = study.locator("tr.sum td").first.inner_text().replace("−", "-")
    assert float(text) == pytest.approx(total, abs=2e-4)  # maps are stored in 16-bit steps here
    study.locator('[data-section="3"][data-word="5"]').hover()
    peak = np.unravel_index(second.attention("mitosis")[5].argmax(), (16, 16))
    assert f"row {peak[0] + 1}, column {peak[1] + 1}" in study.locator('[data-part="detail"]').inner_text()
    assert "Evidence for" in page.locator('.study >> nth=0 >> [data-part="shown"]').inner_text()


def test_studies_beyond_the_size_limit_are_left_out_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_page, "MOST_BYTES", 900_000)
    html = write(tmp_path / "index.html", 4).read_text(encoding="utf-8")
    assert html.count('<details class="study"') == 2
    assert "2 of the 4 studies" in html
    assert "shows 2 of 4 studies" in caplog.text


def test_a_run_with_nothing_to_show_still_has_its_page(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(
        write(tmp_path / "index.html", 0, metrics={}, history=[], provenance={}, title="<b>run</b>")
    )
    assert page.locator("h1").inner_text() == "<b>run</b>"


def test_findings_without_truths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="2 findings but 0 truths"):
        write(tmp_path / "index.html", 2, truths=[])
