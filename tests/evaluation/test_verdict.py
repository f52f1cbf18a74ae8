"""What the evaluation says in words, from numbers made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from mdnet.evaluation.verdict import verdict


def gap(
    difference: float, low: float | None, high: float | None, studies: int = 200, patients: int | None = None
) -> dict[str, Any]:
    return {
        "difference": difference,
        "low": low,
        "high": high,
        "studies": studies,
        "patients": studies if patients is None else patients,
    }


def metrics_of(**comparisons: Any) -> dict[str, Any]:
    return {
        "studies": 200,
        "text": {"cider": 0.61, "bleu_4": 0.14, "commonest_share": 0.02, "reference_commonest_share": 0.01},
        "diagnosis": {"accuracy": 0.7, "ece": 0.02},
        "baselines": {
            "shuffled": {"cider": 0.60},
            "constant_report": {"cider": 0.15, "bleu_4": 0.153},
        },
        "comparisons": comparisons,
    }


def only(metrics: dict[str, Any]) -> str:
    (sentence,) = verdict(metrics)
    return sentence


def test_reports_that_fit_other_studies_as_well_are_said_not_to_depend_on_the_image():
    sentence = only(metrics_of(own_minus_other_references=gap(0.01, -0.02, 0.03)))
    assert sentence == (
        "The reports do not depend on the image: they score CIDEr 0.61 against their own studies' references "
        "and 0.60 against other studies' (95% interval of the difference -0.02 to 0.03, 200 studies)."
    )


@pytest.mark.parametrize(
    ("own", "likelihood", "begins"),
    [
        (gap(0.4, 0.3, 0.5), None, "The reports depend on the image:"),
        (gap(0.4, 0.3, 0.5), gap(0.0, -0.1, 0.1), "The reports depend on the image:"),
        (gap(0.04, 0.01, 0.07), None, "The reports hardly depend on the image:"),
        (gap(0.0, -0.1, 0.1), gap(0.0, -0.1, 0.1), "The reports do not depend on the image:"),
        (gap(0.0, -0.1, 0.1), gap(0.9, 0.5, 1.3), "The written reports do not depend on the image:"),
        (gap(0.0, -0.1, 0.1, studies=19), None, "19 studies are too few to tell"),
        (gap(0.1, None, None, studies=30, patients=1), None, "30 studies of 1 patient are too few to tell"),
        (gap(0.0, -0.1, 0.1, studies=60, patients=19), None, "60 studies of 19 patients are too few to tell"),
    ],
)
def test_dependence_is_told_from_both_the_text_and_the_likelihood(own, likelihood, begins):
    compared = {"own_minus_other_references": own}
    if likelihood is not None:
        compared["own_minus_other_images"] = likelihood
    assert only(metrics_of(**compared)).startswith(begins)


@pytest.mark.parametrize(
    ("bleu", "cider", "says"),
    [
        (
            gap(-0.013, -0.02, -0.001),
            gap(0.46, 0.4, 0.5),
            "higher: BLEU-4 0.153 (the model's: 0.140)",
        ),
        (gap(-0.013, -0.02, 0.01), gap(0.46, 0.4, 0.5), "would not surely score lower:"),
        (gap(0.1, 0.05, 0.2), gap(0.46, 0.4, 0.5), "would score lower:"),
    ],
)
def test_one_report_for_all_is_compared_in_both_metrics(bleu, cider, says):
    assert says in only(metrics_of(report_minus_constant={"bleu_4": bleu, "cider": cider}))


def test_the_same_report_for_many_studies_is_said():
    metrics = metrics_of()
    metrics["text"]["commonest_share"] = 0.9
    assert only(metrics).startswith("90% of the studies got word for word the same report")
    assert "references: 1%" in only(metrics)


def test_a_diagnosis_is_read_against_the_commonest_class():
    assert only(metrics_of(diagnosis_minus_majority=gap(0.02, -0.03, 0.07))) == (
        "The diagnosis is no better than the commonest class for all: 70.0% right against 68.0% (95% "
        "interval of the difference -0.03 to 0.07, 200 studies)."
    )
    assert " is better " in only(metrics_of(diagnosis_minus_majority=gap(0.2, 0.1, 0.3)))
    assert " is worse " in only(metrics_of(diagnosis_minus_majority=gap(-0.2, -0.3, -0.1)))
    assert "not surely better" in only(metrics_of(diagnosis_minus_majority=gap(0.2, -0.1, 0.5, studies=5)))
    alone = only(metrics_of(diagnosis_minus_majority=gap(0.2, None, None, studies=30, patients=5)))
    assert "not surely better" in alone
    assert "(30 studies of 5 patients, too few for an interval)" in alone


def test_probabilities_far_from_the_truth_are_said():
    metrics = metrics_of(diagnosis_minus_majority=gap(0.2, 0.1, 0.3))
    metrics["diagnosis"]["ece"] = 0.17
    assert "off by 17%" in verdict(metrics)[1]


@pytest.mark.parametrize(("count", "said"), [(3, False), (300, True)])
def test_an_error_that_true_probabilities_show_among_few_answers_is_not_held_against_them(count, said):
    metrics = metrics_of(diagnosis_minus_majority=gap(0.2, 0.1, 0.3))
    metrics["diagnosis"]["ece"] = 0.17
    bins = [{"count": count, "confidence": c} for c in (0.55, 0.65, 0.75)]
    metrics["calibration"] = {"reliability": [*bins, {"count": 0, "confidence": None}]}
    assert (len(verdict(metrics)) == 2) is said


def test_maps_are_read_against_chance():
    sentences = verdict(
        metrics_of(evidence_minus_chance=gap(0.5, 0.4, 0.6), attention_minus_chance=gap(0.01, -0.03, 0.05))
    )
    few = only(metrics_of(attention_minus_chance=gap(0.2, -0.1, 0.5, studies=9)))
    assert few.startswith("The attention does not surely peak")
    assert sentences[0].startswith("The evidence peaks on the masks more often than chance (+50 points")
    assert sentences[1].startswith(
        "The attention does not peak on the masks more often than chance (+1 points"
    )


def test_text_against_diagnosis_is_said():
    metrics = metrics_of()
    metrics["statements"] = {"true": 0.2, "silent": 0.7, "contradiction": 0.12}
    assert only(metrics) == (
        "The text states the true class in 20.0% of the cases and none in 70.0%; where it states one, it "
        "contradicts the model's own class in 12.0%."
    )


def test_nothing_is_said_of_what_was_not_measured():
    assert verdict({"studies": 3, "aspects": {}, "baselines": {}, "comparisons": {}}) == []
