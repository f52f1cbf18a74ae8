"""Our own layout: `studies.jsonl`, a study a line, beside `dataset.json` (docs/data.md).

`dataset.json` may be absent: the label space is then that of the training studies, and the sections
are those of the reports, in the order of their first appearance. Paths are relative to the folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import DATASET_FILE, Collector
from mdnet.data.study import Study, StudySet

__all__ = ["STUDIES_FILE", "matches", "read", "study_to_dict", "write_studies"]

STUDIES_FILE = "studies.jsonl"
_KEYS = ("id", "images", "split", "patient", "labels", "report", "masks")


def matches(root: Path) -> bool:
    """Whether the folder holds `studies.jsonl`."""
    return (root / STUDIES_FILE).is_file()


def read(root: Path) -> StudySet:
    """The studies of `root`; each line that cannot be used is a fault."""
    collector = Collector(root, "studies")
    collector.load_dataset_file()
    file = root / STUDIES_FILE
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}:{number}"
            entry = _entry(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, where, collector)
            if entry is not None:
                _add(entry, where, collector)
    return collector.finish()


def _entry(line: bytes, where: str, collector: Collector) -> dict[str, Any] | None:
    """The object on one line; None for a blank line, and after noting an error."""
    if not line.strip():
        return None
    try:
        entry = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        collector.error(where, f"byte {error.start} of the line is not UTF-8", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        collector.error(where, f"broken JSON ({error.msg})", f"mend column {error.colno} of this line")
    except RecursionError:
        collector.error(where, "JSON nested too deeply", "write the study as docs/data.md says")
    else:
        if isinstance(entry, dict):
            return entry
        collector.error(where, "not an object", 'write {"id": ..., "images": [...]}')
    return None


def _add(entry: dict[str, Any], where: str, collector: Collector) -> None:
    """Checks every field, so that all faults of a line are told at once; then takes the study in."""
    errors = collector.error_count
    collector.note_unknown_keys(entry, where, _KEYS)
    identifier = collector.identifier(entry.get("id"), where)
    images = collector.images(entry.get("images"), where, (collector.root,))
    split = collector.split(entry.get("split"), where)
    labels = collector.labels(entry.get("labels"), where)
    report = collector.report(entry.get("report"), where)
    masks = collector.masks(entry.get("masks"), where)
    patient = collector.patient(entry.get("patient"))
    study = Study(identifier, images, split, patient, labels, report, masks, where)
    collector.add(study, usable=collector.error_count == errors)


def study_to_dict(study: Study, root: Path) -> dict[str, Any]:
    """The study as its line of `studies.jsonl` says it, paths relative to `root`."""

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path, root)).as_posix()

    entry = {
        "id": study.id,
        "images": [relative(path) for path in study.images],
        "split": study.split,
        "patient": study.patient,
        "labels": {
            name: label if isinstance(label, str) else list(label) for name, label in study.labels.items()
        },
        "report": {section: list(texts) for section, texts in study.report.items()},
        "masks": {name: relative(path) for name, path in study.masks.items()},
    }
    return {key: value for key, value in entry.items() if value not in (None, {})}


def write_studies(studies: StudySet, folder: Path) -> None:
    """Writes `studies.jsonl` and `dataset.json` into `folder`; images and masks stay where they are."""
    record = studies.label_space.to_dict() | {
        "sections": list(studies.sections),
        "provenance": studies.provenance,
    }
    (folder / DATASET_FILE).write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    lines = [json.dumps(study_to_dict(study, folder), ensure_ascii=False) for study in studies.studies]
    (folder / STUDIES_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
