"""Confusion tables: counts as measured, shares of the true class, many classes as a list."""

from __future__ import annotations

from typing import Any

from mdnet.metrics.diagnosis import classification_metrics, multi_label_metrics
from mdnet.report.confusion_tables import MOST_CLASSES, MOST_MISTAKES, Mistake, confusion_tables

GRADES = ("absent", "rare", "frequent")


def measured(truth: list[int], said: list[int], classes: tuple[str, ...] = GRADES) -> dict[str, Any]:
    rows = [[float(place == answer) for place in range(len(classes))] for answer in said]
    return classification_metrics(rows, truth, classes)


def test_cells_are_the_counts_and_their_share_of_the_true_class() -> None:
    mitosis = measured([0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 2, 1, 2])
    (table,) = confusion_tables(
        {"aspects": {"mitosis": mitosis}, "intervals": {"aspects.mitosis.accuracy": [0.25, 0.875]}}
    )
    assert [[cell.count for cell in row.cells] for row in table.rows] == mitosis["confusion"]
    absent, rare, frequent = table.rows
    assert [cell.share for cell in absent.cells] == [0.75, 0.25, 0.0]
    assert [cell.shade for cell in absent.cells] == [8, 2, 0]
    assert [row.studies for row in table.rows] == [4, 3, 0]
    assert [cell.share for cell in frequent.cells] == [None] * 3  # no study of the class, no share of it
    assert [cell.right for cell in rare.cells] == [False, True, False]
    assert table.mistakes == (Mistake("rare", "frequent", 2, 3), Mistake("absent", "rare", 1, 4))
    assert str(table.accuracy) == "0.571 [0.250, 0.875]"
    assert table.scores[0].values[:2] == (1.0, 0.75)  # precision 3 of 3, recall 3 of 4


def test_a_single_study_among_many_is_still_shaded() -> None:
    (table,) = confusion_tables({"aspects": {"mitosis": measured([0] * 100, [1] + [0] * 99)}})
    assert [cell.shade for cell in table.rows[0].cells] == [10, 1, 0]


def test_the_diagnosis_comes_first() -> None:
    mitosis, conclusion = measured([0, 1], [0, 1]), measured([0, 1], [1, 1])
    metrics = {"aspects": {"mitosis": mitosis, "conclusion": conclusion}, "diagnosis_aspect": "conclusion"}
    assert [(table.aspect, table.diagnosis) for table in confusion_tables(metrics)] == [
        ("conclusion", True),
        ("mitosis", False),
    ]


def test_many_classes_are_a_list_of_the_commonest_mistakes_and_no_matrix() -> None:
    classes = tuple(f"class {place}" for place in range(200))
    assert len(classes) > MOST_CLASSES
    truth = [*range(200), 7, 7]
    said = [(place + 1) % 200 for place in range(200)] + [8, 8]
    (table,) = confusion_tables({"aspects": {"kind": measured(truth, said, classes)}})
    assert table.rows == ()
    assert len(table.mistakes) == MOST_MISTAKES
    assert table.mistakes[0] == Mistake("class 7", "class 8", 3, 3)
    assert len(table.scores) == 100
    assert table.scores[0].name == "class 7"  # those with the most studies


def test_labels_that_do_not_exclude_each_other_have_scores_and_no_matrix() -> None:
    values = multi_label_metrics([[0.9, 0.2], [0.1, 0.8]], [[1, 0], [1, 1]], ("oedema", "nodule"))
    (table,) = confusion_tables({"aspects": {"findings": values}})
    assert table.rows == table.mistakes == ()
    assert [(each.name, each.studies, each.values[1]) for each in table.scores] == [
        ("oedema", 2, 0.5),
        ("nodule", 1, 1.0),
    ]


def test_an_aspect_without_a_labelled_study_has_no_table() -> None:
    assert confusion_tables({"aspects": {"mitosis": measured([-100], [0])}}) == []
