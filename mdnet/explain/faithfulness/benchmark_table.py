"""The benchmark's result: one record a method, as JSON, and as Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mdnet.files import write_text

__all__ = ["BenchmarkTable"]


class Column(NamedTuple):
    """A number of the records: its key, heading, format, meaning, and whether every baseline has one."""

    key: str
    heading: str
    form: str
    meaning: str
    by_baseline: bool = False


_COLUMNS = (
    Column("studies", "studies", "d", "methods that need many passes an image see fewer"),
    Column("pointing", "pointing", ".3f", "share of maps whose peak lies in the mask"),
    Column("energy", "energy", ".3f", "share of the map's positive part that lies in the mask"),
    Column("rank_accuracy", "rank accuracy", ".3f", "share of the K largest pixels in the mask, K its size"),
    Column("best_iou", "IoU", ".3f", "overlap with the mask at the map's best threshold"),
    Column("deletion", "deletion", ".3f", "area as the most relevant pixels go; low is good", True),
    Column(
        "insertion", "insertion", ".3f", "area as they come, or the least relevant go; high is good", True
    ),
    Column(
        "behind_evidence",
        "behind evidence",
        "+.3f",
        "deletion less evidence's, study by study, and its 95% interval",
        True,
    ),
    Column("behind_evidence_probability", "behind evidence p", "+.3f", "the same of the probability", True),
    Column("sensitivity_n", "sensitivity-n", ".3f", "correlation of map sums and score lost, random parts"),
    Column("infidelity", "infidelity", ".3f", "error of that forecast: 0 perfect, 1 that of a map of zeros"),
    Column("maximum_sensitivity", "max. sensitivity", ".3f", "largest relative change under slight noise"),
    Column("random_weights", "random weights", "+.3f", "rank correlation with the map of random weights"),
    Column("residual", "residual", ".1e", "largest |score - (map sum + offset)|, where a sum is kept"),
    Column("cost", "cost", ".2f", "seconds a map over seconds a forward pass, in batches"),
)


@dataclass(frozen=True)
class BenchmarkTable:
    """Result of `benchmark`.

    Attributes:
        settings: What was measured, and how.
        rows: A record a method: `method`, `by_design`, `survives` (the check with random weights is
            failed) and the numbers, None where one does not apply. Areas of deletion and insertion
            are given in the score's unit (`deletion_mean_area`), and on a scale where 0 is the mean
            score of the baseline images and 1 that of the images (`deletion_mean`); the probability is
            that of the class where it and the reference class are the only two.
    """

    settings: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    def save(self, folder: str | Path) -> list[Path]:
        """Writes benchmark.json and benchmark.md."""
        record = {"settings": dict(self.settings), "rows": [dict(row) for row in self.rows]}
        return [
            write_text(Path(folder) / "benchmark.json", json.dumps(record, indent=2) + "\n"),
            write_text(Path(folder) / "benchmark.md", self.markdown()),
        ]

    def markdown(self) -> str:
        """The table, what its columns and marks mean, and the settings."""
        shown: list[Column] = []
        legend: list[str] = []
        for column in _COLUMNS:
            named = [column]
            if column.by_baseline:
                named = [
                    column._replace(key=f"{column.key}_{name}", heading=f"{column.heading} ({name})")
                    for name in self.settings["baselines"]
                ]
            used = [each for each in named if any(row.get(each.key) is not None for row in self.rows)]
            shown += used
            legend += [f"- {column.heading}: {column.meaning}"] * bool(used)
        lines = ["| " + " | ".join(["method", *(column.heading for column in shown)]) + " |"]
        lines.append("|---" * (len(shown) + 1) + "|")
        for row in self.rows:
            name = row["method"] + " *" * row["by_design"] + " !" * row["survives"]
            lines.append("| " + " | ".join([name, *(_cell(row, column) for column in shown)]) + " |")
        legend += ["- *: read off the model's own computation", "- !: hardly changes with random weights"]
        settings = [f"- {name}: {_plain(value)}" for name, value in self.settings.items()]
        return "\n".join([*lines, "", *legend, "", *settings, ""])


def _cell(row: Mapping[str, Any], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return ""
    bounds = [row.get(f"{column.key}_{bound}") for bound in ("low", "high")]
    text = format(value, column.form)
    if None not in bounds:
        text += " ({})".format(", ".join(format(bound, column.form) for bound in bounds))
    return text


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
