"""The contact sheet in headless Chromium: what it shows, what its filters hide, and no request made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdnet.data import Aspect, LabelSpace, Study, StudySet
from mdnet.errors import ConfigurationError, DataError
from mdnet.report.data_page import OUTLINES, choose_studies, write_data_page

OpenPage = Callable[..., Any]

SPACE = LabelSpace(
    (
        Aspect("grade", ("normal", "mild <b>")),
        Aspect("findings", ("fold", "blur", "never"), multi_label=True),
    ),
    "grade",
)


@pytest.fixture
def studies(tmp_path: Path) -> StudySet:
    random = np.random.default_rng(0)
    for name, size in (("wide.png", (40, 90)), ("tall.jpg", (700, 400)), ("small.png", (20, 20))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    mask = np.zeros((40, 90), np.uint8)
    mask[10:30, 20:70] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    wide, tall, small, broken = (
        tmp_path / name for name in ("wide.png", "tall.jpg", "small.png", "broken.png")
    )
    report = {"findings": ("A fold is seen.", "Folded & blurred."), "remarks": ("None.",)}
    both = {"grade": "mild <b>", "findings": ("fold", "blur")}
    masks = {"fold": tmp_path / "mask.png", "cell.type": tmp_path / "broken.png"}
    return StudySet(
        tmp_path,
        "studies",
        (
            Study("s<1>", (wide, tall, small), "train", "p7", both, report, masks),
            Study("s2", (small,), "val", "s2", {"grade": "normal"}, {"report": ("Clear lungs.",)}),
            Study("s3", (broken,), None, None, {}, {}),
        ),
        SPACE,
        ("findings", "remarks"),
    )


@pytest.fixture
def page_file(studies: StudySet, tmp_path: Path) -> Path:
    return write_data_page(tmp_path / "out" / "page.html", studies, studies.studies, asked_for="3 studies")


def shown(page: Any) -> list[str]:
    return [text.split(" ")[0] for text in page.locator("article:visible h2").all_inner_texts()]


def test_a_study_is_shown_with_all_that_it_says(open_page: OpenPage, page_file: Path):
    page = open_page(page_file)
    cards = page.locator("article")
    first, second, third = (cards.nth(place) for place in range(3))
    assert first.locator("h2").inner_text() == "s<1> train, patient p7"
    assert first.locator(".chips li").all_inner_texts() == [
        "grade mild <b>",
        "findings fold",
        "findings blur",
    ]
    assert first.locator(".chips .diagnosis").all_inner_texts() == ["grade mild <b>"]
    assert first.locator("h3").all_inner_texts() == ["findings", "remarks"]
    assert first.get_by_text("A fold is seen.").first.is_visible()
    other = first.get_by_text("Folded & blurred. None.")
    assert not other.is_visible()
    first.get_by_text("1 more writer").click()
    assert other.is_visible()
    assert second.locator("h2").inner_text() == "s2 val"  # a patient of the same name says nothing
    assert second.locator("h3").count() == 0  # nor does a section called report
    assert second.get_by_text("Clear lungs.").is_visible()
    assert third.locator("h2").inner_text() == "s3 no split"
    assert "no report" in third.inner_text()
    assert "broken.png: " in third.inner_text()


def test_every_view_is_a_picture_of_its_own_shape(open_page: OpenPage, page_file: Path):
    page = open_page(page_file)
    pictures = page.locator("article").first.locator(".frame > img:not(.outline)")
    boxes = [picture.bounding_box() for picture in pictures.all()]
    shapes = [box["width"] / box["height"] for box in boxes]
    assert shapes == pytest.approx([90 / 40, 400 / 700, 1.0], rel=0.03)
    assert pictures.evaluate_all("images => images.every(image => image.naturalWidth > 0)")
    assert pictures.nth(1).get_attribute("src").startswith("data:image/jpeg;base64,")


def test_an_outline_is_asked_for_and_lies_over_the_first_view(open_page: OpenPage, page_file: Path):
    page = open_page(page_file)
    outline = page.locator(".outline")
    assert outline.count() == 1
    assert not outline.is_visible()
    page.get_by_label("mask of fold").check()
    assert outline.is_visible()
    image, over = page.locator(".frame > img").first.bounding_box(), outline.bounding_box()
    assert over == pytest.approx(image, abs=1)
    pixels = outline.evaluate(
        """image => { const c = document.createElement('canvas'); c.width = 320; c.height = 142;
        const g = c.getContext('2d'); g.drawImage(image, 0, 0);
        const at = (x, y) => Array.from(g.getImageData(x, y, 1, 1).data);
        return [at(160, 71), at(160, 36), at(5, 5)]; }"""
    )  # in the middle, on the upper edge (10 rows of 40), outside
    assert [pixel[3] for pixel in pixels] == [0, 255, 0]
    assert pixels[1][:3] == pytest.approx(list(bytes.fromhex(OUTLINES[0][1:])), abs=8)
    page.get_by_label("mask of fold").uncheck()
    assert not outline.is_visible()
    assert "mask cell.type: broken.png" in page.locator("article").first.inner_text()


def test_filters_work_alone_and_together(open_page: OpenPage, page_file: Path):
    page = open_page(page_file)
    assert shown(page) == ["s<1>", "s2", "s3"]
    assert page.locator("#class option").all_inner_texts() == [
        "any",
        "grade: normal",
        "grade: mild <b>",
        "findings: fold",
        "findings: blur",
    ]
    page.locator("#class").select_option("findings: blur")
    assert shown(page) == ["s<1>"]
    assert page.locator("#count").inner_text() == "1 of 3 studies"
    page.locator("#split").select_option("val")
    assert shown(page) == []
    page.locator("#class").select_option("any")
    assert shown(page) == ["s2"]
    page.locator("#split").select_option("any")
    page.locator("#find").fill("BLURRED folded")  # in a writer that is folded away
    assert shown(page) == ["s<1>"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_reaches_beyond_a_phone(open_page: OpenPage, studies: StudySet, tmp_path: Path, scheme: str):
    first = replace(
        studies.studies[0],
        id="x" * 120,
        labels={"grade": "mild <b>"},
        report={"w" * 90: ("y" * 200,)},
        patient="z" * 90,
    )
    file = write_data_page(tmp_path / "page.html", studies, (first, *studies.studies), asked_for="a" * 100)
    page = open_page(file, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_errors_of_the_data_set_are_told(open_page: OpenPage, studies: StudySet, tmp_path: Path):
    from mdnet.data import Fault

    broken = replace(studies, faults=(Fault("x:1", "no id", "give one"),))
    file = write_data_page(tmp_path / "page.html", broken, studies.studies, asked_for="3 studies")
    page = open_page(file)
    assert "1 error in this data set: mdnet data check names it." in page.locator("header").inner_text()


def test_progress_counts_every_study(studies: StudySet, tmp_path: Path):
    calls: list[tuple[int, int]] = []
    chosen = [*studies.studies] * 30
    write_data_page(
        tmp_path / "page.html", studies, chosen, asked_for="", progress=lambda *call: calls.append(call)
    )
    assert calls == [(number + 1, 90) for number in range(90)]


def test_the_chosen_ones_are_spread_evenly(studies: StudySet):
    many = replace(
        studies, studies=tuple(replace(studies.studies[number % 2], id=f"n{number}") for number in range(10))
    )
    assert [study.id for study in choose_studies(many, limit=3)[0]] == ["n0", "n3", "n6"]
    assert choose_studies(many, limit=60) == (list(many.studies), 10)
    chosen, number = choose_studies(many, split="train", aspect="findings", label="blur", limit=2)
    assert ([study.id for study in chosen], number) == (["n0", "n4"], 5)
    assert choose_studies(many, aspect="grade")[1] == 10
    assert choose_studies(many, aspect="grade", label="normal")[1] == 5


def test_what_cannot_be_shown_is_an_error(studies: StudySet):
    with pytest.raises(DataError, match="no study in split 'test'"):
        choose_studies(studies, split="test")
    with pytest.raises(ConfigurationError, match="no aspect 'colour'"):
        choose_studies(studies, aspect="colour")
    with pytest.raises(ConfigurationError, match="no class 'severe'"):
        choose_studies(studies, aspect="grade", label="severe")
    with pytest.raises(DataError, match="no study of findings: never"):
        choose_studies(studies, aspect="findings", label="never")
    with pytest.raises(DataError, match="no study that can be shown"):
        choose_studies(replace(studies, studies=()))
