"""The leaderboard in headless Chromium: sorting, marks, links, and no request to anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mdnet.evaluation.leaderboard import Cell, Leaderboard, Row, Table
from mdnet.evaluation.seeds import spread
from mdnet.report.leaderboard_page import write_leaderboard_page

OpenPage = Callable[..., Any]


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    runs = [tmp_path / "runs" / name for name in ("a1", "a2", "b")]
    for run in runs:
        run.mkdir(parents=True)
    (runs[0] / "index.html").write_text("<p>the run")
    seeds = spread([0.4, 0.6])
    rows = (
        Row("tiny", {"bleu_4": Cell(0.5, 0.1, seeds)}, "attention <b>", tuple(runs[:2]), (1, 2)),
        Row(
            "large",
            {"bleu_4": Cell(0.9, 0.1, spread([0.9])), "cider": Cell(0.2, None, spread([0.2]))},
            "",
            (runs[2],),
            (7,),
        ),
    )
    table = Table(
        "set",
        "d" * 64,
        "test",
        30,
        rows,
        (Row("constant report", {"bleu_4": Cell(0.7)}),),
        {"bleu_4": (1,)},
        ("BLEU-4: large is best.",),
    )
    board = Leaderboard((table,), ((tmp_path / "c", "not evaluated"),))
    return write_leaderboard_page(tmp_path / "out" / "leaderboard.html", board, title="Runs in <i>runs</i>")


def names(page: Any) -> list[str]:
    return [text.split("\n")[0] for text in page.locator("tbody th").all_inner_texts()]


def test_a_click_sorts_numbers_and_baselines_take_their_place(open_page: OpenPage, page_file: Path):
    page = open_page(page_file)
    heading = page.get_by_role("columnheader", name="BLEU-4")
    assert names(page) == ["tiny", "large", "constant report"]
    heading.get_by_role("button").click()
    assert names(page) == ["large", "constant report", "tiny"]
    assert heading.get_attribute("aria-sort") == "descending"
    heading.get_by_role("button").click()
    assert names(page) == ["tiny", "constant report", "large"]
    assert heading.get_attribute("aria-sort") == "ascending"


def test_what_was_not_measured_stays_at_the_end_and_text_sorts_by_name(open_page: OpenPage, page_file: Path):
    page = open_page(page_file)
    cider = page.get_by_role("button", name="CIDEr")
    for _ in range(2):
        cider.click()
        assert names(page)[0] == "large"
    page.get_by_role("button", name="model").click()
    assert names(page) == ["constant report", "large", "tiny"]
    assert page.get_by_role("columnheader", name="CIDEr").get_attribute("aria-sort") is None


def test_seeds_marks_links_and_what_was_left_out(open_page: OpenPage, page_file: Path):
    page = open_page(page_file)
    assert page.locator("td .best").all_inner_texts() == ["0.900"]
    assert page.locator("tbody tr").first.locator("td").all_inner_texts()[:4] == [
        "1, 2\n2 seeds",
        "not measured",
        "not measured",
        "0.500\n± 0.141\n0.400 to 0.600",
    ]
    assert page.locator("tbody a").evaluate_all("links => links.map(a => a.getAttribute('href'))") == [
        "../runs/a1/index.html"
    ]
    assert page.locator("h1").inner_text() == "Runs in <i>runs</i>"
    assert "not evaluated" in page.locator("main").inner_text()
    assert "BLEU-4: large is best." in page.locator("main").inner_text()


def test_a_phone_scrolls_the_table_and_not_the_page(open_page: OpenPage, page_file: Path):
    page = open_page(page_file, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(".scroll").first.evaluate("box => { box.scrollLeft = 300; }")
    box = page.locator("tbody th").first.bounding_box()
    assert box["x"] >= 0
    assert box["width"] < 180
