"""Metrics of an evaluation, against numbers worked out by hand on findings made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import SPACE, data_of, make_finding, make_study, predictor_of
from PIL import Image

from mdnet.data.phantom import LABEL_SPACE, SECTIONS
from mdnet.data.study import MISSING, Study
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.evaluation.record import target_of
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor
from mdnet.metrics.language import language_metrics


@pytest.fixture
def corner(tmp_path) -> Path:
    """A mask of 8 x 8 pixels, set in the upper left 2 x 2."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:2, :2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_accuracies_leave_out_missing_and_unknown_labels():
    right = {"mitosis": "rare", "findings": ("nodule",), "conclusion": "tumor"}
    findings = [make_finding(str(n), answers=right, texts={}) for n in range(4)]
    studies = [
        make_study("a", labels={"mitosis": "rare", "findings": ("nodule",), "conclusion": "tumor"}),
        make_study(
            "b", labels={"mitosis": "absent", "findings": ("oedema", "nodule"), "conclusion": "normal"}
        ),
        make_study("c", labels={"mitosis": "frequent", "conclusion": "tumor"}),
        make_study("d", labels={"mitosis": "countless"}),
    ]
    metrics = evaluate_studies(predictor_of(findings), studies, data_of(studies), progress=False).metrics
    assert metrics["studies"] == 4
    assert metrics["aspects"]["mitosis"]["accuracy"] == pytest.approx(1 / 3)
    assert metrics["aspects"]["mitosis"]["studies"] == 3
    assert metrics["aspects"]["findings"]["accuracy"] == pytest.approx(3 / 4)  # labels of a and b
    assert metrics["diagnosis"]["accuracy"] == pytest.approx(2 / 3)
    assert metrics["mean_aspect_accuracy"] == pytest.approx((1 / 3 + 3 / 4 + 2 / 3) / 3)
    assert "text" not in metrics
    assert "grounding" not in metrics
    assert "statements" not in metrics


def test_targets_are_indices_or_ones_and_zeros():
    labels = {"mitosis": "frequent", "findings": ("nodule",)}
    assert target_of(make_study("a", labels=labels), SPACE["mitosis"]) == 2
    assert target_of(make_study("a", labels=labels), SPACE["findings"]) == [0, 1]
    assert target_of(make_study("a", labels={"findings": ()}), SPACE["findings"]) == [0, 0]
    assert target_of(make_study("a"), SPACE["findings"]) == [MISSING, MISSING]
    assert target_of(make_study("a"), SPACE["mitosis"]) == MISSING


def test_reports_are_scored_whole_where_there_is_a_reference():
    answers = {"mitosis": "rare", "findings": (), "conclusion": "tumor"}
    texts = [
        {"mitosis": "few mitoses seen .", "conclusion": "a tumor ."},
        {"mitosis": "none .", "conclusion": "normal ."},
    ]
    findings = [make_finding(str(n), answers=answers, texts=texts[n % 2]) for n in range(3)]
    studies = [
        make_study("a", report={"mitosis": "few mitoses are seen .", "conclusion": "a tumor ."}),
        make_study("b", report={"mitosis": "no mitosis .", "conclusion": "normal ."}),
        make_study("c"),
    ]
    train = [
        make_study(
            "t",
            "train",
            {"mitosis": "no mitosis .", "conclusion": "a tumor ."},
            labels={"conclusion": "tumor"},
        )
    ]
    metrics = evaluate_studies(
        predictor_of(findings), studies, data_of(studies + train), progress=False
    ).metrics
    hypotheses = ["few mitoses seen . a tumor .", "none . normal ."]
    references = [["few mitoses are seen . a tumor ."], ["no mitosis . normal ."]]
    expected = language_metrics(hypotheses, references)
    assert {name: metrics["text"][name] for name in expected} == expected
    assert metrics["text"]["distinct_reports"] == 2
    baselines = metrics["baselines"]
    assert baselines["shuffled"] == language_metrics(hypotheses, references[::-1])
    assert baselines["constant_report"] == language_metrics(["no mitosis . a tumor ."] * 2, references)
    assert baselines["majority"] == {"conclusion": {"class": "tumor", "accuracy": None}}
    assert "human" not in baselines  # one writer


