"""ROUGE-L with several references.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, in pycocoevalcap's form: beta 1.2,
the best precision and the best recall over the references, which may come from two of them.

The longest common subsequence is found with bit vectors: Hyyro, "Bit-parallel LCS-length computation
revisited", AWOCA 2004; Python's integers carry a text of any length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdnet.metrics.corpus import Corpus

__all__ = ["longest_common_subsequence", "rouge_l"]

_BETA = 1.2


def rouge_l(corpus: Corpus) -> NDArray[np.float64]:
    """Score every study; the corpus score is their mean.

    F = (1 + beta^2) P R / (R + beta^2 P), P and R the longest common subsequence over the length of
    the hypothesis and of the reference. As in pycocoevalcap an empty text counts as one empty word:
    an empty hypothesis scores 1 beside an empty reference and 0 beside any other.

    Returns:
        F by study, (studies,).
    """
    known: dict[tuple[int, int], int] = {}
    sentences = [tuple(corpus.sentence_tokens(index).tolist()) for index in range(len(corpus.lengths))]
    common = np.empty(len(corpus.references), np.int64)
    pairs = zip(corpus.hypotheses[corpus.study_of_pair].tolist(), corpus.references.tolist(), strict=True)
    positions: dict[int, int] = {}
    placed = -1
    for pair, (hypothesis, reference) in enumerate(pairs):
        if (hypothesis, reference) not in known:
            if placed != hypothesis:
                positions, placed = _positions(sentences[hypothesis]), hypothesis
            known[hypothesis, reference] = _common(
                positions, len(sentences[hypothesis]), sentences[reference]
            )
        common[pair] = known[hypothesis, reference]

    lengths = corpus.lengths
    both_empty = (lengths[corpus.hypotheses[corpus.study_of_pair]] == 0) & (lengths[corpus.references] == 0)
    common[both_empty] = 1
    lengths = np.maximum(lengths, 1)
    starts = corpus.reference_starts[:-1]
    precision = np.maximum.reduceat(common / lengths[corpus.hypotheses[corpus.study_of_pair]], starts)
    recall = np.maximum.reduceat(common / lengths[corpus.references], starts)
    below = recall + _BETA**2 * precision
    above = (1 + _BETA**2) * precision * recall
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def longest_common_subsequence(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common subsequence of two sequences."""
    return _common(_positions(first), len(first), second)


def _positions(tokens: Sequence[int]) -> dict[int, int]:
    """For each token, the bits of the places where it stands."""
    bits: dict[int, int] = {}
    for place, token in enumerate(tokens):
        bits[token] = bits.get(token, 0) | 1 << place
    return bits


def _common(positions: dict[int, int], length: int, tokens: Sequence[int]) -> int:
    """Hyyro's recurrence: V <- (V + (V & M)) | (V & ~M); zero bits of V count the subsequence."""
    everything = (1 << length) - 1
    state = everything
    for token in tokens:
        match = positions.get(token)
        if match is not None:
            matched = state & match
            state = (state + matched | state - matched) & everything
    return length - state.bit_count()
