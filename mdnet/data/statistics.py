"""What a data set holds, in numbers: what `mdnet data stats` prints, and its hash for provenance.

Words are those of `mdnet.data.text.split_words`, as in training and metrics. A report is one
writer's text over all sections.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from statistics import mean, median
from typing import Any

from mdnet.data.study import SPLITS, LabelSpace, Study, StudySet

__all__ = ["data_hash", "statistics"]


def statistics(studies: StudySet) -> dict[str, Any]:
    """Numbers of a data set, ready for JSON.

    Returns:
        `studies`, `images`, `views` (least and most images a study), `splits` (studies a split,
        `none` for those without), `patients`, `patients_in_two_splits`, `labels` (aspect -> class ->
        studies, and `missing`), `sections` (section -> studies), `reports` (studies with one),
        `references` (texts), `report_words` (`min`, `median`, `mean`, `max` over references),
        `vocabulary` (distinct words), `unknown_share` (of the test words, those that no training
        report has; None without both) and `commonest_report_share` (of the references, those equal
        to the commonest one).
    """
    from mdnet.data.text import split_words

    texts = {split: _references(studies.studies, split) for split in (*SPLITS, None)}
    words = {split: [split_words(text) for text in these] for split, these in texts.items()}
    lengths = [len(report) for reports in words.values() for report in reports]
    commonest = Counter(" ".join(report) for reports in words.values() for report in reports).most_common(1)
    views = [len(study.images) for study in studies.studies]
    splits = Counter(study.split or "none" for study in studies.studies)
    homes: dict[str, set[str | None]] = {}
    for study in studies.studies:
        if study.patient is not None:
            homes.setdefault(study.patient, set()).add(study.split)
    return {
        "format": studies.format,
        "studies": len(studies.studies),
        "images": sum(views),
        "views": {"min": min(views, default=0), "max": max(views, default=0)},
        "splits": {name: splits[name] for name in (*SPLITS, "none") if splits[name]},
        "patients": len(homes),
        "patients_in_two_splits": sum(len(home - {None}) > 1 for home in homes.values()),
        "diagnosis": studies.label_space.diagnosis,
        "labels": _label_counts(studies.studies, studies.label_space),
        "sections": {
            name: sum(name in study.report for study in studies.studies) for name in studies.sections
        },
        "reports": sum(bool(study.report) for study in studies.studies),
        "references": len(lengths),
        "report_words": {
            "min": min(lengths, default=0),
            "median": median(lengths) if lengths else 0,
            "mean": round(mean(lengths), 2) if lengths else 0,
            "max": max(lengths, default=0),
        },
        "vocabulary": len({word for reports in words.values() for report in reports for word in report}),
        "unknown_share": _unknown_share(words["train"], words["test"]),
        "commonest_report_share": round(commonest[0][1] / len(lengths), 4) if commonest else 0.0,
    }


def data_hash(studies: StudySet) -> str:
    """SHA-256 of the label space, the sections, and every study: id, split, patient, labels, report, files.

    A file counts by its path in the data set and its size in bytes, not by its content, so that the
    hash of a large set costs no more than looking at its folder. The order of the studies and the
    folder's own place do not count.
    """
    head = [studies.label_space.to_dict(), list(studies.sections)]
    digest = hashlib.sha256(json.dumps(head).encode())
    for study in sorted(studies.studies, key=lambda study: study.id):
        files = []
        for path in (*study.images, *(study.masks[name] for name in sorted(study.masks))):
            inside = path.relative_to(studies.root) if path.is_relative_to(studies.root) else path
            files.append([inside.as_posix(), path.stat().st_size])
        entry = [
            study.id,
            study.split,
            study.patient,
            sorted((name, label) for name, label in study.labels.items()),
            [(section, list(texts)) for section, texts in study.report.items()],
            files,
        ]
        digest.update(json.dumps(entry).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _references(studies: Iterable[Study], split: str | None) -> list[str]:
    return [text for study in studies if study.split == split for text in study.references()]


def _label_counts(studies: Iterable[Study], label_space: LabelSpace) -> dict[str, dict[str, int]]:
    studies = list(studies)
    counts: dict[str, dict[str, int]] = {}
    for aspect in label_space.aspects:
        count = dict.fromkeys(aspect.classes, 0) | {"missing": 0}
        for study in studies:
            label = study.labels.get(aspect.name)
            if label is None:
                count["missing"] += 1
            else:
                for one in (label,) if isinstance(label, str) else label:
                    count[one] += 1
        counts[aspect.name] = count
    return counts


def _unknown_share(train: list[list[str]], test: list[list[str]]) -> float | None:
    known = {word for report in train for word in report}
    tested = [word for report in test for word in report]
    if not known or not tested:
        return None
    return round(sum(word not in known for word in tested) / len(tested), 4)
