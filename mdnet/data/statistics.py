"""What a data set holds, in numbers: what `mdnet data stats` prints, and its hash for provenance.

Words are those of `mdnet.data.text.split_words`, as in training and metrics. A report is one
writer's text over all sections.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from mdnet.data.duplicates import same_images
from mdnet.data.shard_index import file_size
from mdnet.data.study import SPLITS, LabelSpace, Study, StudySet

__all__ = ["data_hash", "statistics"]

_SPLITS = (*SPLITS, "none")


def statistics(
    studies: StudySet, *, hash_images: bool = True, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Numbers of a data set, ready for JSON.

    Studies are counted as listed; those whose images are elsewhere have labels and reports that count
    like any. Of studies with an error only the number, the split and the images are counted.

    Args:
        studies: As read, best with `strict=False`.
        hash_images: Look for images that are the same file, byte for byte.
        progress: Called with the number of studies and images done and the number of all.

    Returns:
        Studies: `studies` (listed), `usable`, `without_images` and `with_errors`, which add up to it,
        `splits` (listed studies a split, `none` for those without), `patients` and
        `patients_in_two_splits`.

        Images: `images` (listed), `images_there`, `views` (`min` and `max` images of a usable study,
        `counts`: number of images -> studies), and `duplicates`: `groups` of images of the same content,
        `images` in them, `groups_in_two_splits`; None unless `hash_images`.

        Labels: `diagnosis`, `labels` (aspect -> class -> studies, and `missing`), `labelled` (aspect ->
        studies with a label, maybe of several classes or of none), `split_labels` and `split_labelled`
        (the same by split).

        Text: `sections` (section -> studies), `reports` (studies with one), `references` (texts),
        `report_words` (of the references, `min`, `p5`, `median`, `mean`, `p95`, `max`), `section_words`
        (section -> the same), `vocabulary` (distinct words), `unknown_share` and `unknown_share_val` (of
        the words of test and of val, those that no training report has; None without both),
        `commonest_report_share` (of the references, those equal to the commonest one) and
        `commonest_report` (its `count`, `words` and `text`; None where no report stands twice).
    """
    listed = len(studies.studies) + len(studies.without_images)
    files = sum(len(study.images) for study in studies.studies)
    total = listed + (files if hash_images else 0)

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, total)

    texts, labels = _Texts(), _Labels(studies.label_space)
    splits, views = Counter[str](), Counter[int]()
    homes: dict[str, set[str | None]] = {}
    for done, study in enumerate(chain(studies.studies, studies.without_images), start=1):
        texts.add(study)
        labels.add(study)
        splits[study.split or "none"] += 1
        if study.images:
            views[len(study.images)] += 1
        if study.patient is not None:
            homes.setdefault(study.patient, set()).add(study.split)
        tell(done)
    splits.update(study.split or "none" for study in studies.left_out)
    duplicates = None
    if hash_images:
        duplicates = _duplicates(studies.studies, lambda done, _: tell(listed + done))
    there = files + sum(len(study.images) for study in studies.left_out)
    return {
        "format": studies.format,
        "studies": listed + len(studies.left_out),
        "usable": len(studies.studies),
        "without_images": len(studies.without_images),
        "with_errors": len(studies.left_out),
        "splits": {name: splits[name] for name in _SPLITS if splits[name]},
        "patients": len(homes),
        "patients_in_two_splits": sum(len(home - {None}) > 1 for home in homes.values()),
        "images": there + studies.missing_images,
        "images_there": there,
        "views": {
            "min": min(views, default=0),
            "max": max(views, default=0),
            "counts": {str(number): views[number] for number in sorted(views)},
        },
        "duplicates": duplicates,
        "diagnosis": studies.label_space.diagnosis,
        **labels.numbers(),
        **texts.numbers(studies.sections),
    }


def data_hash(studies: StudySet) -> str:
    """SHA-256 of the label space, the sections, and every study: id, split, patient, labels, report, files.

    A file counts by its path in the data set (outside of it by its name) and its size in bytes, not by
    its content, so that the hash of a large set costs no more than looking at its folder. The order of
    the studies and the folder's own place do not count.
    """
    head = [studies.label_space.to_dict(), list(studies.sections)]
    digest = hashlib.sha256(json.dumps(head).encode())
    ids = [study.id for study in studies.studies]
    for index in sorted(range(len(ids)), key=ids.__getitem__):
        study = studies.studies[index]
        files = []
        for path in (*study.images, *(study.masks[name] for name in sorted(study.masks))):
            inside = (
                path.relative_to(studies.root).as_posix() if path.is_relative_to(studies.root) else path.name
            )
            files.append([inside, file_size(path)])
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


