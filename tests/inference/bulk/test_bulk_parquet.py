"""Parquet: types of the columns, values of a row, groups of rows."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow.parquet import ParquetFile, read_table

from mdnet.data.study import LabelSpace
from mdnet.inference.bulk import parquet
from mdnet.inference.bulk.parquet import schema_of, write_parquet
from mdnet.inference.bulk.rows import as_json, as_row, as_text
from mdnet.inference.decoding_config import DecodingConfig


@pytest.fixture
def findings(predict, folder):
    predictor = predict(DecodingConfig())
    return predictor([folder / "00.png", folder / "01.png", folder / "02.png"])


def test_a_row_holds_what_the_finding_tells(findings, space, tmp_path):
    sections = tuple(findings[0].report.sections)
    lines = "".join(as_row(f"id{n}", finding) + "\n" for n, finding in enumerate(findings)).encode()
    write_parquet([lines], tmp_path / "r.parquet", space=space, sections=sections)
    table = read_table(tmp_path / "r.parquet")
    assert table.schema.equals(schema_of(space, sections))
    assert table.schema.field("probability").type == pa.float64()
    for n, (row, finding) in enumerate(zip(table.to_pylist(), findings, strict=True)):
        assert row["id"] == f"id{n}"
        assert row["source"] == finding.source
        assert row["diagnosis"] == finding.diagnosis.label
        assert row["probability"] == finding.diagnosis.probability
        assert row["report"] == finding.report.text
        assert row["confidence"] == finding.report.confidence
        assert row["sections"] == {name: section.text for name, section in finding.report.sections.items()}
        assert row["unusualness"] is None  # the model was not calibrated
        assert json.loads(row["details"]) == finding.report.details()
        for name, aspect in finding.aspects.items():
            assert row[f"{name}_label"] == aspect.label
            assert row[f"{name}_probability"] == aspect.probability
            assert row["probabilities"][name] == aspect.probabilities


def test_rows_are_written_in_groups(findings, space, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROW_GROUP", 4)
    sections = tuple(findings[0].report.sections)
    text = "".join(as_row(str(n), findings[0]) + "\n" for n in range(3)).encode()
    write_parquet([text, b"", text, text], tmp_path / "r.parquet", space=space, sections=sections)
    file = ParquetFile(tmp_path / "r.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4, 1]
    assert file.read()["id"].to_pylist() == ["0", "1", "2"] * 3


def test_a_model_without_labels_or_sections_has_no_columns_of_them(tmp_path):
    names = schema_of(LabelSpace(), ()).names
    assert "sections" not in names
    assert "probabilities" not in names
    write_parquet([], tmp_path / "r.parquet", space=LabelSpace(), sections=())
    assert read_table(tmp_path / "r.parquet").num_rows == 0


def test_a_line_of_json_is_the_finding_with_its_id(findings):
    assert json.loads(as_json("é", findings[1])) == {"id": "é"} | json.loads(
        json.dumps(findings[1].to_dict())
    )
    assert "\n" not in as_json("a\nb", findings[1])
    head, report = as_text("id", findings[1]).split("\n")
    assert head == f"{findings[1].source}: {findings[1].verdict}"
    assert report == f"  {findings[1].report.text}"
