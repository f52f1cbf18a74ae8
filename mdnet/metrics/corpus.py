"""Hypotheses and references as integers: tokens interned, n-grams counted, once for all metrics.

Every distinct text is tokenised and counted once, whatever the number of studies that share it. An
n-gram is one integer: the id of its first n - 1 tokens and the id of its last token make a key that is
interned anew for every order, so that no two n-grams can collide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mdnet.errors import DataError

__all__ = ["Corpus", "NgramCounts", "Overlap", "check_texts", "expand_rows"]

Integers = NDArray[np.int64]


def expand_rows(starts: Integers, rows: Integers) -> tuple[Integers, Integers]:
    """List the entries of chosen rows of a table that is stored row after row.

    Args:
        starts: First entry of every row, and the number of entries behind the last: (rows + 1,).
        rows: The rows wanted, in any order, with repeats.

    Returns:
        For every entry, its place in `rows` and its index in the table.
    """
    lengths = starts[rows + 1] - starts[rows]
    place = np.repeat(np.arange(len(rows)), lengths)
    first = np.cumsum(lengths) - lengths
    return place, np.arange(len(place)) - np.repeat(first - starts[rows], lengths)


@dataclass(frozen=True)
class NgramCounts:
    """The n-grams of one order in every distinct sentence, sorted by sentence and n-gram."""

    starts: Integers  # (sentences + 1,)
    ngrams: Integers  # (entries,) ids below `vocabulary`
    counts: Integers  # (entries,) at least 1
    vocabulary: int
    keys: Integers  # (entries,) sentence * vocabulary + ngram, ascending

    def count(self, sentences: Integers, ngrams: Integers) -> Integers:
        """How often each n-gram stands in the sentence beside it; 0 where it does not."""
        if not len(self.keys):
            return np.zeros(len(ngrams), np.int64)
        wanted = sentences * self.vocabulary + ngrams
        found = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[found] == wanted, self.counts[found], 0)


@dataclass(frozen=True)
class Overlap:
    """Each hypothesis n-gram of one order beside its count in each of the study's references.

    An *entry* is one distinct n-gram of one study's hypothesis; a *meeting* is an entry beside one
    reference. The meetings of an entry follow each other.
    """

    study: Integers  # (entries,)
    ngram: Integers  # (entries,)
    count: Integers  # (entries,) in the hypothesis
    first_meeting: Integers  # (entries,)
    entry: Integers  # (meetings,)
    pair: Integers  # (meetings,) index into Corpus.references
    reference_count: Integers  # (meetings,) 0 where the reference lacks the n-gram


@dataclass(frozen=True)
class Corpus:
    """Studies with one hypothesis and one or more references each, over distinct interned sentences.

    A *pair* is a study's hypothesis beside one of its references; pairs are numbered as `references`.
    """

    sentences: dict[str, int]  # every distinct text and its number
    words: list[str]  # the vocabulary; a token is an index into it
    tokens: Integers  # all tokens of all distinct sentences, one after the other
    sentence_starts: Integers  # (sentences + 1,)
    hypotheses: Integers  # (studies,) sentence of each study's hypothesis
    references: Integers  # (pairs,) sentence of each reference, study after study
    reference_starts: Integers  # (studies + 1,)
    _ngrams: list[NgramCounts] = field(default_factory=list, repr=False)
    _gram_of_token: list[Integers] = field(default_factory=list, repr=False)

    @classmethod
    def from_texts(
        cls,
        hypotheses: Sequence[str],
        references: Sequence[Sequence[str]],
        *,
        tokenize: Callable[[str], Sequence[str]] = str.split,
        others: Sequence[str] = (),
    ) -> Corpus:
        """Tokenise and intern the texts.

        Args:
            hypotheses: One text a study; it may be empty.
            references: One or more texts a study. None is cut.
            tokenize: Turns a text into its tokens.
            others: Texts to know as well, for `with_hypotheses`.

        Raises:
            DataError: There is no study, the lengths differ, or a study has no reference.
        """
        check_texts(hypotheses, references)
        sentences: dict[str, int] = {}
        hypothesis_ids = [sentences.setdefault(text, len(sentences)) for text in hypotheses]
        reference_ids = [sentences.setdefault(text, len(sentences)) for texts in references for text in texts]
        for text in others:
            sentences.setdefault(text, len(sentences))
        token_of: dict[str, int] = {}
        flat: list[int] = []
        starts = [0]
        for text in sentences:
            flat.extend([token_of.setdefault(token, len(token_of)) for token in tokenize(text)])
            starts.append(len(flat))
        return cls(
            sentences=sentences,
            words=list(token_of),
            tokens=np.array(flat, np.int64),
            sentence_starts=np.array(starts, np.int64),
            hypotheses=np.array(hypothesis_ids, np.int64),
            references=np.array(reference_ids, np.int64),
            reference_starts=np.cumsum([0, *map(len, references)], dtype=np.int64),
        )

    def with_hypotheses(self, hypotheses: Integers) -> Corpus:
        """The same studies and counts with other known sentences as the hypotheses."""
        return replace(self, hypotheses=hypotheses)

    @property
    def studies(self) -> int:
        """How many studies there are."""
        return len(self.hypotheses)

    @property
    def lengths(self) -> Integers:
        """Tokens of every distinct sentence."""
        return np.diff(self.sentence_starts)

    @property
    def study_of_pair(self) -> Integers:
        """The study that each pair belongs to."""
        return np.repeat(np.arange(self.studies), np.diff(self.reference_starts))

    def sentence_tokens(self, sentence: int) -> Integers:
        """The tokens of one distinct sentence."""
        return self.tokens[self.sentence_starts[sentence] : self.sentence_starts[sentence + 1]]

    def ngrams(self, order: int) -> NgramCounts:
        """The n-grams of one order (1 is words), counted in every distinct sentence."""
        while len(self._ngrams) < order:
            self._count_next_order()
        return self._ngrams[order - 1]

    def _count_next_order(self) -> None:
        """Count the n-grams one order longer than those counted so far."""
        order = len(self._ngrams) + 1
        sentence = np.repeat(np.arange(len(self.lengths)), self.lengths)
        sentence = sentence[: max(len(sentence) - order + 1, 0)]
        # An n-gram starts at a token whose (order - 1)-th follower is in the same sentence.
        inside = np.arange(len(sentence)) + order <= self.sentence_starts[sentence + 1]
        if order == 1:
            gram, vocabulary = self.tokens, len(self.words)
        else:
            shorter = self._gram_of_token[-1][: len(sentence)]
            longer = shorter * len(self.words) + self.tokens[order - 1 :]
            distinct, inverse = np.unique(longer[inside], return_inverse=True)
            gram, vocabulary = np.zeros(len(sentence), np.int64), len(distinct)
            gram[inside] = inverse
        self._gram_of_token[:] = [gram]
        vocabulary = max(vocabulary, 1)
        keys, counts = np.unique(sentence[inside] * vocabulary + gram[inside], return_counts=True)
        starts = np.searchsorted(keys, np.arange(len(self.lengths) + 1) * vocabulary)
        self._ngrams.append(NgramCounts(starts, keys % vocabulary, counts, vocabulary, keys))

    def overlap(self, order: int) -> Overlap:
        """Meet the hypotheses' n-grams of one order with their references."""
        table = self.ngrams(order)
        study, index = expand_rows(table.starts, self.hypotheses)
        entry, pair = expand_rows(self.reference_starts, study)
        ngram = table.ngrams[index]
        meetings = np.diff(self.reference_starts)[study]
        return Overlap(
            study=study,
            ngram=ngram,
            count=table.counts[index],
            first_meeting=np.cumsum(meetings) - meetings,
            entry=entry,
            pair=pair,
            reference_count=table.count(self.references[pair], ngram[entry]),
        )


def check_texts(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Refuse texts that cannot be scored, in words."""
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise DataError(
            "texts to score", "one text where a list is due", "give a list of hypotheses, a study each"
        )
    if len(hypotheses) != len(references):
        raise DataError(
            "texts to score",
            f"{len(hypotheses)} hypotheses and {len(references)} lists of references",
            "give one of each for every study",
        )
    if not len(hypotheses):
        raise DataError("texts to score", "no study", "give at least one hypothesis with its references")
    for study, texts in enumerate(references):
        if isinstance(texts, str):
            raise DataError(
                f"references[{study}]", "one text where a list is due", "write [text] for a single reference"
            )
        if not len(texts):
            raise DataError(f"references[{study}]", "no reference", "leave out studies without a report")
