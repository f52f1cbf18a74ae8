"""Baselines on sets small enough to see what they must say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from answers import SPACE, data_of, make_record, make_study

from mdnet.evaluation.baselines import Neighbours, another_place, score_baselines, unit
from mdnet.metrics.language import language_metrics

TRAIN = [
    make_study(
        f"t{number}",
        "train",
        {"mitosis": mitosis, "conclusion": conclusion},
        labels={"mitosis": label, "conclusion": diagnosis},
    )
    for number, (mitosis, conclusion, label, diagnosis) in enumerate(
        [
            ("none are seen", "normal tissue here", "absent", "normal"),
            ("none are seen", "nothing found at all", "absent", "normal"),
            ("mitoses not found", "normal tissue here", "absent", "normal"),
            ("many mitoses seen", "this is a tumor", "frequent", "tumor"),
            ("many mitoses seen", "this is a tumor", "frequent", "tumor"),
            ("mitoses everywhere", "tumor in the tissue", "frequent", "tumor"),
        ]
    )
]
TEST = [
    make_study(
        f"e{number}",
        report={"mitosis": (mitosis, "some other words"), "conclusion": (conclusion, "of another writer")},
        labels={"mitosis": label, "conclusion": diagnosis},
    )
    for number, (mitosis, conclusion, label, diagnosis) in enumerate(
        [
            ("none are found", "normal tissue seen here", "absent", "normal"),
            ("many are seen", "this is tumor tissue", "frequent", "tumor"),
            ("mitoses seen", "this is a small tumor", "rare", "tumor"),
        ]
    )
]
REFERENCES = [study.references() for study in TEST]


@pytest.fixture
def records():
    said = [("absent", "normal"), ("frequent", "tumor"), ("rare", "normal")]
    texts = ["none are seen", "many tumor cells seen", "all the same words here"]
    return [
        make_record(study, text, mitosis=mitosis, conclusion=conclusion)
        for study, text, (mitosis, conclusion) in zip(TEST, texts, said, strict=True)
    ]


def test_reports_of_predicted_classes_are_the_commonest_training_texts(records):
    found = score_baselines(records, records, data_of([*TRAIN, *TEST]), SPACE).metrics
    expected = [
        "none are seen normal tissue here",
        "many mitoses seen this is a tumor",
        "none are seen normal tissue here",  # no training study is "rare": the commonest text of all
    ]
    assert found["class_report"] == language_metrics(expected, REFERENCES)


def test_an_undivided_report_has_no_text_by_class(records):
    whole = [replace(study, report={"report": study.report["conclusion"]}) for study in [*TRAIN, *TEST]]
    scored = [replace(r, study=study) for r, study in zip(records, whole[len(TRAIN) :], strict=True)]
    assert score_baselines(scored, scored, data_of(whole), SPACE).metrics["class_report"] is None


def test_nearest_neighbours_lend_their_report_and_vote(records):
    axes = np.eye(3, dtype=np.float32)
    features = np.stack([axes[0], axes[0], axes[0], axes[1], axes[1], axes[2]])
    seen = [
        replace(records[0], features=np.array([5, 1, 0], np.float32)),  # scale does not matter
        replace(records[1], features=np.array([0, 2, 1], np.float32)),
        replace(records[2], features=np.array([0, 0, 0.1], np.float32)),
    ]
    neighbours = Neighbours(TRAIN, unit(features))
    found = score_baselines(seen, seen, data_of([*TRAIN, *TEST]), SPACE, neighbours=neighbours).metrics
    nearest = found["nearest_neighbour"]
    reports = [TRAIN[place].references()[0] for place in (0, 3, 5)]
    expected = language_metrics(reports, REFERENCES)
    assert {name: nearest[name] for name in expected} == expected
    assert nearest["images"] == 6
    # Five of six vote: three frequent, two absent for the second study, and three absent for the third.
    assert nearest["aspects"]["conclusion"]["accuracy"] == pytest.approx(2 / 3)
    assert nearest["aspects"]["mitosis"]["accuracy"] == pytest.approx(2 / 3)


def test_people_are_scored_against_each_other(records):
    human = score_baselines(records, records, data_of([*TRAIN, *TEST]), SPACE).metrics["human"]
    one = language_metrics([texts[0] for texts in REFERENCES], [texts[1:] for texts in REFERENCES])
    other = language_metrics([texts[1] for texts in REFERENCES], [texts[:1] for texts in REFERENCES])
    assert human["studies"] == 3
    assert human["rouge_l"] == pytest.approx((one["rouge_l"] + other["rouge_l"]) / 2)
    assert human["bleu_1"] == pytest.approx((one["bleu_1"] + other["bleu_1"]) / 2)


@pytest.mark.parametrize("size", [2, 3, 10, 57])
def test_a_shuffled_report_never_meets_its_own_study(size):
    places = another_place(size)
    assert sorted(places) == list(range(size))
    assert all(place != other for place, other in enumerate(places))
    assert places == another_place(size)


def test_the_constant_report_is_chosen_without_the_studies_scored(records):
    val = [make_study("v", "val", {"mitosis": "mitoses everywhere", "conclusion": "tumor in the tissue"})]
    found = score_baselines(records, records, data_of([*TRAIN, *val, *TEST]), SPACE).metrics
    expected = language_metrics(["mitoses everywhere tumor in the tissue"] * 3, REFERENCES)
    assert found["constant_report"] == expected
