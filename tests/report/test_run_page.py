"""The page of a run: numbers as in metrics.json, truth beside answers, the same widget, small and silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import TISSUE, make_finding

from mdnet.data.study import Study
from mdnet.evaluation.evaluate import Shown
from mdnet.inference.finding import Finding
from mdnet.metrics.calibration import reliability_bins, risk_coverage
from mdnet.metrics.diagnosis import classification_metrics
from mdnet.report import run_page
from mdnet.report.run_page import write_run_page

WORDS = dict.fromkeys(
    TISSUE.names,
    ("twelve", "words", "for", "this", "aspect", "as", "a", "report", "would", "have", "them", "."),
)
HISTORY = [{"epoch": str(i), "loss": str(2 / (i + 1)), "loss_report": str(1 / (i + 1))} for i in range(5)]
PROVENANCE = {"model": "mdnet_tiny", "data": "synthetic tissue", "seed": 3, "versions": {"torch": "2.13"}}


def make_metrics() -> dict[str, Any]:
    """As in `metrics.json`, of 40 studies: mitosis at random, the conclusion a little better."""
    random = np.random.default_rng(0)
    aspects = {}
    for name, pull in (("mitosis", 0.0), ("conclusion", 1.0)):
        classes = TISSUE[name].classes
        truth = random.integers(0, len(classes), 40)
        logits = random.normal(size=(40, len(classes))) + pull * np.eye(len(classes))[truth]
        aspects[name] = classification_metrics(logits, truth, classes)
    powers = np.exp(logits)
    confidence = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    right = logits.argmax(axis=1) == truth
    curve = risk_coverage(confidence, right)
    bins = [vars(each) for each in reliability_bins(confidence, right)]
    return {
        "studies": 40,
        "verdict": ["It is <b>not</b> read as HTML.", "The second sentence."],
        "aspects": aspects,
        "diagnosis": aspects["conclusion"],
        "diagnosis_aspect": "conclusion",
        "calibration": {
            "negative_log_likelihood": 1.25,
            "brier": 0.5,
            "aurc": curve.aurc,
            "excess_aurc": curve.excess_aurc,
            "reliability": bins,
            "risk_coverage": {
                name: getattr(curve, name).tolist() for name in ("threshold", "coverage", "risk")
            },
        },
        "temperature_scaling": {"temperature": 1.75, "before": {"ece": 0.321, "reliability": bins}},
        "text": {"bleu_4": 0.5121, "cider": 1.0},
        "intervals": {"diagnosis.accuracy": [0.25, 0.75], "text.bleu_4": [0.5, 0.525]},
        "baselines": {"constant_report": {"bleu_4": 0.3123, "cider": 0.5}},
        "comparisons": {
            "diagnosis_minus_majority": {"difference": 0.125, "low": -0.1, "high": 0.35, "studies": 40},
            "report_minus_constant": {
                "bleu_4": {"difference": 0.1998, "low": 0.1, "high": 0.3, "studies": 40},
                "cider": {"difference": 0.5, "low": 0.4, "high": 0.6, "studies": 40},
            },
        },
    }


def show(findings: Sequence[Finding], **changes: Any) -> list[Shown]:
    """Studies whose truth is what the finding says, or `labels`; the first half are the worst."""
    rows = []
    for place, finding in enumerate(findings):
        labels = changes.get("labels") or {name: aspect.label for name, aspect in finding.aspects.items()}
        study = Study(
            changes.get("id", f"p{place}"),
            (Path(finding.source),),
            labels=labels,
            report={"report": ("one true report", "another")},
        )
        worst = place < (len(findings) + 1) // 2
        rows.append(Shown(finding, study, 0.25, worst, {"bleu_4": 0.125, "rouge_l": 0.375}))
    return rows


def write(path: Path, count: int, **changes: Any) -> Path:
    findings = [make_finding(seed=i, words=WORDS, source=f"images/p{i}.png") for i in range(count)]
    arguments: dict[str, Any] = {"title": "runs/demo", "metrics": make_metrics(), "shown": show(findings)}
    arguments |= {"history": HISTORY, "provenance": PROVENANCE}
    return write_run_page(path, **(arguments | changes))


def test_twelve_studies_of_six_aspects_fit_in_six_megabytes(tmp_path: Path) -> None:
    path = write(tmp_path / "index.html", 12)
    assert path.stat().st_size < 6_000_000
    assert path.read_text(encoding="utf-8").count('<details class="study"') == 12


def test_words_numbers_intervals_loss_and_provenance_are_on_the_page(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    page = open_page(write(tmp_path / "index.html", 1))
    text = page.locator("main").inner_text()
    for expected in ("It is <b>not</b> read as HTML.", "synthetic tissue", "versions: torch", "1.75"):
        assert expected in text
    rows = [" ".join(row.split()) for row in page.locator(".headline tbody tr").all_inner_texts()]
    assert "Report: BLEU-4 0.512 [0.500, 0.525] 0.312 one report for all +0.200 [0.100, 0.300] better" in rows
    assert rows[0].endswith("the commonest class +0.125 [−0.100, 0.350] not proven")
    assert page.locator("svg.curve polyline").count() == 2
    assert "loss ends at 0.4" in page.locator("svg.curve").get_attribute("aria-label")


def test_confusion_numbers_on_the_page_are_those_of_the_metrics(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    metrics = make_metrics()
    page = open_page(write(tmp_path / "index.html", 0))
    tables = page.locator(".matrix")
    assert [tables.nth(place).locator("h3").inner_text() for place in (0, 1)] == [
        "conclusion diagnosis",
        "mitosis",
    ]
    for place, name in enumerate(("conclusion", "mitosis")):
        rows = tables.nth(place).locator(".cells tbody tr")
        shown = [
            [int(cell.split()[0]) for cell in rows.nth(row).locator("td").all_inner_texts()]
            for row in range(rows.count())
        ]
        assert shown == metrics["aspects"][name]["confusion"]
        assert rows.nth(1).locator("th").get_attribute("scope") == "row"
        for row, counts in enumerate(shown):
            diagonal = rows.nth(row).locator("td.on-diagonal")
            share = f"{100 * counts[row] / sum(counts):.0f}%"
            assert diagonal.inner_text().split() == [str(counts[row]), share]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_cell_can_be_read_on_its_shade(
    open_page: Callable[..., Any], tmp_path: Path, scheme: str
) -> None:
    """Contrast of WCAG 2.2 AA (4.5) for all eleven shades, also those of no cell in these numbers."""
    page = open_page(write(tmp_path / "index.html", 0), color_scheme=scheme)
    ratios = page.evaluate(
        """() => Array.from({ length: 11 }, (_, step) => {
          const cell = document.querySelector(".cells td");
          cell.className = `shade-${step}`;
          const canvas = document.createElement("canvas").getContext("2d");
          const luminance = (colour) => {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            const linear = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
              const share = value / 255;
              return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
          };
          const { color, backgroundColor } = getComputedStyle(cell);
          const [low, high] = [luminance(color), luminance(backgroundColor)].sort((a, b) => a - b);
          return (high + 0.05) / (low + 0.05);
        })"""
    )
    assert min(ratios) >= 4.5, ratios


def test_the_pictures_of_confidence_have_their_points_and_a_table_of_them(
    open_page: Callable[..., Any], tmp_path: Path
) -> None:
    calibration = make_metrics()["calibration"]
    filled = [each for each in calibration["reliability"] if each["count"]]
    page = open_page(write(tmp_path / "index.html", 0))
    reliability, risk = page.locator(".charts figure").all()
    dots = reliability.locator("svg.chart circle.dot")
    assert dots.count() == reliability.locator("svg.chart circle.before").count() == len(filled)
    for place, each in enumerate(filled):
        assert float(dots.nth(place).get_attribute("cx")) == pytest.approx(
            56 + 332 * each["confidence"], abs=0.1
        )
        assert float(dots.nth(place).get_attribute("cy")) == pytest.approx(
            270 - 260 * each["accuracy"], abs=0.1
        )
    counts = reliability.locator("tbody td:nth-child(2)").all_text_contents()
    assert [int(count) for count in counts] == [each["count"] for each in filled]
    last = risk.locator("svg.chart polyline.model").get_attribute("points").split()[-1]
    assert last.startswith("388.0,")
    coverages = risk.locator("tbody td:nth-child(2)").all_text_contents()
    assert coverages == [f"{coverage:.3f}" for coverage in calibration["risk_coverage"]["coverage"]]


def test_the_worst_come_first_and_say_why(open_page: Callable[..., Any], tmp_path: Path) -> None:
    finding = make_finding()
    wrong = next(
        label for label in TISSUE["conclusion"].classes if label != finding.aspects["conclusion"].label
    )
    labels = {"conclusion": wrong, "mitosis": finding.aspects["mitosis"].label}
    shown = show([finding], labels=labels, id="<i>p1</i>") + show([make_finding(seed=1)] * 2)[1:]
    page = open_page(write(tmp_path / "index.html", 1, shown=shown))
    worst, best = page.locator("section.studies").all()
    assert worst.locator("h2").inner_text() == "Worst studies"
    assert best.locator(".study").count() == 1
    summary = worst.locator(".study > summary").inner_text()
    assert "<i>p1</i>" in summary
    assert f"✗ truth: {wrong}" in summary
    assert "1 of 2 aspects right" in summary
    reason = worst.locator(".reason").inner_text()
    assert f"conclusion is {wrong}, answered {finding.aspects['conclusion'].label}." in reason
    assert "mitosis" not in reason
    assert "BLEU-4 0.125, ROUGE-L 0.375." in reason
    row = worst.locator(".aspects tr", has_text="mitosis")
    assert "✓ truth agrees" in row.inner_text()
    worst.locator(".references summary").click()
    assert "one true report" in worst.locator(".references").inner_text()
    assert "Every aspect is right." in best.locator(".reason").text_content()


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


def test_a_phone_scrolls_only_downwards(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(write(tmp_path / "index.html", 1), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


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
    assert page.locator("main section").count() == 0
