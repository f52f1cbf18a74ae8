"""How varied the generated reports are: what tells a model that writes one report for every image.

Distinct-n: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models",
NAACL 2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np

from mdnet.errors import DataError
from mdnet.metrics.ptb_tokenization import tokenize

__all__ = ["diversity", "out_of_vocabulary_share"]


def diversity(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    *,
    tokenized: bool = False,
) -> dict[str, float]:
    """Measure the variety of reports.

    Args:
        hypotheses: One report a study.
        references: One or more references a study, for `length_ratio`.
        tokenized: The texts are tokens with spaces between them.

    Returns:
        distinct_1, distinct_2: distinct words and bigrams over all words and bigrams (0 if there is none);
        distinct_reports: how many different token sequences; distinct_share: the same over the studies;
        commonest_share: share of studies that got the commonest report (1 is one report for all);
        length_ratio, with references: words of all reports over words of the references, a study with
        several references counting their mean.

    Raises:
        DataError: There is no report, or the lengths differ.
    """
    if not len(hypotheses):
        raise DataError("texts to measure", "no report", "give at least one")
    split = str.split if tokenized else tokenize
    reports = [tuple(split(text)) for text in hypotheses]
    words = Counter(word for report in reports for word in report)
    bigrams = Counter(pair for report in reports for pair in pairwise(report))
    distinct = Counter(reports)
    result: dict[str, float] = {
        "distinct_1": len(words) / max(words.total(), 1),
        "distinct_2": len(bigrams) / max(bigrams.total(), 1),
        "distinct_reports": len(distinct),
        "distinct_share": len(distinct) / len(reports),
        "commonest_share": distinct.most_common(1)[0][1] / len(reports),
    }
    if references is not None:
        if len(references) != len(reports):
            raise DataError(
                "texts to measure",
                f"{len(reports)} hypotheses and {len(references)} lists of references",
                "give one of each for every study",
            )
        due = sum(float(np.mean([len(split(text)) for text in texts])) for texts in references)
        result["length_ratio"] = words.total() / due if due else 0.0
    return result


def out_of_vocabulary_share(texts: Sequence[str], vocabulary: Collection[str]) -> float:
    """Share of the words of texts that a vocabulary lacks; 0 where there is no word."""
    known = set(vocabulary)
    words = [word for text in texts for word in tokenize(text)]
    return sum(word not in known for word in words) / max(len(words), 1)
