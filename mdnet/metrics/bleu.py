"""BLEU-1 to BLEU-4 with several references.

Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002. Constants,
the closest reference length (the shorter of two equally close) and the score of one study are those of
pycocoevalcap (`Bleu(4)` with option "closest"), whose numbers papers report; there is no smoothing
beyond two constants that keep divisions defined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdnet.metrics.corpus import Corpus, expand_rows

__all__ = ["bleu", "bleu_counts", "bleu_of_counts", "constant_bleu"]

_ORDERS = 4
_TINY, _SMALL = 1e-15, 1e-9  # keep quotients defined where nothing matches or a text is empty


def bleu(corpus: Corpus) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """BLEU-1..4 of the corpus, (4,), and of every study, (studies, 4)."""
    counts = bleu_counts(corpus)
    return bleu_of_counts(counts.sum(axis=0, keepdims=True))[0], bleu_of_counts(counts)


def bleu_counts(corpus: Corpus) -> NDArray[np.int64]:
    """Count what BLEU is made of, study by study.

    Returns:
        (studies, 10): for n = 1..4 the hypothesis's n-grams that are matched, each at most as often as in
        the reference that has it most often; for n = 1..4 its n-grams; its words c; those r of the
        closest reference. The counts of a corpus are the sums of its studies'.
    """
    lengths = corpus.lengths[corpus.hypotheses]
    matched = np.stack([_matched(corpus, order) for order in range(1, _ORDERS + 1)], axis=1)
    possible = np.maximum(lengths[:, None] - np.arange(_ORDERS), 0)
    closest = _closest_reference_length(corpus, lengths)
    return np.concatenate([matched, possible, lengths[:, None], closest[:, None]], axis=1)


def bleu_of_counts(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """BLEU-1..4 from `bleu_counts`: (rows, 10) -> (rows, 4).

    BLEU-n = exp(min(0, 1 - r / c)) (p_1 ... p_n)^(1/n), p_k the share of the hypothesis's k-grams that
    are matched. The score of a corpus is that of the summed counts, not the mean of the studies' scores.
    """
    return _score(counts[:, :_ORDERS], counts[:, _ORDERS : 2 * _ORDERS], counts[:, -2], counts[:, -1])


def constant_bleu(corpus: Corpus, sentences: NDArray[np.int64]) -> NDArray[np.float64]:
    """BLEU-1..4 of the corpus with one sentence as every study's hypothesis, for each of many sentences.

    Equal to `bleu` of the corpus with those hypotheses, in a fraction of its time: the n-grams of all
    references are turned round once, so that a sentence looks up only the studies that share them.

    Args:
        corpus: The studies; their own hypotheses do not matter.
        sentences: Numbers of known sentences, (candidates,).

    Returns:
        (candidates, 4).
    """
    matched = np.zeros((len(sentences), _ORDERS), np.int64)
    for order in range(1, _ORDERS + 1):
        table = corpus.ngrams(order)
        pair, entry = expand_rows(table.starts, corpus.references)
        keys = table.ngrams[entry] * corpus.studies + corpus.study_of_pair[pair]
        ascending = np.argsort(keys)
        keys = keys[ascending]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        if not len(first):
            continue  # every reference is shorter than the order
        most = np.maximum.reduceat(table.counts[entry][ascending], first)  # in any one reference of a study
        starts = np.searchsorted(keys[first], np.arange(table.vocabulary + 1) * corpus.studies)
        for candidate, sentence in enumerate(sentences):
            own = slice(table.starts[sentence], table.starts[sentence + 1])
            place, found = expand_rows(starts, table.ngrams[own])
            matched[candidate, order - 1] = np.minimum(table.counts[own][place], most[found]).sum()
    lengths = corpus.lengths[sentences]
    possible = corpus.studies * np.maximum(lengths[:, None] - np.arange(_ORDERS), 0)
    closest = {
        length: _closest_reference_length(corpus, np.full(corpus.studies, length)).sum()
        for length in set(lengths.tolist())
    }
    reference_length = np.array([closest[length] for length in lengths.tolist()])
    return _score(matched, possible, corpus.studies * lengths, reference_length)


def _matched(corpus: Corpus, order: int) -> NDArray[np.int64]:
    """Clipped matches of one order, by study."""
    overlap = corpus.overlap(order)
    if not len(overlap.study):
        return np.zeros(corpus.studies, np.int64)
    most = np.maximum.reduceat(overlap.reference_count, overlap.first_meeting)
    clipped = np.minimum(overlap.count, most)
    return np.bincount(overlap.study, clipped, corpus.studies).astype(np.int64)


def _closest_reference_length(corpus: Corpus, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """For every study the reference length nearest to the hypothesis's, the shorter of two."""
    reference = corpus.lengths[corpus.references]
    distance = np.abs(reference - lengths[corpus.study_of_pair])
    order = np.lexsort((reference, distance, corpus.study_of_pair))
    return reference[order[corpus.reference_starts[:-1]]]


def _score(
    matched: NDArray[np.int64] | NDArray[np.float64],
    possible: NDArray[np.int64] | NDArray[np.float64],
    length: NDArray[np.int64] | NDArray[np.float64],
    reference_length: NDArray[np.int64] | NDArray[np.float64],
) -> NDArray[np.float64]:
    """BLEU-1..4 from counts: (rows, 4), (rows, 4), (rows,), (rows,) -> (rows, 4)."""
    precision = (matched + _TINY) / (possible + _SMALL)
    score = np.cumprod(precision, axis=1) ** (1 / np.arange(1, _ORDERS + 1))
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    result: NDArray[np.float64] = score * brevity[:, None]
    return result
