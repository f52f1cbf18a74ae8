"""METEOR without Java.

Lavie and Agarwal, "METEOR: An Automatic Metric for MT Evaluation with High Levels of Correlation with
Human Judgments", WMT 2007, with nltk's constants (alpha 0.9, beta 3, gamma 0.5) and nltk's alignment:
equal words first, then equal Porter stems, then WordNet synonyms where asked for, each word of the
hypothesis taking the last free match in the reference. Equal to `nltk.translate.meteor_score` with a
WordNet that knows no synonym (or with WordNet itself), at a fraction of its time.

It is another metric than the Java program of pycocoevalcap (METEOR 1.5: other constants, paraphrase
tables, function words, statistics summed over the corpus; `mdnet.metrics.meteor_java` runs it). On 945
real bladder studies, one writer against four, this one gives 0.711 and Java 0.392; by study they correlate
at 0.79. Never set one beside the other. Synonyms are never used just because WordNet lies on the disk: a
number must not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdnet.errors import ConfigurationError
from mdnet.metrics.corpus import Corpus

__all__ = ["meteor", "wordnet_synonyms"]

_ALPHA, _BETA, _GAMMA = 0.9, 3.0, 0.5

Synonyms = Callable[[str], set[str]]


def meteor(corpus: Corpus, *, synonyms: Synonyms | None = None) -> NDArray[np.float64]:
    """Score every study by its best reference; the corpus score is their mean.

    F = P R / (alpha P + (1 - alpha) R), lowered by gamma (chunks / matches)^beta, a chunk being a run
    of matches that are neighbours in both texts.

    Args:
        corpus: The studies.
        synonyms: Gives the synonyms of a word (`wordnet_synonyms()`); none by default.

    Returns:
        Scores by study, (studies,).
    """
    lowered = [word.lower() for word in corpus.words]
    ids: dict[str, int] = {}
    word_ids = np.array([ids.setdefault(word, len(ids)) for word in lowered], np.int64)
    stems = [_stem(word) for word in lowered]
    stem_ids = np.array([ids.setdefault(stem, len(ids)) for stem in stems], np.int64)
    related: dict[int, set[int]] | None = None
    if synonyms is not None:  # nltk looks for the synonyms of the stem, among stems
        related = {
            ids[stem]: {ids[other] for other in synonyms(stem) | {stem} if other in ids}
            for stem in set(stems)
        }

    words_of = [word_ids[corpus.sentence_tokens(index)].tolist() for index in range(len(corpus.lengths))]
    stems_of = [stem_ids[corpus.sentence_tokens(index)].tolist() for index in range(len(corpus.lengths))]
    known: dict[tuple[int, int], float] = {}
    scores = np.empty(len(corpus.references))
    pairs = zip(corpus.hypotheses[corpus.study_of_pair].tolist(), corpus.references.tolist(), strict=True)
    for pair, (hypothesis, reference) in enumerate(pairs):
        if (hypothesis, reference) not in known:
            matches = _align(
                (words_of[hypothesis], stems_of[hypothesis]),
                (words_of[reference], stems_of[reference]),
                related,
            )
            known[hypothesis, reference] = _score(
                matches, len(words_of[hypothesis]), len(words_of[reference])
            )
        scores[pair] = known[hypothesis, reference]
    return np.maximum.reduceat(scores, corpus.reference_starts[:-1])


def wordnet_synonyms() -> Synonyms:
    """The synonyms of WordNet, where nltk finds its data.

    Raises:
        ConfigurationError: nltk has no WordNet data.
    """
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise ConfigurationError(
            "meteor='wordnet', but nltk finds no WordNet: run `python -m nltk.downloader wordnet` or choose "
            "meteor='nltk'"
        ) from error

    def synonyms(word: str) -> set[str]:
        names = {lemma.name() for synset in wordnet.synsets(word) for lemma in synset.lemmas()}
        return {name for name in names if "_" not in name}

    return synonyms


@cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    stem: str = _stemmer().stem(word)
    return stem


def _align(
    hypothesis: tuple[Sequence[int], Sequence[int]],
    reference: tuple[Sequence[int], Sequence[int]],
    related: dict[int, set[int]] | None,
) -> dict[int, int]:
    """Match places of the hypothesis with places of the reference; each text as (words, stems)."""
    matches: dict[int, int] = {}
    free, taken = list(range(len(hypothesis[0]))), list(range(len(reference[0])))
    for left, right in zip(hypothesis, reference, strict=True):
        if not free or not taken:
            return matches
        found = _match(left, right, free, taken, None)
        matches.update(found)
        free = [place for place in free if place not in found]
        used = set(found.values())
        taken = [place for place in taken if place not in used]
    if related is not None:
        matches.update(_match(hypothesis[1], reference[1], free, taken, related))
    return matches


def _match(
    left: Sequence[int],
    right: Sequence[int],
    left_places: Sequence[int],
    right_places: Sequence[int],
    related: dict[int, set[int]] | None,
) -> dict[int, int]:
    """From the last place to the first, give each left token the last free right token that fits it."""
    waiting: dict[int, list[int]] = {}
    for place in right_places:
        waiting.setdefault(right[place], []).append(place)
    found: dict[int, int] = {}
    for place in reversed(left_places):
        if related is None:
            places = waiting.get(left[place])
        else:
            candidates = (waiting.get(token) for token in related[left[place]])
            places = max((c for c in candidates if c), key=lambda c: c[-1], default=None)
        if places:
            found[place] = places.pop()
    return found


def _score(matches: dict[int, int], hypothesis_length: int, reference_length: int) -> float:
    """METEOR of one hypothesis beside one reference; 0 where nothing matches."""
    if not matches:
        return 0.0
    precision, recall = len(matches) / hypothesis_length, len(matches) / reference_length
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    chunks = sum(matches.get(place - 1, -2) + 1 != match for place, match in matches.items())
    return (1 - _GAMMA * (chunks / len(matches)) ** _BETA) * mean
