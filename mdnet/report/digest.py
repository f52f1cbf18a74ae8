"""The part of `metrics.json` that a person reads first, each number beside what it must be read against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DigestTable", "Measured", "digest", "measured"]

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A number, with its 95% interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 3

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    @property
    def number(self) -> str:
        """The number alone."""
        return _text(self.value, self.digits)

    @property
    def interval(self) -> str:
        """`[low, high]`, or nothing."""
        if self.low is None or self.high is None:
            return ""
        return f"[{_text(self.low, self.digits)}, {_text(self.high, self.digits)}]"

    def __str__(self) -> str:
        return f"{self.number} {self.interval}".rstrip()


def _text(value: float, digits: int) -> str:
    rounded = round(value, digits) + 0.0  # no "-0.000"
    return f"{rounded:.{digits}f}"


Row = dict[str, Measured | None]
Rows = dict[str, Row]


@dataclass(frozen=True)
class DigestTable:
    """One table: rows by name, each with its columns; a gap where nothing was measured.

    Attributes:
        note: How it is to be read.
    """

    heading: str
    note: str
    rows: Mapping[str, Mapping[str, Measured]]

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles in order of first appearance."""
        return tuple(dict.fromkeys(column for row in self.rows.values() for column in row))


_ASPECT = {"accuracy": "accuracy", "macro_f1": "macro F1", "auroc": "AUROC", "ece": "ECE"}
_TEXT = {
    "bleu_1": "BLEU-1",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR (nltk)",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "distinct_share": "distinct",
}
_BASELINES = {
    "human": "people, one against others",
    "class_report": "text of predicted classes",
    "nearest_neighbour": "nearest training image",
    "constant_report": "constant report",
    "shuffled": "images shuffled",
}
_STATEMENT = {"true": "true class", "silent": "silent", "contradiction": "contradicts"}
_RETRIEVAL = {
    "recall_at_1": "recall@1",
    "recall_at_5": "recall@5",
    "recall_at_10": "recall@10",
    "median_rank": "median rank",
    "mean_reciprocal_rank": "MRR",
}


def measured(metrics: Metrics, name: str, value: float | None) -> Measured | None:
    """A value of `metrics.json` with the interval under its dotted name; None where it is not defined."""
    return None if value is None else Measured(float(value), *metrics.get("intervals", {}).get(name, ()))


def digest(metrics: Metrics) -> list[DigestTable]:
    """The tables that have something to say.

    Args:
        metrics: As in `metrics.json`.
    """
    tables = (
        _table(
            "Diagnosis and aspects",
            "Share of right answers, beside the commonest training class for all, and the vote of the "
            "five training images with the nearest features. ECE: how far confidence and accuracy lie apart.",
            _aspects(metrics),
        ),
        _table(
            "Answers from a probability",
            "Coverage: share of the studies that get an answer when one of a lower probability is not given.",
            _abstention(metrics),
        ),
        _table(
            "Report",
            "Whole reports against all references. A text metric means nothing alone: one report for all "
            "studies, and the reports of other images, score what their rows say.",
            _reports(metrics),
        ),
        _table(
            "What the text states",
            "Each text read back into classes by rule. Contradicts: of the texts that state a class, those "
            "that state another than the model's own answer.",
            _statements(metrics),
        ),
        _table(
            "Report finds its image",
            "Reference reports rank the images by log p(report | image). Chance: images in random order.",
            _retrieval(metrics),
        ),
        _table(
            "Likelihood of references",
            "Mean log probability of a reference report, in nats. Equal on its own and on other images, the "
            "model writes without looking.",
            _likelihood(metrics),
        ),
        _table(
            "Where the maps peak",
            "Share of the studies whose map has its highest cell inside the mask. Chance: the mask's share "
            "of the area.",
            _maps(metrics, "pointing"),
        ),
        _table(
            "Share of the maps inside",
            "Share of a map's positive part inside the mask; in the tissue, of the diagnosis's contrast.",
            _maps(metrics, "energy") | _tissue(metrics),
        ),
        _table(
            "Images of another kind",
            "How well they are told from this split's by how unusual their features are.",
            _unfamiliar(metrics),
        ),
    )
    return [table for table in tables if table.rows]


def _table(heading: str, note: str, rows: Rows) -> DigestTable:
    """The table without what is not defined."""
    kept = {name: {key: cell for key, cell in row.items() if cell is not None} for name, row in rows.items()}
    return DigestTable(heading, note, {name: row for name, row in kept.items() if row})


