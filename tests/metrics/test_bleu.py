"""BLEU by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mdnet.metrics.bleu import bleu, constant_bleu
from mdnet.metrics.corpus import Corpus


def test_matches_are_clipped_at_the_reference_that_has_most() -> None:
    # The example of the paper: "the" seven times, at most two of them in one reference.
    corpus = Corpus.from_texts(
        ["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]]
    )
    scores, _ = bleu(corpus)
    assert scores[0] == pytest.approx(2 / 7, abs=1e-8)
    assert scores[1] == pytest.approx(0, abs=1e-4)


def test_two_studies_by_hand() -> None:
    corpus = Corpus.from_texts(["a b c d", "a b"], [["a b c e"], ["a c b d"]])
    scores, studies = bleu(corpus)
    # Words: 3 of 4 and 2 of 2; bigrams: 2 of 3 and 0 of 1. Lengths: 6 written, 8 due.
    brevity = math.exp(1 - 8 / 6)
    assert scores[0] == pytest.approx(brevity * 5 / 6, abs=1e-8)
    assert scores[1] == pytest.approx(brevity * math.sqrt(5 / 6 * 2 / 4), abs=1e-8)
    assert studies[0, 0] == pytest.approx(3 / 4, abs=1e-8)
    assert studies[1, 0] == pytest.approx(math.exp(1 - 4 / 2), abs=1e-8)


def test_four_orders_by_hand() -> None:
    # Of "a b c d e" all but the last word is right: 4 of 5 words, 3 of 4, 2 of 3 and 1 of 2 n-grams.
    scores, _ = bleu(Corpus.from_texts(["a b c d e"], [["a b c d f"]]))
    assert scores == pytest.approx(
        [4 / 5, (3 / 5) ** (1 / 2), (2 / 5) ** (1 / 3), (1 / 5) ** (1 / 4)], abs=1e-7
    )


def test_of_two_equally_close_lengths_the_shorter_counts() -> None:
    corpus = Corpus.from_texts(["a b c"], [["a b c d", "a b"]])  # 4 and 2 are as far from 3
    assert bleu(corpus)[0][0] == pytest.approx(1, abs=1e-8)


def test_no_ngram_spans_two_texts() -> None:
    # Side by side, "a b" ends with a token that "c d" could continue.
    corpus = Corpus.from_texts(["b c", "x"], [["a b"], ["c d"]])
    assert bleu(corpus)[1][0, 1] == pytest.approx(0, abs=1e-4)


def test_constant_reports_score_as_if_given_to_every_study() -> None:
    candidates = ["a b c d e", "a", "", "b a b a b a", "x y z"]
    references = [["a b c", "b a b"], ["c d e a b c d", "a"], ["b a b a", "b b"]]
    corpus = Corpus.from_texts(["a"] * 3, references, others=candidates)
    sentences = np.array([corpus.sentences[text] for text in candidates])
    expected = [bleu(Corpus.from_texts([text] * 3, references))[0] for text in candidates]
    np.testing.assert_allclose(constant_bleu(corpus, sentences), expected, rtol=0, atol=1e-12)
