"""What words rested on adds up, and how visual they are decides what a section looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdnet.errors import ConfigurationError
from mdnet.explain.registry import explain
from mdnet.explain.targets import ReportTarget, SectionTarget, WordTarget
from mdnet.explain.words import read_text
from mdnet.inference.sections import sharpness

TEXT = ("mitotic", "figures", "are", "frequent", ".")
REPORT = ReportTarget((("mitosis", TEXT), ("remarks", ()), ("conclusion", ("high", "grade"))))


@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
def test_a_word_that_was_written_looked_where_the_finding_says(make_predictor, pictures, attention):
    predictor = make_predictor(attention=attention)
    for picture in pictures[:2]:
        finding = predictor(picture)
        for name, section in finding.report.sections.items():
            for position in range(min(2, len(section.words))):
                target = WordTarget.of(finding, name, position)
                (found,) = explain(predictor, [picture], method="attention", target=target)
                np.testing.assert_allclose(found.map, section.attention[position], atol=1e-12)


@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
def test_word_evidence_is_attention_times_evidence_and_sums_to_the_word_s_feature(
    make_predictor, pictures, attention
):
    predictor = make_predictor(attention=attention)
    model, target = predictor.model, WordTarget("mitosis", TEXT[:4])
    maps = explain(predictor, pictures, method="attention", target=target)
    named = explain(
        predictor, pictures, method="word_evidence", target=target, aspect="conclusion", label="normal"
    )
    pair = explain(
        predictor, pictures, method="word_evidence", target=target, label="rare", against="frequent"
    )
    grid = model.encode(predictor.pixel_values(pictures)).grid.detach().numpy()  # (B, P, D)
    normal = model.heads["conclusion"].weight[0].detach().numpy()
    mitosis = model.heads["mitosis"].weight.detach().numpy()
    for found, weight in ((named, normal), (pair, mitosis[1] - mitosis[2])):
        for row, each in enumerate(found):
            looked = maps[row].map.ravel()
            expected = [looked[p] * (weight @ grid[row, p]) for p in range(len(looked))]
            np.testing.assert_allclose(each.map.ravel(), expected, rtol=1e-9, atol=1e-12)
            assert each.score == pytest.approx(weight @ (looked @ grid[row]), rel=1e-9)
            assert (each.offset, each.unit) == (0.0, "logit")
            assert abs(each.residual) < 1e-10


def test_unless_named_the_class_is_the_one_that_guided_the_word(small, pictures):
    target = WordTarget("conclusion", ("high", "grade"))
    found = explain(small, pictures, method="word_evidence", target=target)
    for picture, each in zip(pictures, found, strict=True):
        answer = small(picture).diagnosis.label
        assert answer != "normal"  # or the contrast would be that of the others with it
        options = {"label": answer, "against": "normal"}
        (named,) = explain(small, [picture], method="word_evidence", target=target, **options)
        np.testing.assert_allclose(each.map, named.map, atol=1e-12)


def test_blocks_of_word_evidence_are_its_parts(small, pictures):
    target = WordTarget("mitosis", TEXT[:2])
    whole = explain(small, pictures, method="word_evidence", target=target)
    parts = [
        explain(small, pictures, method="word_evidence", target=target, block=name)
        for name in small.model.config.block_names
    ]
    for row, each in enumerate(whole):
        np.testing.assert_allclose(sum(part[row].map for part in parts), each.map, atol=1e-12)
        for part in parts:
            assert part[row].score == pytest.approx(each.score, rel=1e-9)
            assert abs(part[row].residual) < 1e-10
    with pytest.raises(ConfigurationError, match="no block 'stem'"):
        explain(small, pictures, method="word_evidence", target=target, block="stem")


def test_word_evidence_asks_for_the_class_that_it_cannot_know(make_predictor, pictures):
    predictor = make_predictor(section_aspects={"mitosis": None})
    target = WordTarget("mitosis", TEXT[:2])
    for settings in ({}, {"aspect": "mitosis"}, {"against": "absent"}):
        with pytest.raises(ConfigurationError, match="name the class too"):
            explain(predictor, pictures, method="word_evidence", target=target, **settings)
    settings = {"aspect": "mitosis", "label": "rare"}
    (found, *_) = explain(predictor, pictures, method="word_evidence", target=target, **settings)
    assert abs(found.residual) < 1e-10


@torch.no_grad()
def test_visual_is_what_a_word_loses_without_an_image_times_its_sharpness(small, pictures):
    model, images = small.model, small.pixel_values(pictures)
    reading, report, grid = read_text(model, images, REPORT), model.report, model.encode(images).grid
    logits = model(images).logits
    prepared = model.prepare(model.encode(images), model.guides(logits))
    words = [model.tokenizer.id_of(word) for word in TEXT]
    begin = torch.tensor(model.config.begin_ids)
    for last, word in enumerate(words):
        log_p = []
        for features in (grid, torch.zeros_like(grid)):  # without an image from the last word on alone
            state, given = report.initial_state(prepared), begin.expand(3, -1)
            for step in range(last + 1):
                seen = features if step == last else grid
                state, weights = report.step(report.embedding(given), state, seen, prepared)
                given = torch.full((3, 4), words[step])
            log_p.append(report.output(state.hidden[:, 0]).log_softmax(dim=-1)[:, word])
        expected = (log_p[0] - log_p[1]).clamp_min(0) * torch.from_numpy(sharpness(weights[:, 0].numpy()))
        torch.testing.assert_close(reading.visual[:, 0, last], expected)
    assert (reading.visual[:, 0] > 0).any()
    assert (reading.visual[:, [1, 2]] == 0).all()  # no words there
    assert (reading.visual[:, 3, 2:] == 0).all()


def test_section_and_report_are_means_of_their_words_by_how_visual_they_are(small, pictures):
    images = small.pixel_values(pictures)
    reading = read_text(small.model, images, REPORT)
    section = explain(small, pictures, method="section_attention", target=SectionTarget("mitosis", TEXT))
    report = explain(small, pictures, method="report_attention", target=REPORT)
    for row in range(3):
        weights, maps = reading.visual[row].numpy(), reading.attention[row].numpy()
        expected = sum(w * m for w, m in zip(weights[0], maps[0], strict=True)) / weights[0].sum()
        np.testing.assert_allclose(section[row].map.ravel(), expected, atol=1e-12)
        both = sum(weights[s, t] * maps[s, t] for s in (0, 3) for t in range(5)) / weights[[0, 3]].sum()
        np.testing.assert_allclose(report[row].map.ravel(), both, atol=1e-12)
        assert report[row].map.sum() == pytest.approx(1.0)


def test_words_weigh_the_same_where_none_is_visual(make_predictor, pictures):
    predictor = make_predictor()
    with torch.no_grad():
        predictor.model.report.lstm.weight_ih[:, predictor.model.config.embedding_size :] = 0.0  # blind
    target = SectionTarget("mitosis", TEXT)
    reading = read_text(predictor.model, predictor.pixel_values(pictures), target)
    assert float(reading.visual.abs().max()) == 0.0
    found = explain(predictor, pictures, method="section_attention", target=target)
    for row, each in enumerate(found):
        np.testing.assert_allclose(each.map.ravel(), reading.attention[row, 0].mean(dim=0), atol=1e-12)
