"""The page of explanations in headless Chromium: colours, units, threshold, and no request to anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdnet.errors import ConfigurationError, WeightsError
from mdnet.explain.explanation import Explanation
from mdnet.report.colour_maps import diverging, sequential
from mdnet.report.explain_page import Entry, write_explain_index, write_explain_page
from mdnet.report.explanation_picture import save_picture

OpenPage = Callable[..., Any]


def explanation(seed: int = 0, **changes: Any) -> Explanation:
    random = np.random.default_rng(seed)
    heat = random.normal(0, 0.01, (16, 16))
    made = Explanation(
        map=heat,
        image=random.integers(0, 256, (48, 64, 3), dtype=np.uint8),
        method="evidence",
        target="mitosis: frequent against absent",
        unit="logit",
        score=float(heat.sum()) + 0.5,
        offset=0.5,
        model="some/weights",
        source="tiles/<b>a.png",
        parameters={"window": 3},
        seconds=0.002,
    )
    return replace(made, **changes)


def overlay(page: Any, card: int) -> np.ndarray:
    """The canvas of a card, (rows, columns, 4)."""
    width, height, data = page.locator(f'[data-card="{card}"] canvas').first.evaluate(
        "c => [c.width, c.height, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    return np.array(data, dtype=np.uint8).reshape(height, width, 4)


def test_a_signed_map_is_drawn_about_zero_with_its_own_limit_in_words(open_page: OpenPage, tmp_path: Path):
    each = explanation()
    page = open_page(write_explain_page([each], tmp_path / "page.html"))
    limit = np.abs(each.map).max()
    table = diverging()
    expected = table[np.floor((each.map / limit + 1) / 2 * (len(table) - 1) + 0.5).astype(int)]
    shown = overlay(page, 0)[..., :3].astype(int)
    # float32 in the page may round a value over the border between two colours
    assert np.abs(shown - expected.astype(int)).max() <= np.abs(np.diff(table.astype(int), axis=0)).max()
    assert page.locator('[data-part="high"]').inner_text() == f"+{float(f'{limit:.3g}'):g}"
    assert page.locator('[data-part="unit"]').inner_text() == "logit, per cell of 16 × 16"


def test_a_map_without_negative_values_gets_the_sequential_colours(open_page: OpenPage, tmp_path: Path):
    heat = np.zeros((2, 2))
    heat[0, 1] = 3.0
    pages = [explanation(map=heat, offset=None), explanation(map=heat)]
    page = open_page(write_explain_page(pages, tmp_path / "page.html"))
    for card, table in enumerate((sequential(), diverging()[127:])):  # what sums to a logit stays two-sided
        shown = overlay(page, card)
        assert shown[0, 1, :3].tolist() == table[-1].tolist()
        assert shown[1, 1, :3].tolist() == table[0].tolist()


def test_threshold_hides_the_cells_below_it_and_says_so_in_the_unit(open_page: OpenPage, tmp_path: Path):
    each = explanation()
    page = open_page(write_explain_page([each], tmp_path / "page.html"))
    page.locator('[data-part="threshold"]').fill("50")
    hidden = overlay(page, 0)[..., 3] == 0
    assert np.array_equal(hidden, np.abs(each.map) < 0.5 * np.abs(each.map).max())
    assert "hidden below 0.0" in page.locator('[data-part="detail"]').inner_text()


def test_opacity_reaches_every_map(open_page: OpenPage, tmp_path: Path):
    page = open_page(write_explain_page([explanation(), explanation(1)], tmp_path / "page.html"))
    page.locator('[data-part="opacity"]').fill("30")
    found = page.locator('[data-part="overlay"]').evaluate_all("all => all.map((c) => c.style.opacity)")
    assert found == ["0.3", "0.3"]


def test_one_scale_is_shared_by_maps_of_one_unit_and_grid_only(open_page: OpenPage, tmp_path: Path):
    small = explanation(1, map=explanation(1).map / 10)
    other = explanation(2, unit="share of attention", map=explanation(2).map * 100)
    page = open_page(write_explain_page([explanation(), small, other], tmp_path / "page.html"))
    before = page.locator('[data-part="high"]').all_inner_texts()
    page.locator('[data-part="common"]').check()
    after = page.locator('[data-part="high"]').all_inner_texts()
    assert after == [before[0], before[0], before[2]]
    assert before[1] != before[0]


def test_names_from_data_are_text_and_never_markup(open_page: OpenPage, tmp_path: Path):
    page = open_page(write_explain_page([explanation(target="<script>x</script>")], tmp_path / "page.html"))
    assert page.locator("h1").inner_text() == "<b>a.png"
    assert "<script>x" not in (tmp_path / "page.html").read_text()


def test_the_page_says_by_how_much_the_sum_misses_the_score(tmp_path: Path):
    html = write_explain_page([explanation(score=9.0, offset=1.0)], tmp_path / "page.html").read_text()
    assert f"<dd>{9.0 - 1.0 - explanation().map.sum():.1e}</dd>" in html
    html = write_explain_page([explanation(offset=None)], tmp_path / "page.html").read_text()
    assert "misses the score" not in html


def test_pictures_do_not_mix_and_bad_maps_are_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="one picture"):
        write_explain_page([explanation(), explanation(source="b.png")], tmp_path / "page.html")
    with pytest.raises(ConfigurationError, match="at least one"):
        write_explain_page([], tmp_path / "page.html")
    with pytest.raises(WeightsError, match="not finite"):
        write_explain_page([explanation(map=np.full((2, 2), np.nan))], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_the_index_links_every_page(open_page: OpenPage, tmp_path: Path):
    pages = [write_explain_page([explanation(i)], tmp_path / f"{i}.html") for i in range(2)]
    entries = [Entry.of(page, explanation(i)) for i, page in enumerate(pages)]
    page = open_page(write_explain_index(entries, tmp_path / "index.html"))
    links = page.locator("a").evaluate_all("all => all.map((a) => a.getAttribute('href'))")
    assert links == ["0.html", "1.html"]


def test_a_picture_shows_the_map_where_it_is(tmp_path: Path):
    heat = np.zeros((4, 4))
    heat[3, 0] = 1.0  # bottom left
    each = explanation(map=heat, offset=None, image=np.full((64, 64, 3), 128, np.uint8))
    file = save_picture([each], tmp_path / "picture.png")
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    yellow = (pixels[..., 0] - pixels[..., 2] > 60) & (pixels[..., 1] > 100)
    rows, columns = np.nonzero(yellow[: int(pixels.shape[0] * 0.75)])  # without the colour bar
    panel = slice(pixels.shape[1] // 2, None)
    assert rows.min() > pixels.shape[0] * 0.4
    assert columns.max() < pixels.shape[1] * 0.65
    assert yellow[:, panel].any()


def test_a_picture_of_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="at least one"):
        save_picture([], tmp_path / "picture.png")


def test_a_map_of_zeros_is_drawn(tmp_path: Path):
    file = save_picture([explanation(map=np.zeros((3, 3)))], tmp_path / "picture.png")
    assert re.match(rb"\x89PNG", file.read_bytes())
