"""What the `mdnet data` commands say in words and tables: faults by kind, and the numbers of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdnet.data.check import count_kinds, kind_of
from mdnet.data.readers.comparison import TOLD_EACH
from mdnet.data.study import Fault

__all__ = ["faults_text", "split_text", "statistics_text"]

_SHOWN_CLASSES = 12  # of an aspect with more, the rarer ones are counted together
_SHOWN_TEXT = 160  # characters


def faults_text(faults: Sequence[Fault], path: Path) -> str:
    """The first faults of every kind, one a line, then how many there are of each kind, and of all."""
    counts = count_kinds(faults)
    listed = Counter((fault.severity, kind_of(fault)) for fault in faults)
    told = Counter[tuple[str, str]]()
    lines = []
    for fault in faults:
        kind = fault.severity, kind_of(fault)
        told[kind] += 1
        if told[kind] <= TOLD_EACH:
            lines.append(str(fault))
            if told[kind] == TOLD_EACH < listed[kind]:
                more = listed[kind] - TOLD_EACH
                lines.append(f"{fault.severity}: ... {more:,} more of this kind; --json lists them all")
    if len(counts) > 1 or counts.total() > TOLD_EACH:
        order = sorted(counts.items(), key=lambda item: (item[0][0], -item[1]))
        rows = [[f"{count:,}", severity, kind] for (severity, kind), count in order]
        lines += ["", *_table(rows, left=(1, 2))]
    errors = sum(count for (severity, _), count in counts.items() if severity == "error")
    return "\n".join([*lines, f"{path}: {errors:,} errors, {counts.total() - errors:,} warnings"])


def statistics_text(record: Mapping[str, Any]) -> str:
    """The numbers of `mdnet.data.statistics.statistics`, for reading."""
    return "\n".join([*_facts(record), "", split_text(record), *_lengths(record), *_words(record)])


def split_text(record: Mapping[str, Any]) -> str:
    """Studies by split, and how many have each class, with their share of those with a label."""
    splits = [name for name in record["splits"] if name in record["split_labels"]]
    rows = [["", *record["splits"], "all"]]
    rows.append(["studies", *(f"{count:,}" for count in record["splits"].values()), f"{record['studies']:,}"])
    lines = list(_table(rows))
    for aspect, everything in record["labels"].items():
        columns = [record["split_labels"][split][aspect] for split in splits] + [everything]
        labelled = [record["split_labelled"][split][aspect] for split in splits] + [
            record["labelled"][aspect]
        ]
        classes = [name for name in everything if name != "missing"]
        shown = classes
        if len(classes) > _SHOWN_CLASSES:
            shown = sorted(classes, key=lambda name: -everything[name])[:_SHOWN_CLASSES]
        mark = " (diagnosis)" if aspect == record["diagnosis"] else ""
        rows = [[f"{aspect}{mark}", *splits, "all"]]
        rows += [
            [f"  {name}", *map(_share, (column[name] for column in columns), labelled)] for name in shown
        ]
        if len(classes) > len(shown):
            rows.append([f"  {len(classes) - len(shown)} rarer classes: --json"])
        if everything["missing"]:
            rows.append(["  no label", *(f"{column['missing']:,}" for column in columns)])
        lines += ["", *_table(rows)]
    return "\n".join(lines)


def _facts(record: Mapping[str, Any]) -> Iterator[str]:
    parts = [f"{record['studies']:,} listed", f"{record['usable']:,} usable"]
    for key, words in (("without_images", "without images"), ("with_errors", "with errors")):
        if record[key]:
            parts.append(f"{record[key]:,} {words}")
    views = (f"{count:,} studies with {number}" for number, count in record["views"]["counts"].items())
    missing = record["images"] - record["images_there"]
    patients = f"{record['patients']:,}, {record['patients_in_two_splits']:,} in two splits"
    facts = {
        "format": record["format"],
        "studies": ", ".join(parts),
        "images": f"{record['images']:,} listed" + (f", {missing:,} of them missing" if missing else ""),
        "images a study": ", ".join(views) or "none",
        "patients": patients if record["patients"] else "none named",
    }
    if (same := record["duplicates"]) is not None:
        found = f"{same['images']:,} images in {same['groups']:,} groups of the same content"
        found += f", {same['groups_in_two_splits']:,} of them in two splits"
        facts["duplicates"] = found if same["groups"] else "none"
    yield from (f"{name:<16}{value}" for name, value in facts.items())


def _lengths(record: Mapping[str, Any]) -> Iterator[str]:
    if not record["references"]:
        yield from ("", "no reports")
        return
    names = ("min", "p5", "median", "p95", "max")
    rows = [["words", "studies", "least", "5%", "median", "95%", "most"]]
    sections = record["section_words"]
    if len(sections) > 1:
        sections = sections | {"whole report": record["report_words"]}
    for section, lengths in sections.items():
        studies = record["sections"].get(section, record["reports"])
        rows.append([section, f"{studies:,}", *(f"{lengths[name]:g}" for name in names)])
    yield from ("", *_table(rows))


def _words(record: Mapping[str, Any]) -> Iterator[str]:
    if not record["references"]:
        return
    yield f"\nreports         {record['reports']:,} studies with one, {record['references']:,} texts"
    unknown = [
        f"{100 * record[key]:.2f}% of the words of {split}"
        for split, key in (("val", "unknown_share_val"), ("test", "unknown_share"))
        if record[key] is not None
    ]
    known = f"; not in train: {', '.join(unknown)}" if unknown else ""
    yield f"vocabulary      {record['vocabulary']:,} words{known}"
    if (commonest := record["commonest_report"]) is None:
        yield "commonest       no report stands twice"
        return
    share = 100 * record["commonest_report_share"]
    text = commonest["text"]
    text = text if len(text) <= _SHOWN_TEXT else f"{text[: _SHOWN_TEXT - 3]}..."
    same = f"{commonest['count']:,} texts ({share:.1f}%) are the same, of {commonest['words']} words"
    yield f"commonest       {same}:"
    yield f"                {text}"


def _share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f}%)" if total else "0"


def _table(rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> Iterator[str]:
    """Lines of aligned columns, numbers to the right but for the columns `left`; a row may be short."""
    whole = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[column]) for row in whole) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        yield "   ".join(cells).rstrip()
