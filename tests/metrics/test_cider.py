"""CIDEr against its formulas, written plainly."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from mdnet.metrics.cider import cider
from mdnet.metrics.corpus import Corpus


def naive(hypotheses: list[list[str]], references: list[list[list[str]]], clip: bool) -> list[float]:
    """The paper's equations, one n-gram at a time."""

    def ngrams(words: list[str], order: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))

    def norm(vector: dict[tuple[str, ...], float]) -> float:
        return math.sqrt(sum(value**2 for value in vector.values()))

    scores = [0.0] * len(hypotheses)
    for order in range(1, 5):
        frequency = Counter(
            gram for texts in references for gram in {g for text in texts for g in ngrams(text, order)}
        )

        def weigh(words: list[str], n: int, seen: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
            return {
                g: count * (math.log(len(references)) - math.log(max(seen[g], 1)))
                for g, count in ngrams(words, n).items()
            }

        for study, (hypothesis, texts) in enumerate(zip(hypotheses, references, strict=True)):
            for text in texts:
                left, right = weigh(hypothesis, order, frequency), weigh(text, order, frequency)
                dot = sum(
                    (min(value, right.get(g, 0)) if clip else value) * right.get(g, 0)
                    for g, value in left.items()
                )
                length = norm(left) * norm(right)
                penalty = math.exp(-((len(hypothesis) - len(text)) ** 2) / 72) if clip else 1
                scores[study] += 10 / 4 / len(texts) * penalty * (dot / length if length else 0)
    return scores


def test_both_forms_follow_the_paper() -> None:
    generator = np.random.default_rng(0)

    def text() -> list[str]:
        return list(generator.choice(list("abcdefg"), size=generator.integers(1, 15)))

    hypotheses = [text() for _ in range(25)]
    references = [[text() for _ in range(generator.integers(1, 5))] for _ in range(25)]
    corpus = Corpus.from_texts(
        [" ".join(words) for words in hypotheses],
        [[" ".join(words) for words in texts] for texts in references],
    )
    clipped, plain = cider(corpus)
    np.testing.assert_allclose(clipped, naive(hypotheses, references, clip=True), rtol=0, atol=1e-12)
    np.testing.assert_allclose(plain, naive(hypotheses, references, clip=False), rtol=0, atol=1e-12)


def test_equal_texts_score_ten_and_strangers_nothing() -> None:
    corpus = Corpus.from_texts(["a b c d", "e f g h"], [["a b c d"], ["i j k l"]])
    for scores in cider(corpus):
        assert scores == pytest.approx([10, 0])


def test_words_repeated_to_please_are_clipped() -> None:
    clipped, plain = cider(Corpus.from_texts(["a a a a", "x"], [["a"], ["b"]]))
    # One word, idf log 2 on both sides: the cosine is 1; clipped it is 1/4, and three words too many
    # cost exp(-9 / 72). Only the first of four orders has anything to compare.
    assert plain[0] == pytest.approx(10 / 4)
    assert clipped[0] == pytest.approx(10 / 4 / 4 * math.exp(-((3 - 0) ** 2) / 72))


def test_a_phrase_in_every_study_is_worth_nothing() -> None:
    corpus = Corpus.from_texts(["no change", "no change"], [["no change"], ["no change"]])
    for scores in cider(corpus):
        assert scores == pytest.approx([0, 0])
