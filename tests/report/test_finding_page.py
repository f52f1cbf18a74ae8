"""The page of a finding in headless Chromium: maps, sums, keyboard, and no request to anywhere."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import make_finding
from PIL import Image

from mdnet.data.study import Aspect, LabelSpace
from mdnet.inference.finding import Finding
from mdnet.report.colour_maps import diverging, sequential
from mdnet.report.finding_page import render_finding_page, write_finding_page

OpenPage = Callable[..., Any]
NO_LABELS = LabelSpace()


def pixels(page: Any, selector: str) -> np.ndarray:
    """A canvas as (rows, columns, 4)."""
    width, height, data = page.locator(selector).first.evaluate(
        "c => [c.width, c.height, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    return np.array(data, dtype=np.uint8).reshape(height, width, 4)


def drawn(values: np.ndarray, limit: float, table: np.ndarray, *, two_sided: bool) -> np.ndarray:
    """The colours that `values` must have: a plain reading of the colour bar."""
    share = np.clip(values / limit, -1, 1)
    position = (share + 1) / 2 if two_sided else share
    return table[np.floor(position * (len(table) - 1) + 0.5).astype(int)]


def written(value: float, digits: int = 4) -> str:
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else ("−" if value < 0 else "+") + text


def choose(page: Any, aspect: str, label: str, against: str | None) -> None:
    page.locator('[data-part="aspect"]').select_option(label=aspect)
    page.locator('[data-part="label"]').select_option(label=label)
    page.locator('[data-part="against"]').select_option(label=against or "nothing (the logit itself)")


def sums(page: Any) -> dict[str, str]:
    """The sum check's rows: name to the figure asked for (the first column)."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('[data-part="sums"] tbody tr')]
            .map((row) => [row.cells[0].textContent, row.cells[1].textContent]))"""
    )


def overlay(page: Any) -> np.ndarray:
    return pixels(page, '[data-part="overlay"]')


def part(page: Any, name: str) -> str:
    return page.locator(f'[data-part="{name}"]').first.inner_text()


def show(open_page: OpenPage, finding: Finding, tmp_path: Path, **options: object) -> Any:
    return open_page(write_finding_page(finding, tmp_path / "finding.html"), **options)


def test_sum_check_equals_python_for_every_aspect_and_for_a_contrast(
    finding: Finding, open_page: OpenPage, tmp_path: Path
) -> None:
    page = show(open_page, finding, tmp_path)
    for name, aspect in finding.aspects.items():
        label, against = aspect.aspect.classes[-1], aspect.aspect.classes[0]
        for other in (against, None):
            choose(page, name, label, other)
            evidence = finding.evidence(name, label, against=other)
            logit = aspect.logits[label] - (aspect.logits[other] if other else 0.0)
            parts = {
                f"{b.name} ({b.shape[0]} × {b.shape[1]})": written(float(np.asarray(b).sum()))
                for b in evidence.blocks
            }
            figures = sums(page)
            assert abs(float(figures.pop("difference").replace("−", "-"))) < 1e-5
            assert figures == parts | {
                "bias": written(evidence.bias),
                "sum of maps and bias": written(evidence.total),
                "the model’s own logit": written(logit),
            }
            question = label if other is None else f"{label} against {other}"
            assert part(page, "shown") == f"Evidence for {question}: {written(evidence.total, 2)} logit"
            assert part(page, "verdict").startswith("✓")


def test_sum_check_says_so_when_the_maps_do_not_give_the_logit(
    finding: Finding, open_page: OpenPage, tmp_path: Path
) -> None:
    logits = dict.fromkeys(finding.aspects["mitosis"].logits, 1000.0)
    aspects = {**finding.aspects, "mitosis": replace(finding.aspects["mitosis"], logits=logits)}
    page = show(open_page, replace(finding, aspects=aspects), tmp_path)
    choose(page, "mitosis", "rare", None)
    assert part(page, "verdict").startswith("✗")


def test_blocks_are_drawn_cell_by_cell_at_native_resolution_on_one_scale(
    finding: Finding, open_page: OpenPage, tmp_path: Path
) -> None:
    page = show(open_page, finding, tmp_path)
    choose(page, "mitosis", "frequent", "absent")
    blocks = finding.evidence("mitosis", "frequent", against="absent").blocks
    page.locator('[data-part="common"]').uncheck()
    for index, block in enumerate(blocks):
        values = np.asarray(block)
        page.locator(f'button[data-block="{index}"]').click()
        expected = drawn(values, np.abs(values).max(), diverging(), two_sided=True)
        assert np.abs(overlay(page)[..., :3].astype(int) - expected).max() <= 2  # a tie may round either way
        assert np.array_equal(pixels(page, f'button[data-block="{index}"] canvas'), overlay(page))
    page.locator(
        '[data-part="common"]'
    ).check()  # one scale: limits of equal areas, so 16 times from 64 x 64 to 16 x 16
    highs = []
    for index in (0, 2):
        page.locator(f'button[data-block="{index}"]').click()
        highs.append(float(part(page, "high").replace("+", "")))
    assert highs[1] / highs[0] == pytest.approx(16, rel=0.01)


def test_summed_map_equals_the_evidence_of_python_on_the_finest_grid(
    open_page: OpenPage, tmp_path: Path
) -> None:
    finding = make_finding(
        size=(64, 64), seed=5
    )  # pixels are the finest cells, so that maps compare cell by cell
    page = show(open_page, finding, tmp_path)
    choose(page, "mitosis", "frequent", "absent")
    page.locator('[data-part="common"]').uncheck()
    expected = np.asarray(finding.evidence("mitosis", "frequent", against="absent"))
    page_map = np.array(
        page.evaluate("Array.from(document.querySelector('.finding').widget.sum.values)")
    ).reshape(64, 64)
    assert np.allclose(page_map, expected, atol=1e-12)
    colours = drawn(expected, np.abs(expected).max(), diverging(), two_sided=True)
    assert np.abs(overlay(page)[..., :3].astype(int) - colours).max() <= 2


def test_choosing_another_class_changes_map_and_numbers(
    finding: Finding, open_page: OpenPage, tmp_path: Path
) -> None:
    page = show(open_page, finding, tmp_path)
    choose(page, "mitosis", "frequent", "absent")
    before, number = overlay(page), sums(page)["sum of maps and bias"]
    choose(page, "mitosis", "frequent", "rare")
    assert sums(page)["sum of maps and bias"] != number
    assert not np.array_equal(overlay(page), before)
    page.locator('[data-part="label"]').select_option(label="rare")  # equal to the other: they change places
    assert page.locator('[data-part="against"] option:checked').inner_text() == "frequent"
    total = finding.evidence("mitosis", "rare", against="frequent").total
    assert sums(page)["sum of maps and bias"] == written(total)


def test_pointing_at_a_word_shows_its_attention_and_leaving_shows_evidence_again(
    finding: Finding, open_page: OpenPage, tmp_path: Path
) -> None:
    page = show(open_page, finding, tmp_path)
    evidence = overlay(page)
    attention = finding.attention("mitosis")
    for index in (1, 3, 7):
        page.locator(f'[data-section="0"][data-word="{index}"]').hover()
        shown = overlay(page)
        assert shown.shape[:2] == attention.shape[1:]
        lightness = shown[..., :3].sum(axis=2, dtype=int)
        assert np.unravel_index(lightness.argmax(), lightness.shape) == np.unravel_index(
            attention[index].argmax(), (16, 16)
        )
        expected = drawn(attention[index], attention.max(), sequential(), two_sided=False)
        assert np.abs(shown[..., :3].astype(int) - expected).max() <= 2
        assert (
            part(page, "shown")
            == f"Attention of the word “{finding.report.sections['mitosis'].words[index]}” in mitosis"
        )
    page.mouse.move(1, 1)
    assert np.array_equal(overlay(page), evidence)


def test_words_are_reached_and_walked_by_keyboard_alone(
    finding: Finding, open_page: OpenPage, tmp_path: Path
) -> None:
    page = show(open_page, finding, tmp_path)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('word')"):
            break
    words = finding.report.sections["mitosis"].words
    assert part(page, "shown") == f"Attention of the word “{words[0]}” in mitosis"
    page.keyboard.press("ArrowRight")
    peak = np.unravel_index(finding.attention("mitosis")[1].argmax(), (16, 16))
    assert f"row {peak[0] + 1}, column {peak[1] + 1}" in part(page, "detail")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("End")
    assert f"“{words[-1]}”" in part(page, "shown")
    page.keyboard.press("ArrowDown")
    assert part(page, "shown").endswith("in conclusion")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.keyboard.press("Escape")
    assert part(page, "shown").startswith("Evidence for")


def test_a_zero_map_is_drawn_as_zero(open_page: OpenPage, tmp_path: Path) -> None:
    page = show(open_page, make_finding(scale=0.0), tmp_path)
    assert (overlay(page)[..., :3] == diverging()[127]).all()
    assert "zero everywhere" in part(page, "detail")
    assert part(page, "high") == "0"
    assert page.locator('[data-part="peak"]').is_hidden()


def test_maps_cover_a_picture_that_is_not_square(open_page: OpenPage, tmp_path: Path) -> None:
    finding = make_finding(size=(120, 180))
    page = show(open_page, finding, tmp_path)
    picture, over = (page.locator(s).bounding_box() for s in ("img.base", '[data-part="overlay"]'))
    assert over["width"] / over["height"] == pytest.approx(180 / 120, rel=0.01)
    assert [over[k] for k in ("x", "y", "width", "height")] == pytest.approx(
        [picture[k] for k in ("x", "y", "width", "height")], abs=1
    )
    frame = page.locator('[data-part="peak"]').bounding_box()
    row, column = map(int, re.findall(r"row (\d+), column (\d+)", part(page, "detail"))[0])
    assert frame["x"] + frame["width"] / 2 == pytest.approx(
        over["x"] + over["width"] * (column - 0.5) / 64, abs=1
    )
    assert frame["y"] + frame["height"] / 2 == pytest.approx(
        over["y"] + over["height"] * (row - 0.5) / 64, abs=1
    )


def test_opacity_works_by_keyboard(finding: Finding, open_page: OpenPage, tmp_path: Path) -> None:
    page = show(open_page, finding, tmp_path)
    page.locator('[data-part="opacity"]').focus()
    page.keyboard.press("Home")
    assert page.locator('[data-part="overlay"]').evaluate("c => c.style.opacity") == "0"
    assert part(page, "opacity-text") == "0%"


MULTI = LabelSpace((Aspect("signs", ("edema", "mass"), multi_label=True),))
THIRTY = LabelSpace((Aspect("type", tuple(f"class {i}" for i in range(30))),), diagnosis="type")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (make_finding(words={}), "writes no report"),
        (make_finding(space=NO_LABELS), "mitotic"),
        (make_finding(space=NO_LABELS, words={}), "writes no report"),
        (make_finding(space=MULTI, scale=-3.0), "any number of classes"),
        (make_finding(space=THIRTY, grids={"block 1": 8}), "24 more classes"),
    ],
    ids=["no report", "no diagnosis", "picture only", "multi-label", "thirty classes"],
)
def test_every_kind_of_finding_has_a_page_without_errors(
    case: Finding, expected: str, open_page: OpenPage, tmp_path: Path
) -> None:
    page = show(open_page, case, tmp_path)
    assert expected in page.locator("main").inner_text()
    if case.aspect_evidence:
        assert part(page, "verdict").startswith("✓")


def test_hostile_text_is_shown_and_never_run(open_page: OpenPage, tmp_path: Path) -> None:
    evil = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
    space = LabelSpace((Aspect(f"a {evil}", (f"b {evil}", f"c {evil}")),), diagnosis=f"a {evil}")
    finding = make_finding(
        space=space, words={f"s {evil}": (f"w {evil}", "ok")}, grids={f"g {evil}": 4}, source=f"x {evil}.png"
    )
    page = show(open_page, replace(finding, model=f"m {evil}"), tmp_path)
    page.locator("button.word").first.hover()
    assert page.evaluate("window.broken") is None
    assert page.locator("main script:not([type])").count() == 0
    assert evil in page.locator("button.word").first.inner_text()
    assert evil in part(page, "shown")


def test_the_policy_of_the_page_stops_script_and_requests_that_are_not_its_own(
    finding: Finding, browser: Any, tmp_path: Path
) -> None:
    foreign = "<script>window.broken = 1</script><img src='https://example.invalid/x.png'>"
    path = tmp_path / "tampered.html"
    path.write_text(render_finding_page(finding).replace("</main>", foreign + "</main>"), encoding="utf-8")
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    assert page.evaluate("window.broken") is None
    assert part(page, "verdict").startswith("✓")  # the page's own script does run
    page.close()
    assert sum("Content Security Policy" in text for text in complaints) == 2


@pytest.mark.parametrize(
    "options", [{"viewport": {"width": 390, "height": 844}}, {"viewport": {"width": 320, "height": 640}}]
)
def test_nothing_runs_out_of_a_phone(
    finding: Finding, open_page: OpenPage, tmp_path: Path, options: dict
) -> None:
    page = show(open_page, finding, tmp_path, **options)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_large_pictures_are_scaled_down_for_display_only(tmp_path: Path) -> None:
    html = render_finding_page(make_finding(size=(600, 1500), words={}, grids={"block 1": 4}))
    assert 'width="1500" height="600"' in html
    data = html.split('src="data:image/png;base64,')[1].split('"')[0]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1024, 410)


def test_a_failed_write_leaves_the_old_page_and_no_litter(
    finding: Finding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_finding_page(finding, tmp_path / "new folder" / "finding.html")
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_finding_page(make_finding(seed=9), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
