"""The nested numbers of `metrics.json` as tables that a person can read.

Nothing is left out and nothing is named in advance: a group of `metrics.json` becomes one table,
its last level the columns, the levels between them the rows, and each baseline's value stands
under the value that it is a baseline of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Cell", "MetricsTable", "metrics_tables"]

OVERALL = "overall"


@dataclass(frozen=True)
class Cell:
    """One value as text, and (baseline name, value) pairs."""

    value: str
    baselines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class MetricsTable:
    """One group: `rows` is (row name, one cell a column; None where there is no value)."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def metrics_tables(metrics: Mapping[str, Any]) -> list[MetricsTable]:
    """Tables of `metrics`, in its order.

    `baselines` may hold groups of its own for each baseline (`baselines.majority.diagnosis.accuracy`)
    or the groups themselves (`baselines.text.bleu_4`). A baseline with no counterpart among the metrics
    gets a row of its own in a group "baselines".
    """
    values = {path: value for path, value in _leaves(metrics) if path[0] != "baselines"}
    beside: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    unmatched: dict[tuple[str, ...], Any] = {}
    for path, value in _leaves(metrics.get("baselines") or {}):
        if path in values:
            beside.setdefault(path, []).append(("baseline", _text(value)))
        elif path[1:] in values:
            beside.setdefault(path[1:], []).append((_words(path[0]), _text(value)))
        else:
            unmatched["baselines", *path] = value

    groups: dict[str, dict[tuple[str, ...], Cell]] = {}
    for path, value in (values | unmatched).items():
        group, rest = (path[0], path[1:]) if len(path) > 1 else (OVERALL, path)
        groups.setdefault(group, {})[rest] = Cell(_text(value), tuple(beside.get(path, ())))
    return [_table(name, cells) for name, cells in groups.items()]


def _table(name: str, cells: Mapping[tuple[str, ...], Cell]) -> MetricsTable:
    if all(len(path) == 1 for path in cells):  # a plain list of numbers reads better downwards
        rows = tuple((_words(path[0]), (cell,)) for path, cell in cells.items())
        return MetricsTable(_words(name), ("value",), rows)
    columns = tuple(dict.fromkeys(path[-1] for path in cells))
    names = tuple(dict.fromkeys(path[:-1] for path in cells))
    return MetricsTable(
        _words(name),
        tuple(map(_words, columns)),
        tuple(
            (" / ".join(map(_words, row)) or OVERALL, tuple(cells.get((*row, column)) for column in columns))
            for row in names
        ),
    )


def _leaves(metrics: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(name)))
        else:
            yield (*path, str(name)), value


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return "not measured" if value is None else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
