"""Rows of a table, from whatever file, into studies: what CSV and Hugging Face data sets have in common.

Rows of one id are one study, and their images its views, in the order of the rows; what else the rows
say must agree, or stand in one of them only. A cell of the table may hold several images, parted by
`;` or `|`. A cell is text, a number, or a list; an empty one, or pandas' `nan`, is missing.

Labels: several classes of one study are parted by `|`, or are a list; a column that has such a cell is
multi-label, unless `dataset.json` says otherwise. Whole numbers that were written as fractions, as
pandas does beside missing ones, are whole again (`1.0` is class `1`, or patient `1`). Columns of nothing
but 1, 0 and -1, if there is a -1 in one of them, are observations as CheXpert labels them (Irvin et al.,
AAAI 2019, arXiv 1901.07031): present, absent, and uncertain, which counts as `ReaderOptions.uncertain`
says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import Collector, short
from mdnet.data.readers.image_names import ImageNames
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.validation import split_named
from mdnet.data.study import Study

__all__ = ["Row", "add_rows"]

_WHOLE = re.compile(r"([+-]?\d+)(?:\.0+)?")
_OBSERVED = {"1", "0", "-1"}
_NOTHING = ("", "nan", "NaN", "<NA>")  # the last as pandas spells what is missing


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        where: File and line.
        cells: What is held, as `ReaderOptions.columns` names it, to the cell.
    """

    where: str
    cells: Mapping[str, Any]


def add_rows(
    rows: Sequence[Row], collector: Collector, *, folders: tuple[Path, ...], options: ReaderOptions
) -> None:
    """Adds the studies that the rows tell of.

    Args:
        rows: In file order.
        collector: Takes the studies and the faults.
        folders: Where images are looked for.
        options: Says what an uncertain label counts as.
    """
    roles = list(dict.fromkeys(role for row in rows for role in row.cells))
    sections = [role for role in roles if role.partition(".")[0] == "report"]
    columns = [_LabelColumn(rows, role, collector) for role in roles if role.partition(".")[0] == "label"]
    observed = [column for column in columns if column.numbers and column.numbers <= _OBSERVED]
    if any("-1" in column.numbers for column in observed):
        for column in observed:
            column.observe(options, collector)
    names = ImageNames(collector, folders)
    identified_by = "id" if "id" in roles else "image"
    for same in _by_id(rows, identified_by):
        study, where = _StudyRows(same, collector), same[0].where
        errors = collector.error_count
        identifier = collector.identifier(study.agreed(identified_by), where)
        images = names.find(study.image_names(), where)
        split = study.agreed("split", read=lambda value: split_named(str(value)) or value)
        labels = {column.aspect: study.agreed(column.role, read=column.read) for column in columns}
        found = Study(
            identifier,
            images,
            collector.split(split, where),
            collector.patient(study.agreed("patient", read=_without_fraction)),
            collector.labels(labels, where),
            collector.report(study.report(sections), where) if sections else {},
            source=where,
        )
        collector.add(found, usable=collector.error_count == errors)


def _by_id(rows: Sequence[Row], role: str) -> Iterable[list[Row]]:
    """Rows of one id together; one without is alone."""
    groups: dict[Any, list[Row]] = {}
    for number, row in enumerate(rows):
        cell = row.cells.get(role)
        identifier = cell.strip() if isinstance(cell, str) else cell
        known = isinstance(identifier, str | int) and identifier != ""
        groups.setdefault(identifier if known else (number,), []).append(row)
    return groups.values()


