"""All evaluated runs of a folder side by side: only those of the same data and split, and with baselines.

A column's best is named only where it is more than noise. Noise of a run is half of its 95% interval in
`metrics.json` (the studies), of a group of seeds that and the t-interval over seeds, added in quadrature; two
rows are within noise of each other where they differ by less than both noises added in quadrature. As a
rule that asks more than a paired test, for all rows are scored on the same studies: `mdnet compare` does one.
Of a run alone the spread over seeds is not known.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdnet.errors import ConfigurationError, MDNetError
from mdnet.evaluation.leaderboard_columns import COLUMNS, TEXT, Value
from mdnet.evaluation.run_folder import EvaluatedRun, read_evaluated_run, recipe
from mdnet.evaluation.seeds import SeedGroup, Spread, group_by_seed, spread

__all__ = ["Cell", "Leaderboard", "Row", "Table", "leaderboard", "to_csv"]


@dataclass(frozen=True)
class Cell:
    """A number with its noise.

    Attributes:
        value: Of one run, the mean of several seeds, or a baseline's.
        noise: Half of a 95% interval; None where it is not known.
        seeds: Spread over the seeds; None for a baseline.
    """

    value: float
    noise: float | None = None
    seeds: Spread | None = None


@dataclass(frozen=True)
class Row:
    """A recipe with one or several seeds, or a baseline.

    Attributes:
        name: The model, or the baseline.
        differs: What tells the recipe from the table's others.
        runs: Its run folders; none for a baseline.
        seeds: One a run.
        cells: By the column's key; without what was not measured.
        members: The runs of several seeds, a row each.
    """

    name: str
    cells: Mapping[str, Cell]
    differs: str = ""
    runs: tuple[Path, ...] = ()
    seeds: tuple[int, ...] = ()
    members: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Table:
    """Runs that may be compared: scored on the same split of the same data.

    Attributes:
        data: Folder of the data, as the first run names it.
        studies: How many were scored.
        rows: Recipes, the best diagnosis first.
        baselines: What they must be read against.
        best: Column key to the places in `rows` that are the best or within noise of it; a column that
            ranks nothing (a baseline is as good, nothing was measured, there is one row) has no entry.
        sentences: The same in words.
    """

    data: str
    data_hash: str
    split: str
    studies: int
    rows: tuple[Row, ...]
    baselines: tuple[Row, ...]
    best: Mapping[str, tuple[int, ...]]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Leaderboard:
    """All tables, and (run folder, reason) of the runs that are in none."""

    tables: tuple[Table, ...]
    left_out: tuple[tuple[Path, str], ...]


def leaderboard(folder: Path) -> Leaderboard:
    """Looks over all run folders below a folder.

    Raises:
        ConfigurationError: There is no such folder, or no run below it.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: no such folder; name one with run folders below it")
    places = sorted({p.parent for name in ("config.yaml", "metrics.json") for p in folder.rglob(name)})
    if not places:
        raise ConfigurationError(f"{folder}: no run below it; a run folder holds config.yaml")
    runs: list[EvaluatedRun] = []
    left_out: list[tuple[Path, str]] = []
    for place in places:
        try:
            runs.append(read_evaluated_run(place))
        except MDNetError as error:
            left_out.append((place, str(error)))
    tables: dict[tuple[str, str], list[SeedGroup]] = {}
    for group in group_by_seed(runs):
        tables.setdefault((group.runs[0].data_hash, group.runs[0].split), []).append(group)
        left_out += [(r.folder, f"seed {r.seed} of its recipe is there already") for r in group.repeats]
    return Leaderboard(tuple(table_of(groups) for groups in tables.values()), tuple(left_out))


def table_of(groups: Sequence[SeedGroup]) -> Table:
    """The table of groups of the same data and split."""
    first = groups[0].runs[0]
    named = differences([recipe(group.runs[0]) for group in groups])
    rows = [row_of(group, differs) for group, differs in zip(groups, named, strict=True)]
    rows.sort(key=lambda row: [-row.cells[c.key].value if c.key in row.cells else math.inf for c in COLUMNS])
    baselines = baseline_rows([run for group in groups for run in group.runs])
    best, sentences = ranking(rows, baselines)
    return Table(
        data=str(first.metrics["provenance"]["data"]),
        data_hash=first.data_hash,
        split=first.split,
        studies=int(first.metrics["studies"]),
        rows=tuple(rows),
        baselines=tuple(baselines),
        best=best,
        sentences=tuple(sentences),
    )


def row_of(group: SeedGroup, differs: str) -> Row:
    """One row: of several seeds the means of what all of them measured."""
    cells = {}
    for column in COLUMNS:
        read = [value for run in group.runs if (value := column.read(run.metrics)) is not None]
        if len(read) == len(group.runs):
            cells[column.key] = cell_of(read)
    return Row(
        name=str(group.runs[0].configuration["model"]),
        cells=cells,
        differs=differs,
        runs=tuple(run.folder for run in group.runs),
        seeds=tuple(run.seed for run in group.runs),
        members=tuple(row_of(SeedGroup((run,)), differs) for run in group.runs if len(group.runs) > 1),
    )


