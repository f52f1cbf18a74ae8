"""ROUGE-L by hand and against the textbook recurrence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnet.metrics.corpus import Corpus
from mdnet.metrics.rouge import longest_common_subsequence, rouge_l

sequences = st.lists(st.integers(0, 4), max_size=90)


def textbook(first: list[int], second: list[int]) -> int:
    row = [0] * (len(second) + 1)
    for a in first:
        above = row
        row = [0]
        for place, b in enumerate(second):
            row.append(above[place] + 1 if a == b else max(above[place + 1], row[place]))
    return row[-1]


@given(sequences, sequences)
def test_bit_vectors_find_the_textbook_length(first: list[int], second: list[int]) -> None:
    assert longest_common_subsequence(first, second) == textbook(first, second)


def test_precision_and_recall_may_come_from_two_references() -> None:
    # "a b c": 3 of 3 words with the long reference, 2 of 2 of the short one.
    scores = rouge_l(Corpus.from_texts(["a b c"], [["a x b x c x", "a c"]]))
    assert scores == pytest.approx([1])


def test_one_reference_by_hand() -> None:
    scores = rouge_l(Corpus.from_texts(["a b c d"], [["a c b d e"]]))  # a, b or c, d: three words
    precision, recall = 3 / 4, 3 / 5
    assert scores == pytest.approx([(1 + 1.44) * precision * recall / (recall + 1.44 * precision)])


def test_empty_texts() -> None:
    scores = rouge_l(Corpus.from_texts(["", "", "a", "b"], [[""], ["a"], [""], ["a"]]))
    assert scores == pytest.approx([1, 0, 0, 0])
