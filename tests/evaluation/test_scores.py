"""Calibration, abstention and the order of studies, from records made by hand."""

from __future__ import annotations

import pytest
from answers import SPACE, make_record, make_study

from mdnet.evaluation.evaluate import extremes
from mdnet.evaluation.record import StudyRecord
from mdnet.evaluation.scores import abstention, score, study_scores


def answer(name: str, truth: str, said: str, probability: float) -> StudyRecord:
    shares = [probability if label == said else 1 - probability for label in SPACE["conclusion"].classes]
    study = make_study(name, labels={"conclusion": truth})
    return StudyRecord(study, {"conclusion": (said,)}, {"conclusion": shares})


RECORDS = [
    answer("a", "normal", "normal", 0.95),
    answer("b", "tumor", "tumor", 0.9),
    answer("c", "tumor", "normal", 0.6),
    answer("d", "normal", "normal", 0.55),
]


def test_abstaining_gives_coverage_and_accuracy_of_what_is_answered():
    found = abstention(RECORDS, SPACE, 0.6)
    assert found["diagnosis"] == {
        "answered": 3,
        "coverage": 0.75,
        "accuracy": pytest.approx(2 / 3),
        "accuracy_of_all": 0.75,
    }
    assert abstention(RECORDS, SPACE, 0.99)["diagnosis"]["accuracy"] is None
    assert list(found["aspects"]) == ["conclusion"]  # no other aspect was answered


def test_calibration_of_the_diagnosis_is_ready_for_a_picture():
    calibration = score(RECORDS, SPACE).metrics["calibration"]
    assert calibration["brier"] == pytest.approx(2 * (0.05**2 + 0.1**2 + 0.6**2 + 0.45**2) / 4)
    assert sum(each["count"] for each in calibration["reliability"]) == 4
    assert calibration["risk_coverage"]["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert calibration["risk_coverage"]["risk"] == pytest.approx([0, 0, 1 / 3, 1 / 4])


def test_classes_without_probabilities_have_no_auroc():
    named = [StudyRecord(r.study, r.labels, {}) for r in RECORDS]
    metrics = score(named, SPACE).metrics
    assert metrics["diagnosis"]["accuracy"] == 0.75
    assert metrics["diagnosis"]["auroc"] is None
    assert metrics["diagnosis"]["ece"] is None
    assert metrics["diagnosis"]["per_class"]["tumor"]["average_precision"] is None
    assert "calibration" not in metrics
    assert score(RECORDS, SPACE).metrics["diagnosis"]["auroc"] is not None


def test_an_answer_that_is_not_the_likeliest_is_scored_as_it_was_given():
    other = [StudyRecord(r.study, {"conclusion": ("normal",)}, r.probabilities) for r in RECORDS]
    scored = score(other, SPACE)
    assert scored.metrics["diagnosis"]["confusion"] == [[2, 0], [2, 0]]
    assert scored.metrics["diagnosis"]["auroc"] == score(RECORDS, SPACE).metrics["diagnosis"]["auroc"]
    # "normal" at 0.95 (right), 0.1 (wrong), and in one bin 0.6 (wrong) and 0.55 (right).
    assert scored.metrics["diagnosis"]["ece"] == pytest.approx((0.05 + 0.1 + 2 * 0.075) / 4)


def test_studies_are_ranked_by_aspects_and_words():
    report = {"conclusion": "a tumor is seen"}
    records = [
        make_record(
            make_study("half", report=report, labels={"conclusion": "tumor"}), "", conclusion="tumor"
        ),
        make_record(make_study("unknown")),
        make_record(
            make_study("whole", report=report, labels={"conclusion": "tumor"}),
            "a tumor is seen",
            conclusion="tumor",
        ),
        make_record(make_study("none", labels={"conclusion": "tumor"}), conclusion="normal"),
    ]
    scores = study_scores(score(records, SPACE), records, SPACE)
    assert scores == [0.5, 0.5, 1.0, 0.0]
    assert extremes(scores, 3) == ([(3, 0.0), (0, 0.5)], [(2, 1.0)])
    assert extremes(scores, 99) == ([(3, 0.0), (0, 0.5)], [(2, 1.0), (1, 0.5)])
