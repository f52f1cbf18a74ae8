"""The sheet of a query in headless Chromium: ranks, readings, maps, and no request to anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdnet.data.study import Aspect
from mdnet.inference.finding import AspectFinding
from mdnet.inference.retrieval.looking import Look
from mdnet.inference.retrieval.meaning import Statement
from mdnet.inference.retrieval.phrasing import PhrasedPart
from mdnet.inference.retrieval.query import QueryPart
from mdnet.inference.retrieval.ranking import RankedImage
from mdnet.inference.retrieval.two_stage import Hit
from mdnet.report.colour_maps import sequential
from mdnet.report.retrieval_page import SheetRow, write_retrieval_page

OpenPage = Callable[..., Any]

PARTS = (
    PhrasedPart(
        "Frequent <b>mitosis",
        Statement("mitosis", "frequent"),
        (QueryPart("Mitosis is frequent.", ("mitosis",)), QueryPart("Mitoses are many.", ("mitosis",))),
    ),
    PhrasedPart("Dark nuclei", None, (QueryPart("Dark nuclei", ("mitosis", "nuclei")),)),
)
DIAGNOSIS = AspectFinding(
    Aspect("conclusion", ("normal", "high grade")), ("high grade",), {"normal": 0.25, "high grade": 0.75}, {}
)


def row(rank: int, *, looks: bool = True) -> SheetRow:
    random = np.random.default_rng(rank)
    heat = random.random((2, 3, 4))
    scores = (np.log(0.5), -7.125) if looks else ()
    texts = ("Mitoses are many.", "Dark nuclei")
    return SheetRow(
        RankedImage(rank, Hit(f"/data/a{rank}.png", rank, sum(scores) or 0.5), scores, DIAGNOSIS),
        f"<i>a{rank}.png",
        random.integers(0, 256, (30, 40, 3), dtype=np.uint8),
        [Look(text, "mitosis", each / each.sum()) for text, each in zip(texts, heat, strict=True) if looks],
    )


def write(path: Path, rows: Sequence[SheetRow], parts: Sequence[PhrasedPart] = PARTS) -> Path:
    return write_retrieval_page(
        rows, path, title="a <query>", parts=parts, model="some/weights", folder="tiles", images=90
    )


def test_every_image_has_its_rank_score_diagnosis_and_the_score_of_each_part(open_page: OpenPage, tmp_path):
    page = open_page(write(tmp_path / "sheet.html", [row(1), row(2)]))
    assert page.locator("h1").inner_text() == "a <query>"
    assert "the first 2 of 90 images" in page.locator("header").inner_text()
    assert page.locator(".hits h2").all_inner_texts() == ["1 <i>a1.png", "2 <i>a2.png"]
    first = page.locator('[data-hit="0"]')
    assert "−7.818" in first.inner_text()
    assert "high grade, 75%" in first.inner_text()
    assert first.locator("figcaption").all_inner_texts() == [
        "Frequent <b>mitosis 50.0%\n“Mitoses are many.”",  # what the model says likelier
        "Dark nuclei log p −7.12",
    ]
    read_as = page.locator(".read-as li").all_inner_texts()
    assert read_as[0].startswith("Frequent <b>mitosis is read as mitosis: frequent")
    assert read_as[1] == "Dark nuclei is scored as it stands"


def test_a_map_is_coloured_and_as_clear_as_its_weights_say(open_page: OpenPage, tmp_path):
    each = row(1)
    page = open_page(write(tmp_path / "sheet.html", [each]))
    width, height, data = page.locator('[data-look="1"] canvas').evaluate(
        "c => [c.width, c.height, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    shown = np.array(data).reshape(height, width, 4)
    share = each.looks[1].map / each.looks[1].map.max()
    np.testing.assert_allclose(shown[..., 3], 255 * share, atol=1)
    peak = np.unravel_index(share.argmax(), share.shape)
    np.testing.assert_array_equal(shown[peak][:3], sequential()[-1])
    assert page.locator('[data-look="1"] img.base').get_attribute("src").startswith("data:image/png")


def test_the_opacity_of_all_maps_is_set_at_once(open_page: OpenPage, tmp_path):
    page = open_page(write(tmp_path / "sheet.html", [row(1), row(2)]))
    page.locator('[data-part="opacity"]').fill("40")
    opacities = page.locator("canvas").evaluate_all("all => all.map((each) => each.style.opacity)")
    assert opacities == ["0.4"] * 4


def test_images_like_another_have_a_likeness_and_no_map(open_page: OpenPage, tmp_path):
    page = open_page(write(tmp_path / "sheet.html", [row(1, looks=False)], parts=()))
    assert "Likeness\n0.500" in page.locator('[data-hit="0"]').inner_text()
    assert page.locator("canvas").count() == 0


@pytest.mark.parametrize("width", [360, 1400])
def test_no_width_scrolls_sideways(open_page: OpenPage, tmp_path, width):
    page = open_page(
        write(tmp_path / "sheet.html", [row(1), row(2)]), viewport={"width": width, "height": 800}
    )
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
