"""Tables of metrics.json: nothing left out, baselines beside what they are baselines of."""

from __future__ import annotations

from mdnet.report.metrics_table import metrics_tables


def test_baselines_stand_beside_their_values_and_unmatched_ones_are_kept() -> None:
    metrics = {
        "diagnosis": {"accuracy": 0.95},
        "text": {"bleu_4": 0.5},
        "baselines": {
            "majority": {"diagnosis": {"accuracy": 0.31}},
            "text": {"bleu_4": 0.2},
            "odd": {"thing": 1},
        },
    }
    tables = {table.name: table for table in metrics_tables(metrics)}
    ((_, (accuracy,)),) = tables["diagnosis"].rows
    assert accuracy is not None
    assert (accuracy.value, accuracy.baselines) == ("0.950", (("majority", "0.310"),))
    ((_, (bleu,)),) = tables["text"].rows
    assert bleu is not None
    assert bleu.baselines == (("baseline", "0.200"),)
    assert tables["baselines"].rows[0][0] == "odd"


def test_deep_groups_become_rows_and_columns_with_gaps_where_nothing_was_measured() -> None:
    (table,) = metrics_tables(
        {"grounding": {"evidence": {"mitosis": {"rare": 0.8}, "nucleoli": {"prominent": None}}}}
    )
    assert table.columns == ("rare", "prominent")
    rows = {name: [cell and cell.value for cell in cells] for name, cells in table.rows}
    assert rows == {"evidence / mitosis": ["0.800", None], "evidence / nucleoli": [None, "not measured"]}


def test_every_leaf_of_the_metrics_is_shown_once() -> None:
    metrics = {"studies": 40, "aspects": {"accuracy": 0.5, "mitosis": {"accuracy": 0.25, "counts": [1, 2]}}}
    values = [c.value for table in metrics_tables(metrics) for _, cells in table.rows for c in cells if c]
    assert sorted(values) == sorted(["40", "0.500", "0.250", "1, 2"])