def test_maps_are_scored_where_the_truth_is_masked_and_not_the_reference_class(corner):
    def one(label: str, said: str, peak, looked_at, masks=True) -> tuple[Study, Finding]:
        masks = {"mitosis": corner, "conclusion": corner} if masks else {}
        answers = {"mitosis": said, "findings": (), "conclusion": "tumor"}
        return make_study(label, labels={"mitosis": label}, masks=masks), make_finding(
            label, answers=answers, texts={"mitosis": "two words"}, peak=peak, looked_at=looked_at
        )

    pairs = [
        one("rare", "rare", (0, 0), (0, 0)),
        one("rare", "absent", (0, 0), (3, 3)),
        one("frequent", "frequent", (2, 2), (0, 0)),
        one("absent", "absent", (2, 2), (2, 2)),  # nothing to point at
        one("rare", "rare", (3, 3), (3, 3), masks=False),
    ]
    studies, findings = (list(column) for column in zip(*pairs, strict=True))
    metrics = evaluate_studies(predictor_of(findings), studies, data_of(studies), progress=False).metrics
    grounding = metrics["grounding"]
    assert list(grounding) == ["mitosis"]  # no study has a label of the other masked aspect
    evidence, attention = grounding["mitosis"]["evidence"], grounding["mitosis"]["attention"]
    assert evidence["rare"]["studies"] == 2
    assert evidence["rare"]["pointing"] == 1.0
    assert evidence["frequent"]["pointing"] == 0.0
    assert attention["rare"]["pointing"] == 0.5
    assert attention["rare"]["pointing_correct"] == 1.0
    assert attention["frequent"]["pointing"] == 1.0
    assert attention["rare"]["energy"] == pytest.approx((0.85 + 0.01) / 2)  # one cell of the grid is masked
    assert attention["rare"]["chance"] == pytest.approx(4 / 64)
    assert "absent" not in evidence


def test_evidence_that_is_scored_is_that_of_the_true_class(corner):
    answers = {"mitosis": "absent", "findings": (), "conclusion": "tumor"}
    finding = make_finding("a", answers=answers, texts={})
    finding.aspect_evidence["mitosis"].blocks["block1"][1] *= -1  # "rare" points away, "frequent" there
    for label, hit in (("rare", 0.0), ("frequent", 1.0)):
        studies = [make_study("a", labels={"mitosis": label}, masks={"mitosis": corner})]
        metrics = evaluate_studies(predictor_of([finding]), studies, data_of(studies), progress=False).metrics
        assert metrics["grounding"]["mitosis"]["evidence"][label]["pointing"] == hit


def test_share_of_the_diagnosis_on_tissue_is_that_of_its_contrast(corner):
    answers = {"mitosis": "absent", "findings": (), "conclusion": "tumor"}
    finding = make_finding("a", answers=answers, texts={})
    finding.aspect_evidence["conclusion"].blocks["block1"][:] = 0.5  # flat: its share is that of the area
    studies = [make_study("a", masks={"tissue": corner})]
    metrics = evaluate_studies(predictor_of([finding]), studies, data_of(studies), progress=False).metrics
    assert metrics["grounding"]["tissue"]["area"] == pytest.approx(4 / 64)
    finding.aspect_evidence["conclusion"].blocks["block1"][1] += 1.0
    metrics = evaluate_studies(predictor_of([finding]), studies, data_of(studies), progress=False).metrics
    assert metrics["grounding"]["tissue"]["evidence_share"] == pytest.approx(4 / 64)


def test_statements_of_synthetic_reports_are_held_against_the_truth():
    answers = {aspect.name: aspect.classes[-1] for aspect in LABEL_SPACE.aspects}
    texts = dict.fromkeys(SECTIONS, "nothing is said .")
    texts |= {"mitosis": "mitosis is frequent .", "nucleoli": "nucleoli are inconspicuous ."}
    findings = [make_finding("a", space=LABEL_SPACE, answers=answers, texts=texts)]
    truth = {"mitosis": "frequent", "nucleoli": "prominent", "polarity": "lost"}
    studies = [make_study("a", labels=truth)]
    metrics = evaluate_studies(
        predictor_of(findings, LABEL_SPACE), studies, data_of(studies, LABEL_SPACE), progress=False
    ).metrics
    assert metrics["statements"]["sections"] == {"mitosis": 1.0, "nucleoli": 0.0, "polarity": 0.0}
    assert metrics["statements"]["true"] == pytest.approx(1 / 3)
    assert metrics["statements"]["silent"] == pytest.approx(1 / 3)
    assert metrics["statements"]["agree_with_head"] == pytest.approx(1 / 6)  # four sections are silent
    assert metrics["intervals"] == {}  # one study bounds nothing


def test_a_real_model_is_evaluated_from_end_to_end(build_model, phantom_data):
    model = build_model(
        dtype=torch.float32,
        label_space=phantom_data.label_space,
        sections=(),
    )
    predictor = Predictor(model, device="cpu")
    studies = phantom_data.split("test")
    result = evaluate_studies(predictor, studies, phantom_data, show=2, progress=False)
    said = [predictor(s.images[0]).diagnosis.label for s in studies]
    right = [label == s.labels["conclusion"] for label, s in zip(said, studies, strict=True)]
    assert result.metrics["diagnosis"]["accuracy"] == pytest.approx(np.mean(right))
    assert [record["id"] for record in result.predictions] == [s.id for s in studies]
    assert [record["diagnosis"] for record in result.predictions] == said
    assert result.predictions[0]["truth"]["labels"] == dict(studies[0].labels)
    shown = [each.score for each in result.shown]
    assert len(shown) == 2
    assert shown[0] == result.metrics["worst"][0]["score"] <= shown[1] == result.metrics["best"][0]["score"]
    assert {each.study.id for each in result.shown} <= {s.id for s in studies}
    json.dumps([result.metrics, result.predictions])  # all plain values
