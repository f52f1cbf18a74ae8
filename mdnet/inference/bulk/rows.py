"""One finding in a file of reports: text, a JSON line, or a row of Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mdnet.inference.finding import Finding

__all__ = ["WRITERS", "as_json", "as_row", "as_text"]


def as_text(identifier: str, finding: Finding) -> str:
    """The image, the diagnosis and the report, for a reader; the id is that of other formats."""
    head = finding.source
    if finding.label_space.diagnosis is not None:
        head += f": {finding.verdict}"
    if finding.unusualness is not None and finding.unusualness.beyond_threshold:
        head += f", out of distribution: {finding.unusualness}"
    lines = [head, f"  {finding.report.text}"] if finding.report.text else [head]
    for section in finding.report.sections.values():
        if section.agrees is False:
            lines.append(f"  {section.name}: no text found states {section.guided_by}")
        lines += [f"  {section.name}, or: {other.text}" for other in section.others]
    return "\n".join(lines)


def as_json(identifier: str, finding: Finding) -> str:
    """`Finding.to_dict` and the id, on one line."""
    return json.dumps({"id": identifier, **finding.to_dict()}, ensure_ascii=False)


def as_row(identifier: str, finding: Finding) -> str:
    """What a row of Parquet holds (`mdnet.inference.bulk.parquet.schema_of`), on one line of JSON."""
    told = finding.to_dict()
    unusual = finding.unusualness
    row: dict[str, Any] = {
        "id": identifier,
        "source": finding.source,
        "model": finding.model,
        "diagnosis": told["diagnosis"],
        "probability": None if finding.label_space.diagnosis is None else finding.diagnosis.probability,
        "abstained": finding.abstained,
        "unusualness": None if unusual is None else unusual.score,
        "out_of_distribution": None if unusual is None else unusual.beyond_threshold,
        "report": told["report"],
        "confidence": finding.report.confidence,
        "sections": told["sections"],
        "probabilities": {name: dict(aspect.probabilities) for name, aspect in finding.aspects.items()},
        "details": json.dumps(finding.report.details(), ensure_ascii=False),
    }
    for name, aspect in finding.aspects.items():
        row |= {f"{name}_label": aspect.label, f"{name}_probability": aspect.probability}
    return json.dumps(row, ensure_ascii=False)


WRITERS: dict[str, Callable[[str, Finding], str]] = {"text": as_text, "jsonl": as_json, "parquet": as_row}
"""By the name of the format."""
