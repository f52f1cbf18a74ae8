"""Indiana University chest X-rays as the pair of CSV files that Kaggle has.

    indiana_reports.csv      uid, MeSH, Problems, image, indication, comparison, findings, impression
    indiana_projections.csv  uid, filename, projection (Frontal or Lateral)
    images/ or images/images_normalized/  7_IM-2263-1001.dcm.png

A uid is one study, its frontal images come first. What becomes of names, labels and sections stands in
`mdnet.data.readers.indiana_studies`.
"""

from __future__ import annotations

from pathlib import Path

from mdnet.data.readers.collector import Collector
from mdnet.data.readers.csv_rows import read_rows
from mdnet.data.readers.indiana_studies import Examination, read_examinations
from mdnet.data.readers.labels import did_you_mean
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.study import StudySet

__all__ = ["PROJECTIONS_FILE", "REPORTS_FILE", "matches", "read"]

REPORTS_FILE = "indiana_reports.csv"
PROJECTIONS_FILE = "indiana_projections.csv"
_TEXTS = ("indication", "comparison", "findings", "impression")
_VIEWS = {"Frontal": 0, "Lateral": 2}
_UNKNOWN_VIEW = 1


def matches(root: Path) -> bool:
    """Whether the folder holds both files."""
    return (root / REPORTS_FILE).is_file() and (root / PROJECTIONS_FILE).is_file()


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`; each row that cannot be used is a fault."""
    collector = Collector(root, "indiana", partial=True)
    collector.load_dataset_file()
    projections = _projections(collector)
    examinations: dict[str, Examination] = {}
    for where, row in read_rows(root / REPORTS_FILE, ("uid", "Problems", *_TEXTS), collector):
        number = collector.identifier(row["uid"].strip(), where)
        if not number:
            continue
        if number in examinations:
            problem = f"uid {number!r} stands twice, first at {examinations[number].source}"
            collector.error(where, problem, "keep one report a uid")
            continue
        views = sorted(projections.pop(number, {}).values())
        examinations[number] = Examination(
            number,
            tuple(name for _, _, name in views),
            {name: row[name] for name in _TEXTS},
            tuple(filter(None, map(str.strip, row["Problems"].split(";")))),
            where,
        )
    for number, images in projections.items():
        for where in images:
            problem = f"uid {number!r} is not in {REPORTS_FILE}"
            collector.warning(where, problem, "add its report; until then its images are left out")
    return read_examinations(list(examinations.values()), collector, root / REPORTS_FILE)


def _projections(collector: Collector) -> dict[str, dict[str, tuple[int, int, str]]]:
    """By uid, then by place: (rank of the view, number in the file, name of the image)."""
    file = collector.root / PROJECTIONS_FILE
    found: dict[str, dict[str, tuple[int, int, str]]] = {}
    first: dict[str, str] = {}
    for where, row in read_rows(file, ("uid", "filename", "projection"), collector):
        name, view = row["filename"].strip(), row["projection"].strip()
        if not name:
            collector.error(where, "no filename", "name the image, or take the row out")
        elif name in first:
            problem = f"image {name!r} stands twice, first at {first[name]}"
            collector.error(where, problem, "name each image once")
        else:
            first[name] = where
            if view not in _VIEWS:
                hint = did_you_mean(view, _VIEWS)
                collector.warning(where, f"unknown projection {view!r}{hint}", f"use {' or '.join(_VIEWS)}")
            rank = _VIEWS.get(view, _UNKNOWN_VIEW)
            found.setdefault(row["uid"].strip(), {})[where] = (rank, len(first), name)
    return found
