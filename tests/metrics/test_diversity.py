"""Variety of reports by hand."""

from __future__ import annotations

import pytest

from mdnet.errors import DataError
from mdnet.metrics.diversity import diversity, out_of_vocabulary_share


def test_variety_by_hand() -> None:
    values = diversity(
        ["No change.", "no change", "a new lesion", ""], [["no change"]] * 2 + [["a"], ["a b c"]]
    )
    assert values == pytest.approx(
        {
            "distinct_1": 5 / 7,
            "distinct_2": 3 / 4,
            "distinct_reports": 3,
            "distinct_share": 3 / 4,
            "commonest_share": 2 / 4,
            "length_ratio": 7 / 8,
        }
    )


def test_one_report_for_all_is_seen() -> None:
    values = diversity(["clear lungs"] * 50)
    assert values["commonest_share"] == 1
    assert values["distinct_reports"] == 1
    assert "length_ratio" not in values


def test_several_references_count_their_mean_length() -> None:
    assert diversity(["a b c"], [["a", "a b c d e"]])["length_ratio"] == pytest.approx(3 / 3)


def test_empty_reports_divide_nothing_by_nothing() -> None:
    values = diversity(["", ""], [[""], [""]])
    assert values["distinct_1"] == values["distinct_2"] == values["length_ratio"] == 0


def test_reports_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="no report"):
        diversity([])
    with pytest.raises(DataError, match="1 hypotheses and 2 lists"):
        diversity(["a"], [["a"], ["b"]])


def test_words_out_of_the_vocabulary() -> None:
    assert out_of_vocabulary_share(["A new lesion.", "lesion"], {"a", "new"}) == pytest.approx(2 / 4)
    assert out_of_vocabulary_share([], {"a"}) == 0
