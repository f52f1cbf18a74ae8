"""Error rates by hand, Wilson's interval from its formula, and the surest errors first."""

from __future__ import annotations

import math

import pytest
from overview_records import SPACE, record

from mdnet.explain.overview.error_analysis import NO_LABEL, aspect_errors, confident_errors, error_rate

Z = 1.959963984540054


@pytest.fixture
def records():
    def answer(number, said, truth, mitosis, sure):
        labels = {"conclusion": truth} | ({} if mitosis is None else {"mitosis": mitosis})
        return record(
            number, said={"conclusion": said, "mitosis": "rare", "findings": ()}, truth=labels, sure=sure
        )

    return [
        answer(0, "normal", "normal", "absent", 0.9),
        answer(1, "tumor", "normal", "rare", 0.7),
        answer(2, "tumor", "tumor", "rare", 0.9),
        answer(3, "normal", "tumor", "rare", 0.95),
        answer(4, "tumor", "tumor", None, 0.6),
        record(5, said={"conclusion": "tumor", "mitosis": "rare", "findings": ()}),
    ]


@pytest.mark.parametrize(("errors", "studies"), [(0, 10), (3, 10), (10, 10), (1, 457)])
def test_the_interval_is_wilson_s(errors, studies):
    found = error_rate([True] * errors + [False] * (studies - errors))
    p = errors / studies
    centre = (p + Z**2 / (2 * studies)) / (1 + Z**2 / studies)
    half = Z / (1 + Z**2 / studies) * math.sqrt(p * (1 - p) / studies + Z**2 / (4 * studies**2))
    assert found.rate == p
    assert found.low == pytest.approx(max(centre - half, 0), abs=1e-12)
    assert found.high == pytest.approx(min(centre + half, 1), abs=1e-12)


def test_rates_by_class_by_answer_and_by_another_aspect_are_counted(records):
    found = aspect_errors(records, SPACE.aspects)
    assert set(found) == {"conclusion", "mitosis"}  # of the findings nothing is known
    errors = found["conclusion"]

    def counts(rates):
        return {name: (rate.errors, rate.studies) for name, rate in rates.items()}

    assert (errors.overall.errors, errors.overall.studies) == (2, 5)
    assert counts(errors.by_class) == {"normal": (1, 2), "tumor": (1, 3)}
    assert counts(errors.by_answer) == {"normal": (1, 2), "tumor": (1, 3)}
    assert counts(errors.by_aspect["mitosis"]) == {"absent": (0, 1), "rare": (2, 3), NO_LABEL: (0, 1)}
    assert errors.confusion == ((1, 1), (1, 2))
    assert (found["mitosis"].overall.errors, found["mitosis"].overall.studies) == (1, 4)


def test_the_surest_errors_come_first_with_the_truth_to_read_them_against(records):
    cases = confident_errors(records, SPACE["conclusion"], most=9)
    assert [(case.place, case.study, case.said, case.truth) for case in cases] == [
        (3, "s3", "normal", "tumor"),
        (1, "s1", "tumor", "normal"),
    ]
    assert [case.confidence for case in cases] == [0.95, 0.7]
    assert (cases[0].label, cases[0].against) == ("normal", "tumor")
    assert len(confident_errors(records, SPACE["conclusion"], most=1)) == 1


def test_of_several_labels_each_wrong_one_counts():
    answers = [
        record(0, said={"findings": ("oedema",)}, truth={"findings": ("nodule",)}, sure=0.8),
        record(1, said={"findings": ("nodule",)}, truth={"findings": ("nodule",)}),
    ]
    errors = aspect_errors(answers, [SPACE["findings"]])["findings"]
    assert (errors.overall.errors, errors.confusion, errors.by_answer) == (1, None, {})
    assert {name: rate.errors for name, rate in errors.by_class.items()} == {"oedema": 1, "nodule": 1}
    cases = confident_errors(answers, SPACE["findings"], most=9)
    assert {(case.said, case.truth, case.label, case.against) for case in cases} == {
        ("oedema", "no oedema", "oedema", None),
        ("no nodule", "nodule", "nodule", None),
    }
    assert [case.confidence for case in cases] == pytest.approx([0.8, 0.8])
