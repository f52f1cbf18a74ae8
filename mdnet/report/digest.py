"""The part of `metrics.json` that a person reads first, each number beside what it must be read against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["digest"]

Table = dict[str, dict[str, float]]

_ASPECT = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "macro_f1": "macro F1", "auroc": "AUROC"}
_TEXT = {
    "bleu_1": "BLEU-1",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR (nltk)",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
}


def digest(metrics: Mapping[str, Any]) -> dict[str, Table]:
    """Tables by heading: rows by name, each with its columns.

    Args:
        metrics: As in `metrics.json`.
    """
    tables = {
        "Diagnosis and aspects": _aspects(metrics),
        "Report": _text(metrics),
        "What the sections state": _statements(metrics),
        "Where the maps peak": _maps(metrics),
    }
    return {heading: rows for heading, rows in tables.items() if rows}


def _aspects(metrics: Mapping[str, Any]) -> Table:
    majority = metrics.get("baselines", {}).get("majority", {})
    rows = {}
    for name, aspect in metrics.get("aspects", {}).items():
        row = {title: aspect.get(key) for key, title in _ASPECT.items()}
        row["majority class"] = majority.get(name, {}).get("accuracy")
        rows[name] = row
    if "mean_aspect_accuracy" in metrics:
        rows["mean"] = {"accuracy": metrics["mean_aspect_accuracy"]}
    return _present(rows)


def _text(metrics: Mapping[str, Any]) -> Table:
    if "text" not in metrics:
        return {}
    baselines = metrics.get("baselines", {})
    systems = {
        "model": metrics["text"],
        "constant report": baselines.get("constant_report", {}),
        "images shuffled": baselines.get("shuffled", {}),
    }
    rows = {
        title: {name: scores.get(key) for name, scores in systems.items()} for key, title in _TEXT.items()
    }
    rows["share of distinct reports"] = {"model": metrics["text"].get("distinct_share")}
    return _present(rows)


def _statements(metrics: Mapping[str, Any]) -> Table:
    statements = metrics.get("statements")
    if not statements:
        return {}
    rows = {section: {"true class": share} for section, share in statements["sections"].items()}
    return _present(rows | {"all": {"true class": statements["true"]}})


def _maps(metrics: Mapping[str, Any]) -> Table:
    rows: Table = {}
    for aspect, kinds in metrics.get("grounding", {}).items():
        for kind in ("evidence", "attention"):
            for label, values in kinds.get(kind, {}).items():
                row = rows.setdefault(f"{aspect}: {label}", {})
                row[f"{kind} in mask"] = values["pointing"]
    for aspect, kinds in metrics.get("grounding", {}).items():
        for label, values in kinds.get("evidence", {}).items():
            rows[f"{aspect}: {label}"]["mask's share of the area"] = values["chance"]
    return _present(rows)


def _present(rows: Mapping[str, Mapping[str, float | None]]) -> Table:
    """The rows without what is not defined."""
    kept = {name: {key: float(v) for key, v in row.items() if v is not None} for name, row in rows.items()}
    return {name: row for name, row in kept.items() if row}
