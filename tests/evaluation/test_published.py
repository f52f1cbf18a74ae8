"""What a card carries, and by how much fresh data may differ from it: checked by draws from binomials."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mdnet.evaluation.published import compare_with_card, headline


def measured(accuracy: float, *, studies: int = 500, bleu: float = 0.9, hits: float = 0.5) -> dict:
    """Metrics as `evaluate_studies` gives them, as far as a card looks at them."""
    pointing = {"studies": 40, "pointing": hits, "energy": 0.3, "chance": 0.1, "pointing_correct": hits}
    text = {"bleu_1": 0.95, "bleu_4": bleu, "rouge_l": 0.8, "cider": 1.5, "distinct_share": 0.2}
    return {
        "studies": studies,
        "aspects": {"mitosis": {"accuracy": accuracy, "auroc": 1.0}},
        "mean_aspect_accuracy": accuracy,
        "statements": {"true": accuracy, "silent": 0.0},
        "text": text,
        "grounding": {
            "mitosis": {
                "attention": {"rare": pointing, "frequent": pointing | {"studies": 60, "pointing": 1.0}}
            },
            "tissue": {"evidence_share": 0.9, "area": 0.8},
        },
        "baselines": {
            "majority": {"mitosis": {"accuracy": 0.4, "auroc": 0.5}},
            "constant_report": text,
        },
        "intervals": {
            "text.bleu_4": [0.88, 0.92],
            "text.bleu_1": [0.9, 1.0],
            "diagnosis.accuracy": [0.0, 1.0],
        },
    }


def rows(told: dict, fresh: dict) -> dict:
    return {row.name: row for row in compare_with_card(SimpleNamespace(metrics=told), fresh)}


def test_the_headline_keeps_what_a_card_tells_and_only_its_intervals():
    found = headline(measured(0.9))
    assert found["aspects"] == {"mitosis": {"accuracy": 0.9}}
    assert found["statements"] == {"true": 0.9}
    assert set(found["text"]) == {"bleu_4", "rouge_l", "cider", "distinct_share"}
    assert "pointing_correct" not in found["grounding"]["mitosis"]["attention"]["rare"]
    assert found["grounding"]["tissue"] == {"evidence_share": 0.9, "area": 0.8}
    assert found["baselines"]["majority"] == {"mitosis": {"accuracy": 0.4}}
    assert found["intervals"] == {"text.bleu_4": [0.88, 0.92]}


def test_of_a_model_without_report_or_maps_there_is_a_headline_and_a_comparison():
    metrics = measured(0.9)
    for name in ("statements", "text", "grounding"):
        del metrics[name]
    del metrics["baselines"]["constant_report"]
    found = headline(metrics)
    assert not {"statements", "text", "grounding"} & set(found)
    assert list(rows(found, metrics)) == ["mean_aspect_accuracy"]


def test_pointing_is_over_all_classes_and_text_is_bounded_by_its_interval():
    compared = rows(headline(measured(0.9)), measured(0.9, bleu=0.95, hits=0.25))
    pointing = compared["grounding.mitosis.attention.pointing"]
    assert (pointing.card, pointing.fresh) == pytest.approx((0.8, 0.7))  # of 40 and 60 maps
    bleu = compared["text.bleu_4"]
    assert bleu.tolerance == pytest.approx(3 * (0.04 / 2 / 1.959964) * 2**0.5)
    assert not bleu.holds  # 0.05 apart, where 0.0433 may be
    assert "text.cider" not in compared  # its interval was not measured


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.99])
def test_one_and_the_same_model_misses_about_as_rarely_as_three_sigmas_promise(probability):
    random = np.random.default_rng(0)
    first, second = (
        random.binomial(500, probability, 2000) / 500,
        random.binomial(300, probability, 2000) / 300,
    )
    missed = [
        not rows(headline(measured(a)), measured(b, studies=300))["mean_aspect_accuracy"].holds
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert np.mean(missed) < 0.01


def test_a_model_that_is_worse_is_found_and_a_number_met_exactly_holds():
    compared = rows(headline(measured(0.99)), measured(0.93))
    assert not compared["mean_aspect_accuracy"].holds
    assert all(row.holds for row in rows(headline(measured(1.0)), measured(1.0)).values())
