"""Another system's answers in a file: the same numbers as a model's own, or one clear line."""

from __future__ import annotations

import json

import pytest
import torch
from answers import SPACE, data_of, make_study

from mdnet.data.text import ReportTokenizer
from mdnet.errors import DataError
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.evaluation.predictions import evaluate_predictions
from mdnet.inference.predictor import Predictor

STUDIES = [
    make_study(
        name,
        report={"mitosis": f"{mitosis} mitoses are seen .", "conclusion": f"this is {conclusion} ."},
        labels={"mitosis": mitosis, "conclusion": conclusion},
    )
    for name, mitosis, conclusion in (
        ("a", "rare", "tumor"),
        ("b", "absent", "normal"),
        ("c", "frequent", "tumor"),
    )
]
TRAIN = [make_study("t", "train", dict(STUDIES[0].report), labels=STUDIES[0].labels)]
DATA = data_of([*STUDIES, *TRAIN])


@pytest.fixture
def write(tmp_path):
    def lines(*records) -> object:
        file = tmp_path / "answers.jsonl"
        file.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records))
        return file

    return lines


def test_our_own_predictions_score_as_in_the_run(build_model, phantom_data, write):
    sections = phantom_data.sections
    texts = [text for s in phantom_data.studies for each in s.report.values() for text in each]
    model = build_model(
        dtype=torch.float32,
        label_space=phantom_data.label_space,
        sections=sections,
        tokenizer=ReportTokenizer.build(texts, sections),
        maximum_words=9,
    )
    studies = phantom_data.split("train")
    ours = evaluate_studies(Predictor(model, device="cpu"), studies, phantom_data, progress=False)
    theirs = evaluate_predictions(write(*ours.predictions), studies, phantom_data).metrics
    assert theirs.pop("lines_of_other_studies") == 0
    needs_model = {"grounding", "retrieval", "likelihood", "verdict"}
    for name in set(ours.metrics) - needs_model - {"baselines", "comparisons", "intervals"}:
        assert theirs[name] == ours.metrics[name], name
    for name in ("baselines", "comparisons", "intervals"):
        assert theirs[name].items() <= ours.metrics[name].items()
    assert {"majority", "constant_report", "shuffled", "class_report", "human"} <= set(theirs["baselines"])
    assert set(theirs["comparisons"]) == {
        "own_minus_other_references",
        "report_minus_constant",
        "diagnosis_minus_majority",
    }
    assert {"text.bleu_4", "diagnosis.accuracy", "statements.true"} <= set(theirs["intervals"])
    assert set(theirs["verdict"]) - set(ours.metrics["verdict"]) <= {theirs["verdict"][0]}


def test_texts_and_labels_alone_are_enough(write):
    metrics = evaluate_predictions(
        write(
            {
                "id": "c",
                "report": {"mitosis": "frequent mitoses are seen .", "conclusion": "this is tumor ."},
            },
            {"id": "a", "report": "", "labels": {}},
            {"id": "b", "report": "absent mitoses are seen . this is normal ."},
            {"id": "t", "report": "of the training split"},
        ),
        STUDIES,
        DATA,
    ).metrics
    assert metrics["aspects"] == {}
    assert metrics["lines_of_other_studies"] == 1
    assert metrics["text"]["rouge_l"] == pytest.approx(2 / 3)
    metrics = evaluate_predictions(
        write(*({"id": s.id, "labels": {"mitosis": "rare", "findings": ["nodule"]}} for s in STUDIES)),
        STUDIES,
        DATA,
    ).metrics
    assert metrics["aspects"]["mitosis"]["accuracy"] == pytest.approx(1 / 3)
    assert metrics["aspects"]["mitosis"]["auroc"] is None
    assert "text" not in metrics


