"""METEOR by hand and against nltk."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from nltk.translate.meteor_score import meteor_score

from mdnet.errors import ConfigurationError
from mdnet.metrics.corpus import Corpus
from mdnet.metrics.meteor import meteor, wordnet_synonyms

WORDS = ["run", "running", "Runs", "nucleus", "nuclei", "clear", "clearly", "cleared", "the", "no", "é"]
SYNONYMS = {"clear": {"run", "no"}, "nucleu": {"the"}, "the": {"no"}}


class Thesaurus:
    """A WordNet of a few words."""

    def __init__(self, synonyms: dict[str, set[str]]) -> None:
        self.synonyms = synonyms

    def synsets(self, word: str) -> list[SimpleNamespace]:
        lemmas = [SimpleNamespace(name=lambda name=name: name) for name in self.synonyms.get(word, ())]
        return [SimpleNamespace(lemmas=lambda: lemmas)]


@pytest.mark.parametrize("synonyms", [{}, SYNONYMS])
def test_random_texts_score_as_in_nltk(synonyms: dict[str, set[str]]) -> None:
    generator = random.Random(0)

    def text() -> str:
        return " ".join(generator.choices(WORDS, k=generator.choice([0, 1, 4, 12, 30])))

    hypotheses = [text() for _ in range(60)]
    references = [[text() for _ in range(generator.randint(1, 4))] for _ in range(60)]
    scores = meteor(
        Corpus.from_texts(hypotheses, references),
        synonyms=(lambda word: synonyms.get(word, set())) if synonyms else None,
    )
    expected = [
        meteor_score([r.split() for r in texts], hypothesis.split(), wordnet=Thesaurus(synonyms))
        for hypothesis, texts in zip(hypotheses, references, strict=True)
    ]
    assert scores == pytest.approx(expected, abs=1e-12)


def test_a_stem_matches_and_chunks_cost() -> None:
    # Hypothesis "cells x crowded", reference "crowded cell": two matches in two chunks.
    scores = meteor(Corpus.from_texts(["cells x crowded"], [["crowded cell"]]))
    precision, recall = 2 / 3, 2 / 2
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    assert scores == pytest.approx([mean * (1 - 0.5 * (2 / 2) ** 3)])


def test_a_synonym_matches_where_asked_for_and_the_best_reference_counts() -> None:
    # One word, one match, one chunk: precision and recall are 1, the penalty 0.5 (1 / 1)^3.
    corpus = Corpus.from_texts(["clear"], [["transparent", "dark sky"]])
    synonyms = {"clear": {"transpar"}}
    assert meteor(corpus) == pytest.approx([0])
    assert meteor(corpus, synonyms=lambda word: synonyms.get(word, set())) == pytest.approx([1 - 0.5])


def test_nothing_in_common_and_nothing_at_all_score_zero() -> None:
    assert meteor(Corpus.from_texts(["a", "", ""], [["b"], ["b"], [""]])) == pytest.approx([0, 0, 0])


def test_wordnet_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nltk.data.path", [])
    with pytest.raises(ConfigurationError, match=r"nltk\.downloader wordnet"):
        wordnet_synonyms()
