"""CIDEr in its two forms.

Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015. Both
weigh n-grams (n = 1..4) by term frequency times idf, the idf from the references given (a study is a
document), and average over n and over the references a similarity of hypothesis and reference:

- *plain* (the paper's equation 2): the cosine of the two vectors;
- *CIDEr-D* (its section 6): the hypothesis's weights clipped at the reference's, times a Gaussian of
  the difference in length with sigma 6.

The scorer that pycocoevalcap calls `Cider`, and that papers report as CIDEr, computes CIDEr-D. Both
forms are multiplied by 10, as in the authors' own code. As there, the length is the number of bigrams:
one less than the number of words, so only texts of no word differ from the paper (by one).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdnet.metrics.corpus import Corpus, expand_rows

__all__ = ["cider"]

_ORDERS, _SIGMA, _SCALE = 4, 6.0, 10.0


def cider(corpus: Corpus) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score every study; the corpus score is their mean. All scores are 0 where there is one study.

    Returns:
        CIDEr-D and plain CIDEr by study, each (studies,), in [0, 10].
    """
    hypothesis = corpus.hypotheses[corpus.study_of_pair]  # (pairs,)
    clipped = np.zeros(len(corpus.references))
    plain = np.zeros(len(corpus.references))
    for order in range(1, _ORDERS + 1):
        table, overlap = corpus.ngrams(order), corpus.overlap(order)
        idf = _inverse_document_frequency(corpus, order)
        sentence, entry = expand_rows(table.starts, np.arange(len(corpus.lengths)))
        weight = table.counts[entry] * idf[table.ngrams[entry]]
        norm = np.sqrt(np.bincount(sentence, weight**2, len(corpus.lengths)))
        hypothesis_weight = (overlap.count * idf[overlap.ngram])[overlap.entry]
        reference_weight = overlap.reference_count * idf[overlap.ngram][overlap.entry]
        product = norm[hypothesis] * norm[corpus.references]
        for total, left in (
            (clipped, np.minimum(hypothesis_weight, reference_weight)),
            (plain, hypothesis_weight),
        ):
            dot = np.bincount(overlap.pair, left * reference_weight, len(product))
            total += np.divide(dot, product, out=np.zeros_like(product), where=product > 0)
    bigrams = np.maximum(corpus.lengths - 1, 0)
    difference = bigrams[hypothesis] - bigrams[corpus.references]
    clipped *= np.exp(-(difference**2) / (2 * _SIGMA**2))
    return _mean_over_references(corpus, clipped), _mean_over_references(corpus, plain)


def _mean_over_references(corpus: Corpus, pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over n of every pair -> the score of every study."""
    total = np.bincount(corpus.study_of_pair, pairs, corpus.studies)
    result: NDArray[np.float64] = total * _SCALE / _ORDERS / np.diff(corpus.reference_starts)
    return result


def _inverse_document_frequency(corpus: Corpus, order: int) -> NDArray[np.float64]:
    """log(studies / studies whose references hold the n-gram), an n-gram in none counted as in one."""
    table = corpus.ngrams(order)
    pair, entry = expand_rows(table.starts, corpus.references)
    # One key a study and n-gram; sorting here is ten times faster than np.unique's hash table.
    keys = np.sort(corpus.study_of_pair[pair] * table.vocabulary + table.ngrams[entry])
    first = np.diff(keys, prepend=-1) > 0
    frequency = np.bincount(keys[first] % table.vocabulary, minlength=table.vocabulary)
    return np.log(corpus.studies) - np.log(np.maximum(frequency, 1))