class _StudyRows:
    """The rows of one study."""

    def __init__(self, rows: Sequence[Row], collector: Collector) -> None:
        self.rows = rows
        self.collector = collector

    def agreed(self, role: str, *, read: Callable[[Any], Any] = lambda value: value) -> Any:
        """The value that all rows have that have one, or None; two values are an error at the second."""
        first: tuple[Any, str] | None = None
        for row in self.rows:
            cell = row.cells.get(role)
            value = None if _is_missing(cell) else read(cell.strip() if isinstance(cell, str) else cell)
            if value is None:
                continue
            if first is None:
                first = value, row.where
            elif value != first[0]:
                problem = f"{role} {short(value)} of a study that has {short(first[0])} at {first[1]}"
                mend = "give all rows of one id (without ids: of one image) the same, or other ids"
                self.collector.error(row.where, problem, mend)
                break
        return None if first is None else first[0]

    def image_names(self) -> list[str]:
        """Of all views, in the order of the rows, each once."""
        names: dict[str, str] = {}
        for row in self.rows:
            for name in _names(row.cells.get("image")):
                if name in names:
                    problem = f"image {name!r} stands twice in one study, first at {names[name]}"
                    self.collector.warning(row.where, problem, "name it once; it is one view")
                else:
                    names[name] = row.where
        return list(names)

    def report(self, sections: Sequence[str]) -> Any:
        """The report as `Collector.report` takes it."""
        texts = {role.partition(".")[2] or role: self.agreed(role) for role in sections}
        if list(texts) == ["report"]:
            return texts["report"] or ""
        return {section: text for section, text in texts.items() if text is not None}


class _LabelColumn:
    """Reads the labels of one column, by what all of its cells look like.

    Args:
        rows: All rows.
        role: `label`, or `label.ASPECT`.
        collector: Knows what is declared.
    """

    def __init__(self, rows: Sequence[Row], role: str, collector: Collector) -> None:
        self.role = role
        self.aspect = role.partition(".")[2] or role
        self.filled = [(row, cell) for row in rows if not _is_missing(cell := row.cells.get(role))]
        lists = [row for row, cell in self.filled if isinstance(cell, list) or "|" in str(cell)]
        space = collector.declared.label_space
        if space is not None and self.aspect in space:
            self.several = space[self.aspect].multi_label
        else:
            self.several = bool(lists)
            if len(lists) == 1 and len(self.filled) > 1:
                problem = (
                    f"the only label of aspect {self.aspect!r} with several classes makes it multi-label"
                )
                collector.warning(lists[0].where, problem, "declare the aspect, or mend the label")
        matches = [_WHOLE.fullmatch(str(cell).strip()) for _, cell in self.filled]
        self.numbers = {match[1] for match in matches if match} if all(matches) else set()
        self.options: ReaderOptions | None = None

    def observe(self, options: ReaderOptions, collector: Collector) -> None:
        """Takes the labels, which are 1, 0 and -1, for an observation; one warning says how many are -1."""
        self.options = options
        if unsure := [row for row, cell in self.filled if self._class(cell) == "-1"]:
            counted = f"count as {options.uncertain}" if options.uncertain != "class" else "are a class"
            problem = f"{len(unsure)} labels of aspect {self.aspect!r} are -1, uncertain: they {counted}"
            collector.warning(unsure[0].where, problem, "--uncertain says what they are")

    def read(self, cell: Any) -> Any:
        """The label as `Collector.labels` takes it; None if there is none."""
        if self.options is not None:
            return self.options.observation(int(self._class(cell)))
        if self.several and isinstance(cell, str):
            return [self._class(one.strip()) for one in cell.split("|") if one.strip()]
        return [self._class(one) for one in cell] if isinstance(cell, list) else self._class(cell)

    def _class(self, value: Any) -> Any:
        """The class that a value names: of whole numbers, without a fraction."""
        return _without_fraction(value) if self.numbers else value


def _names(cell: Any) -> list[Any]:
    """The image names in a cell."""
    if isinstance(cell, str):
        return [name.strip() for name in re.split(r"[;|]", cell) if name.strip()]
    return list(cell) if isinstance(cell, Iterable) else []


def _without_fraction(value: Any) -> Any:
    """A whole number that may be written as a fraction, as text without; anything else as it is."""
    match = _WHOLE.fullmatch(str(value).strip())
    return value if match is None else match[1]


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip() in _NOTHING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