def cell_of(values: Sequence[Value]) -> Cell:
    """A value a seed. The studies' noise does not average out over seeds: they share the studies."""
    seeds = spread([value for value, _ in values])
    halves = [half for _, half in values if half is not None]
    noise = float(np.mean(halves)) if len(halves) == len(values) else None
    if noise is not None and seeds.high is not None:
        noise = math.hypot(noise, seeds.high - seeds.mean)
    return Cell(seeds.mean, noise, seeds)


def differences(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells each recipe from the others, in words; the model has a column of its own."""
    keys = dict.fromkeys(key for each in recipes for key in each if key != "model")
    telling = [key for key in keys if len({repr(each.get(key)) for each in recipes}) > 1]
    return [", ".join(f"{key} {each[key]}" for key in telling if key in each) for each in recipes]


def baseline_rows(runs: Sequence[EvaluatedRun]) -> list[Row]:
    """What needs no reading of the image; where runs differ in it (image features), the highest value."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        for name, values in baseline_values(run):
            row = found.setdefault(name, {})
            for key, value in values.items():
                row[key] = max(value, row.get(key, value))
    return [Row(name, {key: Cell(value) for key, value in row.items()}) for name, row in found.items() if row]


def baseline_values(run: EvaluatedRun) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and values by column of one run's baselines."""
    baselines = run.metrics.get("baselines", {})
    majority, nearest = baselines.get("majority", {}), baselines.get("nearest_neighbour", {})
    yield "majority class", aspect_values(majority, run)
    yield "constant report", text_values(baselines.get("constant_report", {}))
    yield (
        "nearest training image",
        aspect_values(nearest.get("aspects", {}), run) | text_values(nearest),
    )


def aspect_values(aspects: Mapping[str, Any], run: EvaluatedRun) -> dict[str, float]:
    """Accuracy of the diagnosis, and the mean where every aspect of the run is there."""
    values = {name: each["accuracy"] for name, each in aspects.items() if each["accuracy"] is not None}
    found = {}
    if run.space.diagnosis in values:
        found["diagnosis_accuracy"] = values[run.space.diagnosis]
    if values and set(values) == set(run.metrics.get("aspects", {})):
        found["mean_aspect_accuracy"] = float(np.mean(list(values.values())))
    return found


def text_values(text: Mapping[str, Any]) -> dict[str, float]:
    """The text metrics that have a column."""
    return {name: text[name] for name in TEXT if name in text}


def ranking(rows: Sequence[Row], baselines: Sequence[Row]) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Which rows are best or within noise of it, column by column, and the same in words."""
    best: dict[str, tuple[int, ...]] = {}
    sentences: list[str] = []
    for column in COLUMNS:
        cells = [(place, row.cells[column.key]) for place, row in enumerate(rows) if column.key in row.cells]
        if not cells:
            continue
        leader, top = max(cells, key=lambda pair: pair[1].value)
        beside = [(row.cells[column.key].value, row.name) for row in baselines if column.key in row.cells]
        if beside and max(beside)[0] >= top.value:
            value, name = max(beside)
            numbers = f"{value:.3f}, best run {top.value:.3f}"
            sentences.append(f"{column.title}: no run is better than the baseline {name} ({numbers}).")
        elif len(cells) > 1:
            tied = tuple(place for place, cell in cells if place == leader or within_noise(top, cell))
            best[column.key] = tied
            name = " ".join(filter(None, (rows[leader].name, rows[leader].differs)))
            found = (
                f"{name} is best by more than noise"
                if len(tied) == 1
                else f"{len(tied)} of {len(cells)} rows are within noise of the best, {name}"
            )
            sentences.append(f"{column.title}: {found} ({top.value:.3f}).")
    return best, sentences


def within_noise(top: Cell, other: Cell) -> bool:
    """Whether two cells differ by less than their noise; what has no known noise cannot be told apart."""
    if top.noise is None or other.noise is None:
        return True
    return top.value - other.value <= math.hypot(top.noise, other.noise)


def to_csv(board: Leaderboard) -> str:
    """A line a recipe, each of its runs where it has several seeds, each baseline, and each run left out."""
    parts = ("", "_noise", "_deviation", "_minimum", "_maximum", "_low", "_high")
    head = ["data_hash", "split", "kind", "model", "differs", "seeds", "runs", "note"]
    file = io.StringIO()
    writer = csv.DictWriter(
        file, [*head, *(c.key + part for c in COLUMNS for part in parts)], lineterminator="\n"
    )
    writer.writeheader()
    for table in board.tables:
        where = {"data_hash": table.data_hash, "split": table.split}
        rows = [each for row in table.rows for each in (row, *row.members)]
        for row in (*rows, *table.baselines):
            kind = "baseline" if not row.runs else "seeds" if row.members else "run"
            line: dict[str, Any] = where | {
                "kind": kind,
                "model": row.name,
                "differs": row.differs,
                "seeds": " ".join(map(str, row.seeds)),
                "runs": " ".join(map(str, row.runs)),
            }
            for key, cell in row.cells.items():
                line |= {key: cell.value, f"{key}_noise": cell.noise}
                if cell.seeds is not None and cell.seeds.seeds > 1:
                    names = ("deviation", "minimum", "maximum", "low", "high")
                    line |= {f"{key}_{name}": getattr(cell.seeds, name) for name in names}
            writer.writerow(line)
    for place, reason in board.left_out:
        writer.writerow({"kind": "left out", "runs": str(place), "note": reason})
    return file.getvalue()
