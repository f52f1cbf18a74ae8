"""The main numbers: each beside the baseline that its difference is a difference to."""

from __future__ import annotations

from typing import Any

import pytest

from mdnet.report.headline import headlines


def compared(difference: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"difference": difference, "low": low, "high": high, "studies": 40}


METRICS: dict[str, Any] = {
    "diagnosis": {"accuracy": 0.9},
    "text": {"bleu_4": 0.5, "cider": 1.2},
    "statements": {"true": 0.8},
    "likelihood": {"studies": 40, "own_image": -20.0, "other_images": -50.0},
    "grounding": {
        "mitosis": {
            "evidence": {
                "rare": {"studies": 30, "pointing": 0.5, "chance": 0.1},
                "frequent": {"studies": 10, "pointing": 0.9, "chance": 0.3},
            }
        },
        "tissue": {"evidence_share": 0.9, "area": 0.7},
    },
    "intervals": {"diagnosis.accuracy": [0.8, 1.0], "text.bleu_4": [0.4, 0.6]},
    "baselines": {"constant_report": {"bleu_4": 0.3, "cider": 0.2}, "shuffled": {"cider": 1.0}},
    "comparisons": {
        "diagnosis_minus_majority": compared(0.5, 0.4, 0.6),
        "report_minus_constant": {"bleu_4": compared(0.2, -0.1, 0.5), "cider": compared(1.0, 0.9, 1.1)},
        "own_minus_other_references": compared(0.2, None, None),
        "own_minus_other_images": compared(30.0, 20.0, 40.0),
        "evidence_minus_chance": compared(-0.45, -0.5, -0.4),
    },
}


def test_every_number_stands_beside_what_it_is_read_against() -> None:
    rows = [
        (each.name, str(each.value), each.against, str(each.reference), each.outcome)
        for each in headlines(METRICS)
    ]
    assert rows == [
        ("Diagnosis: accuracy", "0.900 [0.800, 1.000]", "the commonest class", "0.400", "better"),
        ("Report: BLEU-4", "0.500 [0.400, 0.600]", "one report for all", "0.300", "not proven"),
        ("Report: CIDEr", "1.200", "one report for all", "0.200", "better"),
        ("Report: CIDEr", "1.200", "images shuffled", "1.000", ""),  # one patient: no interval
        ("Reference report: log probability, nats", "-20.0", "on other images", "-50.0", "better"),
        ("Text states the true class", "0.800", "", "None", ""),
        # Pooled over the maps: (30 * .5 + 10 * .9) / 40, and (30 * .1 + 10 * .3) / 40.
        ("Evidence: peak inside the mask", "0.600", "the mask’s share of the area", "0.150", "worse"),
    ]
    assert str(headlines(METRICS)[0].difference) == "0.500 [0.400, 0.600]"


@pytest.mark.parametrize("metrics", [{}, {"studies": 0, "aspects": {}, "diagnosis": {"accuracy": None}}])
def test_nothing_measured_has_no_headline(metrics: dict[str, Any]) -> None:
    assert headlines(metrics) == []


def test_a_number_without_a_baseline_stands_alone() -> None:
    (diagnosis,) = headlines({"diagnosis": {"accuracy": 0.5}})
    assert (diagnosis.against, diagnosis.reference, diagnosis.difference) == ("", None, None)
