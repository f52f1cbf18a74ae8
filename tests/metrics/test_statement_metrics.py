"""What reports state, counted by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mdnet.data.phantom import LABEL_SPACE
from mdnet.data.phantom.specification import INSUFFICIENT
from mdnet.data.statements import PhantomReader
from mdnet.data.study import Aspect, LabelSpace
from mdnet.metrics.statements import Statement, statement_metrics, statements_of

MITOSIS = Aspect("mitosis", ("absent", "rare", "frequent"))
FINDING = Aspect("finding", ("nodule", "oedema"), multi_label=True)
GRADE = Aspect("grade", ("low", "high"))
SPACE = LabelSpace((MITOSIS, FINDING, GRADE), "grade")


def row(aspect: Aspect, stated: str | None, truth: str | None, head: str | None) -> Statement:
    """Classes parted by spaces; "-" is none of them, None is not known."""

    def classes(text: str | None) -> frozenset[str] | None:
        return None if text is None else frozenset(text.replace("-", "").split())

    return Statement(aspect, classes(stated), classes(truth), classes(head))


def test_one_aspect_by_hand() -> None:
    rows = [
        row(MITOSIS, "rare", "rare", "rare"),
        row(MITOSIS, "rare", "absent", "absent"),
        row(MITOSIS, "absent rare", "rare", "rare"),
        row(MITOSIS, None, "rare", "rare"),
        row(MITOSIS, "absent", "absent", "rare"),
        row(MITOSIS, "frequent", None, "frequent"),  # its truth is not known
        row(MITOSIS, "rare", "rare", None),  # it has no prediction
    ]
    metrics = statement_metrics(rows)
    json.dumps(metrics, allow_nan=False)
    # Six have a truth: three of them state it, one is silent, one states two classes.
    assert metrics["texts"] == 6
    assert metrics["true"] == pytest.approx(3 / 6)
    assert metrics["silent"] == pytest.approx(1 / 6)
    assert metrics["ambiguous"] == pytest.approx(1 / 6)
    # Six have a prediction: the first and the sixth agree. Four of them state one class, two another.
    assert metrics["agree_with_head"] == pytest.approx(2 / 6)
    assert metrics["contradiction"] == pytest.approx(2 / 4)
    assert metrics["dca"] is None
    assert metrics["sections"] == {"mitosis": pytest.approx(3 / 6)}
    # "rare" is stated three times and true twice of them; it is true four times. "absent": once, once, twice.
    per_class = metrics["aspects"]["mitosis"]["per_class"]
    assert per_class["rare"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7, "support": 4}
    )
    assert per_class["absent"] == pytest.approx({"precision": 1, "recall": 1 / 2, "f1": 2 / 3, "support": 2})
    assert per_class["frequent"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert metrics["aspects"]["mitosis"]["precision"] == pytest.approx((2 / 3 + 1) / 2)
    assert metrics["aspects"]["mitosis"]["recall"] == pytest.approx(1 / 2)
    assert metrics["aspects"]["mitosis"]["f1"] == pytest.approx((4 / 7 + 2 / 3) / 2)


def test_several_labels_by_hand() -> None:
    rows = [
        row(FINDING, "nodule oedema", "nodule oedema", "nodule oedema"),
        row(FINDING, "nodule", "nodule oedema", "nodule oedema"),  # leaves one out: no contradiction
        row(FINDING, "nodule", "-", "oedema"),
        row(FINDING, "-", "-", "oedema"),  # denies, and the head finds
        row(FINDING, "-", "nodule", "-"),
        row(FINDING, None, "-", "-"),
    ]
    metrics = statement_metrics(rows)["aspects"]["finding"]
    assert metrics["true"] == pytest.approx(2 / 6)
    assert metrics["silent"] == pytest.approx(1 / 6)
    assert metrics["ambiguous"] == 0
    assert metrics["agree_with_head"] == pytest.approx(2 / 6)
    assert metrics["contradiction"] == pytest.approx(2 / 5)
    # Nodule: stated in three texts, true in two of them and in three of all.
    assert metrics["per_class"]["nodule"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 4 / 6, "support": 3}
    )
    assert metrics["per_class"]["oedema"] == pytest.approx(
        {"precision": 1, "recall": 1 / 2, "f1": 2 / 3, "support": 2}
    )


def test_agreement_of_conclusion_and_diagnosis_by_hand() -> None:
    rows = [
        row(GRADE, "high", "low", "high"),
        row(GRADE, "high", "high", "low"),
        row(GRADE, None, "low", "low"),
        row(GRADE, "low", None, "low"),
        row(MITOSIS, "rare", "rare", "absent"),
    ]
    metrics = statement_metrics(rows, diagnosis="grade")
    assert metrics["dca"] == pytest.approx(2 / 4)
    assert metrics["agree_with_head"] == pytest.approx(2 / 5)
    assert statement_metrics(rows, diagnosis="stage")["dca"] is None


def test_nothing_counted_is_none() -> None:
    assert statement_metrics([]) == {
        **dict.fromkeys(("true", "silent", "ambiguous", "agree_with_head", "contradiction", "dca")),
        "texts": 0,
        "sections": {},
        "aspects": {},
    }
    metrics = statement_metrics([row(GRADE, "low", None, None)])
    assert metrics["true"] is metrics["contradiction"] is metrics["aspects"]["grade"]["f1"] is None
    assert metrics["sections"] == {}


class Words:
    """Reads classes as they stand."""

    def read(self, report: Mapping[str, str]) -> dict[str, frozenset[str] | None]:
        words = frozenset(" ".join(report.values()).split())
        return {"mitosis": words or None, "finding": None, "stage": words}

    def due(self, labels: Mapping[str, str | tuple[str, ...]]) -> Mapping[str, str | tuple[str, ...]]:
        return labels


def test_statements_stand_beside_truth_and_prediction() -> None:
    labels = {"mitosis": "rare", "finding": ("nodule",), "grade": "low"}
    rows = statements_of(Words(), SPACE, {"report": "absent"}, labels=labels, heads={"mitosis": ("rare",)})
    assert rows == [row(MITOSIS, "absent", "rare", "rare"), row(FINDING, None, "nodule", None)]


def test_a_class_that_no_head_has_is_counted_without_the_head() -> None:
    heads = {aspect.name: (aspect.classes[0],) for aspect in LABEL_SPACE.aspects}
    rows = statements_of(
        PhantomReader(),
        LABEL_SPACE,
        {"mitosis": "mitosis cannot be assessed .", "nucleoli": "nucleoli are prominent ."},
        labels={"conclusion": INSUFFICIENT},
        heads=heads,
    )
    by_aspect = {row.aspect.name: row for row in rows}
    assert by_aspect["mitosis"].truth == by_aspect["mitosis"].stated == {INSUFFICIENT}
    assert by_aspect["mitosis"].head is None
    assert by_aspect["conclusion"].head == {"normal"}
    metrics = statement_metrics(rows, diagnosis="conclusion")
    assert metrics["aspects"]["mitosis"]["per_class"][INSUFFICIENT]["recall"] == 1
    assert metrics["sections"]["nucleoli"] == 0
