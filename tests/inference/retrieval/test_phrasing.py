"""What stands for a part of a query, and where it looks: on shipped weights and some sample tiles."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from mdnet.data.phantom import LABEL_SPACE, stated_class
from mdnet.data.text import ReportTokenizer, split_words
from mdnet.inference.predictor import Predictor
from mdnet.inference.retrieval.looking import looks_of
from mdnet.inference.retrieval.parsing import parse_query
from mdnet.inference.retrieval.phrasing import _exclusive, as_it_stands, phrase_query, score_parts
from mdnet.inference.retrieval.ranking import rank_alike, rank_images
from mdnet.inference.retrieval.store import FeatureStore

IMAGES = sorted((Path(__file__).parents[3] / "data/sample/images").glob("*.png"))[:16]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_pretrained("mdnet_tiny/phantom", device="cpu")


@pytest.fixture(scope="module")
def store(predictor, tmp_path_factory) -> FeatureStore:
    return FeatureStore.build(tmp_path_factory.mktemp("features"), predictor, IMAGES, broken=[])


def phrased(text, predictor, store):
    return phrase_query(predictor.model, store, parse_query(text, predictor.model))


def test_the_sentences_for_a_class_are_several_and_state_it(predictor, store):
    parts = phrased("frequent mitosis, nuclei are dark", predictor, store)
    assert [part.statement for part in parts] == [("mitosis", "frequent"), None]
    assert len(parts[0].texts) > 3
    assert {stated_class("mitosis", text.text) for text in parts[0].texts} == {"frequent"}
    assert [text.text for text in parts[1].texts] == ["Nuclei are dark"]


def test_the_probabilities_of_the_classes_of_an_aspect_sum_to_no_more_than_one(predictor, store):
    said = {label: phrased(f"{label} mitosis", predictor, store) for label in LABEL_SPACE["mitosis"].classes}
    parts = [part for parts in said.values() for part in parts]
    assert [part.statement[1] for part in parts] == list(said)
    total = np.exp(score_parts(predictor.model, store, parts)).sum(axis=0)
    assert (total <= 1 + 1e-6).all()
    assert np.median(total) > 0.8  # and the sentences are most of what the model would write


def test_texts_that_begin_with_another_are_left_out():
    assert _exclusive(["No nuclei.", "No.", "No nuclei", "A nucleus."], split_words) == [
        "No.",
        "No nuclei",
        "A nucleus.",
    ]


def test_of_pieces_of_words_a_text_begins_with_another_within_a_word():
    texts = ["it is normal", "it is normally so", "it is so"]
    tokenizer = ReportTokenizer.build([texts[0], texts[2]], ["report"], kind="bpe", vocabulary_size=400)
    first, second = map(tokenizer.encode, texts[:2])
    assert second[: len(first)] == first
    assert _exclusive(texts, tokenizer.encode) == ["it is normal", "it is so"]


def test_the_order_of_words_does_not_change_the_ranking(predictor, store):
    orders = [
        rank_images(predictor.model, store, phrased(text, predictor, store), top=16)
        for text in ("frequent mitosis, polarity lost", "polarity is lost; mitosis is frequent")
    ]
    first, second = ([each.hit.row for each in order] for order in orders)
    assert first == second
    assert [each.rank for each in orders[0]] == list(range(1, 17))
    assert all(each.hit.score == pytest.approx(sum(each.parts)) for each in orders[0])


def test_a_class_that_no_image_has_is_scored_by_its_words_and_said(predictor, store, tmp_path, caplog):
    of_class = phrased("frequent mitosis", predictor, store)
    scores = score_parts(predictor.model, store, of_class)[0]
    without = [image for image, score in zip(IMAGES, scores, strict=True) if score < np.log(0.5)]
    assert 0 < len(without) < len(IMAGES)
    others = FeatureStore.build(tmp_path / "others", predictor, without, broken=[])
    with caplog.at_level(logging.WARNING):
        (part,) = phrased("frequent mitosis", predictor, others)
    assert part == as_it_stands(parse_query("frequent mitosis", predictor.model))[0]
    assert "no image here is mitosis: frequent, as the model sees it" in caplog.messages


def test_a_text_looks_where_the_report_did_that_wrote_it(predictor, store):
    finding = predictor(IMAGES[0])
    text = finding.report.sections["mitosis"].text
    (part,) = as_it_stands(parse_query(text, predictor.model))
    (look,) = looks_of(predictor.model, store, part, [0])
    assert (look.text, look.section) == (text, "mitosis")
    assert look.map.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        look.map, finding.attention("mitosis").mean(axis=0), atol=2e-3
    )  # half precision


def test_an_image_is_most_like_itself_and_is_left_out_where_it_is_the_one_asked_of(predictor, store):
    model, pooled = predictor.model, store.pooled[3]
    (first, *_) = rank_alike(model, store, pooled, top=16, but="another")
    assert (first.hit.row, first.hit.score) == (3, pytest.approx(1))
    others = rank_alike(model, store, pooled, top=16, but=store.sources[3])
    assert sorted(each.hit.row for each in others) == [row for row in range(16) if row != 3]
    assert others[0].diagnosis.label == predictor(IMAGES[others[0].hit.row]).diagnosis.label


def test_candidates_of_a_large_store_are_scored_as_every_image_is(predictor, store, monkeypatch):
    parts = phrased("frequent mitosis, polarity lost, nuclei", predictor, store)
    every = rank_images(predictor.model, store, parts, top=5)
    monkeypatch.setattr("mdnet.inference.retrieval.two_stage.EXACT_BELOW", 0)
    candidates = rank_images(predictor.model, store, parts, top=5)
    assert [each.hit.row for each in candidates] == [each.hit.row for each in every]
    assert [each.hit.score for each in candidates] == pytest.approx([each.hit.score for each in every])
    monkeypatch.setattr("mdnet.inference.retrieval.two_stage.CandidateIndex", None)
    assert rank_images(predictor.model, store, parts, top=5, exact=True) == every