def _row(values: Metrics, titles: Mapping[str, str]) -> Row:
    """Values without intervals."""
    return {title: _plain(values.get(key)) for key, title in titles.items()}


def _plain(value: float | None) -> Measured | None:
    return None if value is None else Measured(float(value))


def _aspects(metrics: Metrics) -> Rows:
    baselines = metrics.get("baselines", {})
    nearest = baselines.get("nearest_neighbour", {}).get("aspects", {})
    rows: Rows = {}
    for name, aspect in metrics.get("aspects", {}).items():
        row: Row = {
            title: measured(metrics, f"aspects.{name}.{key}", aspect.get(key))
            for key, title in _ASPECT.items()
        }
        rows[name] = row | {
            "majority class": _plain(baselines.get("majority", {}).get(name, {}).get("accuracy")),
            "nearest images": _plain(nearest.get(name, {}).get("accuracy")),
        }
    if "mean_aspect_accuracy" in metrics:
        rows["mean"] = {"accuracy": Measured(metrics["mean_aspect_accuracy"])}
    return rows


def _abstention(metrics: Metrics) -> Rows:
    abstention = metrics.get("abstention")
    if not abstention:
        return {}
    titles = {"coverage": "coverage", "accuracy": "accuracy", "accuracy_of_all": "of all"}
    return {
        name: {"from": _plain(abstention["below"])} | _row(values, titles)
        for name, values in abstention["aspects"].items()
    }


def _reports(metrics: Metrics) -> Rows:
    """A system a row: the metrics read against each other stand in one column."""
    if "text" not in metrics:
        return {}
    rows: Rows = {
        "model": {
            title: measured(metrics, f"text.{key}", metrics["text"].get(key)) for key, title in _TEXT.items()
        }
    }
    for key, title in _BASELINES.items():
        rows[title] = _row(metrics.get("baselines", {}).get(key) or {}, _TEXT)
    return rows


def _statements(metrics: Metrics) -> Rows:
    statements = metrics.get("statements")
    if not statements:
        return {}
    rows: Rows = {section: _row(values, _STATEMENT) for section, values in statements["aspects"].items()}
    whole = {"true class": measured(metrics, "statements.true", statements["true"])}
    return rows | {"all": _row(statements, _STATEMENT) | whole}


def _retrieval(metrics: Metrics) -> Rows:
    retrieval = metrics.get("retrieval")
    if not retrieval:
        return {}
    systems = {f"model, {retrieval['images']} images": retrieval, "chance": retrieval["chance"]}
    return {
        name: _row(values, _RETRIEVAL) | {"median rank": Measured(float(values["median_rank"]), digits=1)}
        for name, values in systems.items()
    }


def _likelihood(metrics: Metrics) -> Rows:
    likelihood = metrics.get("likelihood")
    if not likelihood:
        return {}
    compared = metrics["comparisons"]["own_minus_other_images"]
    return {
        f"{likelihood['studies']} studies": {
            "own image": Measured(likelihood["own_image"], digits=2),
            "other images": Measured(likelihood["other_images"], digits=2),
            "difference": Measured(compared["difference"], compared["low"], compared["high"], digits=2),
        }
    }


def _maps(metrics: Metrics, name: str) -> Rows:
    rows: Rows = {}
    for aspect, kinds in metrics.get("grounding", {}).items():
        for kind in ("evidence", "attention"):
            for label, values in kinds.get(kind, {}).items():
                row = rows.setdefault(f"{aspect}: {label}", {})
                row[kind] = measured(metrics, f"grounding.{aspect}.{kind}.{label}.{name}", values.get(name))
        for label, values in kinds.get("evidence", {}).items():
            rows[f"{aspect}: {label}"] |= {
                "chance": Measured(values["chance"]),
                "studies": Measured(values["studies"], digits=0),
            }
    return rows


def _tissue(metrics: Metrics) -> Rows:
    tissue = metrics.get("grounding", {}).get("tissue")
    if not tissue:
        return {}
    return {"tissue": {"evidence": Measured(tissue["evidence_share"]), "chance": Measured(tissue["area"])}}


def _unfamiliar(metrics: Metrics) -> Rows:
    values = metrics.get("out_of_distribution")
    if not values:
        return {}
    titles = {"auroc": "AUROC", "flagged": "flagged", "flagged_studies": "studies flagged"}
    return {f"{values['images']} images": _row(values, titles)}
