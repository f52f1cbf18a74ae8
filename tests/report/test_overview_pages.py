"""The pages of an overview in headless Chromium: marks, legend, keys, rules, errors; no request anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdnet.data.readers import read_studies
from mdnet.explain.overview.summary import Overview, make_overview
from mdnet.inference.predictor import Predictor
from mdnet.report.overview_page import found_again, write_overview
from mdnet.report.scatter_page import write_scatter_page

OpenPage = Callable[..., Any]
SAMPLE = Path(__file__).parents[2] / "data" / "sample"
STATE = "document.querySelector('[data-scatter]').widget"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_pretrained("mdnet_tiny/phantom", device="cpu")


@pytest.fixture(scope="module")
def overview(predictor: Predictor) -> Overview:
    """Of the sample; two studies were given false labels, so that there are errors; one id is no name."""
    studies = list(read_studies(SAMPLE).studies)
    graded = [place for place, study in enumerate(studies) if "mitosis" in study.labels][:2]
    for place, ident in zip(graded, ("a/b: <i>", "second"), strict=True):
        labels = dict(studies[place].labels)
        labels["mitosis"] = "rare" if labels["mitosis"] != "rare" else "absent"
        labels["conclusion"] = "normal" if labels["conclusion"] != "normal" else "high grade"
        studies[place] = replace(studies[place], id=ident, labels=labels)
    return make_overview(predictor, studies, methods=["pca", "tsne"], progress=False)


@pytest.fixture(scope="module")
def folder(overview: Overview, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("overview") / "out"
    write_overview(overview, predictor, out, data="the sample")
    return out


def test_the_index_holds_what_was_found_and_links_to_the_rest(open_page: OpenPage, folder: Path):
    page = open_page(folder / "index.html")
    text = page.locator("main").inner_text()
    record = json.loads((folder / "overview.json").read_text())
    assert f"{100 * record['surrogate']['fidelity']:.1f}%" in text
    assert record["surrogate"]["rules"][0] in text
    row = page.locator("tr", has_text="conclusion").first.inner_text().split()
    shares = {each["space"]: each["in_space"]["conclusion"]["neighbours"] for each in record["embeddings"]}
    due = [f"{100 * shares[name]:.0f}%" for name in ("pixels", "features", "sections")]
    assert row[1:4] == due
    links = page.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert {"overview.json", "scatter.html", "errors.html"} <= set(links)
    assert all((folder / link).is_file() for link in links)


def test_the_json_holds_every_point_and_row(overview: Overview, folder: Path):
    record = json.loads((folder / "overview.json").read_text())
    assert [each["id"] for each in record["studies"]].count("a/b: <i>") == 1
    assert len(record["studies"]) == 50
    assert len(record["embeddings"]) == 6
    for each, made in zip(record["embeddings"], overview.embeddings, strict=True):
        np.testing.assert_allclose(each["points"], made.points)
    assert record["scales"]["by"] == "truth"
    assert record["errors"]["conclusion"]["overall"]["errors"] == 2


def test_the_arrow_keys_walk_over_the_marks_and_the_card_follows(open_page: OpenPage, folder: Path):
    page = open_page(folder / "scatter.html", viewport={"width": 1200, "height": 900})
    plot = page.locator('[data-part="plot"]')
    plot.focus()
    page.keyboard.press("Home")
    places = np.array(page.evaluate(f"{STATE}.places"))
    for key, axis, sign in (
        ("ArrowRight", 0, 1),
        ("ArrowUp", 1, -1),
        ("ArrowLeft", 0, -1),
        ("ArrowDown", 1, 1),
    ):
        before = page.evaluate(f"{STATE}.chosen")
        page.keyboard.press(key)
        after = page.evaluate(f"{STATE}.chosen")
        steps = places - places[before]
        ahead = (sign * steps[:, axis] > 0) & (np.abs(steps[:, 1 - axis]) <= sign * steps[:, axis])
        if ahead.any():
            distance = np.where(ahead, np.hypot(*steps.T), np.inf)
            assert after == distance.argmin()
        else:
            assert after == before
    page.keyboard.press("End")
    last = json.loads((folder / "overview.json").read_text())["studies"][-1]
    assert page.locator('[data-part="id"]').inner_text() == last["id"]
    answers = page.locator('[data-part="answers"] tr').all_inner_texts()
    assert answers[-1].split("\t") == [
        "conclusion",
        last["said"]["conclusion"][0],
        last["truth"]["conclusion"],
    ]


def test_pointing_at_a_mark_shows_its_picture(open_page: OpenPage, folder: Path, overview: Overview):
    page = open_page(folder / "scatter.html", viewport={"width": 1200, "height": 900})
    places = np.array(page.evaluate(f"{STATE}.places"))
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(places))
    place = int(apart.min(axis=1).argmax())  # the loneliest: no other mark is in reach
    page.locator('[data-part="plot"]').hover(position={"x": places[place][0] + 3, "y": places[place][1] + 3})
    assert page.evaluate(f"{STATE}.chosen") == place
    page.wait_for_function(f"{STATE}.sprites.complete")
    side, data = page.locator('[data-part="thumbnail"]').evaluate(
        "c => [c.width, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    shown = np.array(data).reshape(side, side, 4)[..., :3]
    due = overview.observations[place].thumbnail.astype(int)
    others = [np.abs(shown - each.thumbnail).mean() for each in overview.observations]
    assert shown.shape == due.shape
    assert int(np.argmin(others)) == place  # JPEG: near its own, not another's


def test_the_legend_counts_and_hides_classes_that_differ_in_colour_and_shape(
    open_page: OpenPage, folder: Path
):
    page = open_page(folder / "scatter.html")
    marks = page.evaluate(f"Array.from({STATE}.marks.values())")
    assert (
        len({mark["colour"] for mark in marks}) == len({mark["shape"] for mark in marks}) == len(marks) == 4
    )
    buttons = page.locator('[data-part="legend"] button')
    counts = [int(text.split()[-1]) for text in buttons.all_inner_texts()]
    assert sum(counts) == 50
    buttons.nth(1).click()
    assert buttons.nth(1).get_attribute("aria-pressed") == "false"
    assert page.evaluate(f"{STATE}.shown().length") == 50 - counts[1]
    page.locator('[data-part="source"]').select_option("right")
    assert [text.split() for text in buttons.all_inner_texts()] == [["right", "48"], ["wrong", "2"]]


@pytest.mark.parametrize("name", ["index.html", "scatter.html", "errors.html"])
def test_no_page_is_wider_than_a_phone(open_page: OpenPage, folder: Path, name: str):
    page = open_page(folder / name, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_errors_show_the_wrong_answer_s_evidence_and_lead_to_the_finding(open_page: OpenPage, folder: Path):
    page = open_page(folder / "errors.html")
    cards = page.locator(".cards > .card")
    cases = json.loads((folder / "overview.json").read_text())["confident_errors"]
    assert cards.count() == len(cases) >= 4  # two studies, two aspects each
    assert cards.nth(0).locator("h3").inner_text() in {"a/b: <i>: conclusion", "second: conclusion"}
    assert cards.nth(0).locator("img").count() == 2
    texts = cards.nth(0).locator(".detail").inner_text().replace("\N{MINUS SIGN}", "-")
    *terms, total = texts.replace(";", ",").split(", ")
    assert sum(float(term.split()[1]) for term in terms) == pytest.approx(float(total.split()[0]), abs=0.03)
    for link in page.locator(".card a").evaluate_all("all => all.map(a => a.getAttribute('href'))"):
        assert (folder / link).is_file()
    assert page.locator("td.wrong").count() >= 1


def test_errors_of_several_views_are_shown_with_all_of_them(build_model, overview: Overview):
    predictor = Predictor(build_model(views=2, dtype=torch.float32), device="cpu")
    seen = overview.observations[overview.cases[0].place]
    study = replace(seen.record.study, images=seen.record.study.images * 2)
    doubled = replace(seen, record=replace(seen.record, study=study))
    case = replace(overview.cases[0], place=0)
    (finding,) = found_again(replace(overview, observations=[doubled], cases=(case,)), predictor).values()
    assert len(finding.views) == 2


def test_the_scatter_of_two_thousand_studies_is_small_whatever_they_show(overview: Overview, tmp_path: Path):
    random = np.random.default_rng(0)
    noise = [
        replace(each, thumbnail=random.integers(0, 256, (48, 48, 3), np.uint8))  # the worst for a JPEG
        for each in overview.observations
    ]
    many = replace(
        overview,
        observations=noise * 40,
        embeddings=tuple(replace(e, points=np.tile(e.points, (40, 1))) for e in overview.embeddings),
    )
    assert write_scatter_page(many, tmp_path / "scatter.html").stat().st_size < 5_000_000