class _Labels:
    """Counts labels by split, aspect and class."""

    def __init__(self, label_space: LabelSpace) -> None:
        self._aspects = label_space.aspects
        self._studies = Counter[str]()
        self._counts: dict[str, Counter[tuple[str, str | None]]] = {}

    def add(self, study: Study) -> None:
        self._studies[study.split or "none"] += 1
        counts = self._counts.setdefault(study.split or "none", Counter())
        for aspect in self._aspects:
            label = study.labels.get(aspect.name)
            for one in (label,) if label is None or isinstance(label, str) else label:
                counts[aspect.name, one] += 1

    def numbers(self) -> dict[str, Any]:
        everything = sum(self._counts.values(), Counter[tuple[str, str | None]]())
        by_split = {split: self._counts[split] for split in _SPLITS if split in self._counts}
        return {
            "labels": self._named(everything),
            "split_labels": {split: self._named(counts) for split, counts in by_split.items()},
            "labelled": self._labelled(everything, self._studies.total()),
            "split_labelled": {
                split: self._labelled(counts, self._studies[split]) for split, counts in by_split.items()
            },
        }

    def _labelled(self, counts: Counter[tuple[str, str | None]], studies: int) -> dict[str, int]:
        return {aspect.name: studies - counts[aspect.name, None] for aspect in self._aspects}

    def _named(self, counts: Counter[tuple[str, str | None]]) -> dict[str, dict[str, int]]:
        return {
            aspect.name: {one: counts[aspect.name, one] for one in aspect.classes}
            | {"missing": counts[aspect.name, None]}
            for aspect in self._aspects
        }


class _Texts:
    """Counts words and reports."""

    def __init__(self) -> None:
        self._words: dict[str | None, Counter[str]] = {split: Counter() for split in (*SPLITS, None)}
        self._reports = Counter[str]()
        self._lengths: list[int] = []
        self._section_lengths: dict[str, list[int]] = {}
        self._sections = Counter[str]()
        self._with_report = 0

    def add(self, study: Study) -> None:
        from mdnet.data.text import split_words

        self._with_report += bool(study.report)
        self._sections.update(list(study.report))
        for section, written in study.report.items():
            lengths = self._section_lengths.setdefault(section, [])
            lengths.extend(len(split_words(text)) for text in written)
        for text in study.references():
            words = split_words(text)
            self._words[study.split].update(words)
            self._reports[" ".join(words)] += 1
            self._lengths.append(len(words))

    def numbers(self, sections: Sequence[str]) -> dict[str, Any]:
        from mdnet.data.text import join_words

        commonest, count = max(self._reports.items(), key=lambda item: item[1], default=("", 0))
        words = commonest.split(" ")
        references = len(self._lengths)
        return {
            "sections": {name: self._sections[name] for name in sections},
            "reports": self._with_report,
            "references": references,
            "report_words": _spread(self._lengths),
            "section_words": {name: _spread(self._section_lengths.get(name, [])) for name in sections},
            "vocabulary": len(set().union(*self._words.values())),
            "unknown_share": self._unknown_share("test"),
            "unknown_share_val": self._unknown_share("val"),
            "commonest_report_share": round(count / references, 4) if references else 0.0,
            "commonest_report": {"count": count, "words": len(words), "text": join_words(words)}
            if count > 1
            else None,
        }

    def _unknown_share(self, split: str) -> float | None:
        known, found = self._words["train"], self._words[split]
        if not known or not found:
            return None
        return round(sum(count for word, count in found.items() if word not in known) / found.total(), 4)


def _spread(lengths: Sequence[int]) -> dict[str, float]:
    """Least, percentiles, mean and most."""
    if not lengths:
        return dict.fromkeys(("min", "p5", "median", "mean", "p95", "max"), 0)
    low, middle, high = np.percentile(lengths, (5, 50, 95)).round(1).tolist()
    return {
        "min": min(lengths),
        "p5": low,
        "median": middle,
        "mean": round(sum(lengths) / len(lengths), 2),
        "p95": high,
        "max": max(lengths),
    }


def _duplicates(studies: Sequence[Study], progress: Callable[[int, int], None]) -> dict[str, int]:
    groups = same_images((path for study in studies for path in study.images), progress=progress)
    group_of = {path: number for number, group in enumerate(groups) for path in group}
    homes: list[set[str | None]] = [set() for _ in groups]
    if group_of:
        for study in studies:
            for path in study.images:
                if path in group_of:
                    homes[group_of[path]].add(study.split)
    return {
        "groups": len(groups),
        "images": len(group_of),
        "groups_in_two_splits": sum(len(home - {None}) > 1 for home in homes),
    }