def test_classes_follow_from_probabilities_and_probabilities_from_logits(write):
    logits = {"mitosis": {"absent": 0.0, "rare": 2.0, "frequent": 1.0}}
    shares = {"conclusion": {"normal": 0.2, "tumor": 0.8}, "findings": {"oedema": 0.5, "nodule": 0.4}}
    result = evaluate_predictions(
        write(*({"id": s.id, "logits": logits, "probabilities": shares} for s in STUDIES)), STUDIES, DATA
    )
    record = result.records[0]
    assert record.labels == {"mitosis": ("rare",), "findings": ("oedema",), "conclusion": ("tumor",)}
    expected = torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64).softmax(0).tolist()
    assert record.probabilities["mitosis"] == pytest.approx(expected)


WHOLE = [{"id": s.id, "report": "words"} for s in STUDIES]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (WHOLE[:1], r"no line for 2 studies \('b', 'c'\) of 3; answer for every study"),
        ([*WHOLE, WHOLE[0]], r":4: study 'a' stands on line 1 too"),
        ([*WHOLE, {"id": "x"}], r"1 study \('x'\) not in nowhere"),
        ([*WHOLE[:2], "{"], r":3: no JSON"),
        ([*WHOLE[:2], [1]], r":3: no JSON object"),
        ([{"report": "words"}], r":1: no id"),
        ([*WHOLE[:2], {"id": "c"}], r":3: no report, which other lines have \(1 of 3 lack it\)"),
        ([WHOLE[0] | {"labels": {"mitosis": "rare"}}, *WHOLE[1:]], r":2: no labels of aspect 'mitosis'"),
        ([{"id": "a", "labels": {"mitoses": "rare"}}], r":1: aspect 'mitoses' is none of the data's"),
        ([{"id": "a", "labels": {"mitosis": "few"}}], r":1: aspect 'mitosis' has no class 'few'; its"),
        ([{"id": "a", "labels": {"mitosis": ["rare", "absent"]}}], r":1: aspect 'mitosis' has .*one class"),
        ([{"id": "a", "labels": ["rare"]}], r":1: labels is no object"),
        ([{"id": "a", "logits": {"mitosis": {"rare": 1}}}], r":1: aspect 'mitosis' lacks classes"),
        (
            [{"id": "a", "probabilities": {"conclusion": {"normal": "x", "tumor": 1}}}],
            r":1: aspect 'conclusion' has a value that is no number",
        ),
        (
            [{"id": "a", "probabilities": {"conclusion": {"normal": 70, "tumor": 30}}}],
            r":1: aspect 'conclusion' has probabilities of 30 to 70 that sum to 100",
        ),
        (
            [{"id": "a", "probabilities": {"conclusion": {"normal": 0.2, "tumor": 0.3}}}],
            r":1: aspect 'conclusion' has probabilities of 0.2 to 0.3 that sum to 0.5",
        ),
        ([{"id": "a", "logits": {"conclusion": {"normal": 10**400, "tumor": 1}}}], r":1: .* is no number"),
        ([{"id": "a", "aspects": {"mitoses": {}}}], r":1: aspect 'mitoses' is none of the data's"),
        ([{"id": "a", "aspects": {"mitosis": "rare"}}], r":1: mitosis is no object"),
        ([{"id": s.id, "reports": "words"} for s in STUDIES], r"answers\.jsonl: no line has an answer"),
        ([{"id": "a", "report": 3}], r":1: a report that is no text"),
        ([{"id": "a", "report": {"mitosis": 3}}], r":1: a report that is no text"),
    ],
)
def test_a_file_that_would_flatter_or_cannot_be_read_is_one_line(write, lines, message):
    with pytest.raises(DataError, match=message):
        evaluate_predictions(write(*lines), STUDIES, DATA)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: No such file"):
        evaluate_predictions(tmp_path / "none.jsonl", STUDIES, DATA)


def test_the_space_of_the_data_decides(write):
    assert list(evaluate_predictions(write(*WHOLE), STUDIES, DATA).metrics["aspects"]) == []
    assert DATA.label_space == SPACE
