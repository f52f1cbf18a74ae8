"""The bladder data sets of the MDNet authors, in both layouts that they published.

BCIDR (Zhang et al., "MDNet", CVPR 2017, arXiv 1707.02485):

    Img/<name>.png
    {train,test}_labels.json: {<name>: {"caption": [5 texts of 5 sentences], "label": 0..3}}

The later bladder reports (Zhang et al., Nature Machine Intelligence 2019):

    Images/<name>.png
    {train,test}_annotation.json: {<name>: {"caption": [5 texts of 6 sentences], "label": 0..3}}

A text's sentences, parted by ". ", are its sections in a fixed order; the sixth is the conclusion.
The label is the class of the aspect `conclusion`, which is the diagnosis. A text of another number
of sentences is left out with a warning, since it cannot be told which sentence is missing; writers
are the same in every section, so what is left keeps its order. There is no val split: a tenth of
train is taken, by patient (see `carve_validation`). A name such as `1_00143_sub0_021` holds slide,
sub-image and tile; the slide stands for the patient.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdnet.data.readers.collector import Collector, DatasetRecord, short
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.validation import carve_validation
from mdnet.data.study import SPLITS, Aspect, LabelSpace, Study, StudySet

__all__ = ["BCIDR", "BLADDER", "LABEL_SPACE", "SECTIONS", "BladderLayout"]

SECTIONS = ("pleomorphism", "crowding", "polarity", "mitosis", "nucleoli", "conclusion")
CLASSES = ("normal", "low grade", "high grade", "insufficient information")  # labels 0 to 3
LABEL_SPACE = LabelSpace((Aspect("conclusion", CLASSES, "normal"),), "conclusion")
_SLIDE = re.compile(r"(?P<slide>\d+(?:_\d+)?)(?:_sub\d+)?_\d{3}")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif")


@dataclass(frozen=True)
class BladderLayout:
    """One of the two layouts; its methods are a reader's.

    Attributes:
        name: The format's.
        folder: Of the images.
        ending: Of the annotation files' names, behind the split.
        sections: Of a text, one a sentence.
    """

    name: str
    folder: str
    ending: str
    sections: tuple[str, ...]

    def files(self, root: Path) -> dict[str, Path]:
        """The annotation files there are, by split."""
        files = {split: root / f"{split}{self.ending}" for split in SPLITS}
        return {split: file for split, file in files.items() if file.is_file()}

    def matches(self, root: Path) -> bool:
        """Whether the folder holds the images' folder and an annotation file."""
        return (root / self.folder).is_dir() and bool(self.files(root))

    def read(self, root: Path, options: ReaderOptions) -> StudySet:
        """The studies of `root`; each entry that cannot be used is a fault."""
        collector = Collector(root, self.name)
        collector.declared = DatasetRecord(LABEL_SPACE, sections=self.sections)
        for split, file in self.files(root).items():
            content = collector.load_json(file)
            if content is not None and not isinstance(content, dict):
                collector.error(file, "not an object", 'write {"name": {"caption": [...], "label": 0}, ...}')
                continue
            for name, entry in (content or {}).items():
                self._add(name, entry, split, f"{file} {name!r}", collector)
        collector.studies = carve_validation(collector.studies)
        return collector.finish(patients_are_guessed=True)

    def _add(self, name: str, entry: Any, split: str, where: str, collector: Collector) -> None:
        if not isinstance(entry, dict):
            collector.error(where, "not an object", 'write {"caption": [...], "label": 0}')
            return
        errors = collector.error_count
        images = self._images(name, where, collector)
        labels = self._labels(entry.get("label"), where, collector)
        report = self._report(entry.get("caption"), where, collector)
        slide = _SLIDE.fullmatch(Path(name).stem)
        patient = slide["slide"] if slide else None
        study = Study(Path(name).stem, images, split, patient, labels, report, source=where)
        collector.add(study, usable=collector.error_count == errors)

    def _images(self, name: str, where: str, collector: Collector) -> tuple[Path, ...]:
        folder = collector.root / self.folder
        if Path(name).suffix.lower() in _SUFFIXES:
            return collector.images([name], where, (folder,))
        return collector.images([f"{name}.png"], where, (folder,))

    def _labels(self, value: Any, where: str, collector: Collector) -> dict[str, str | tuple[str, ...]]:
        if value is None:
            return {}
        if isinstance(value, int) and not isinstance(value, bool) and value in range(len(CLASSES)):
            return {"conclusion": CLASSES[value]}
        meaning = ", ".join(f"{number} {label}" for number, label in enumerate(CLASSES))
        collector.error(where, f"unknown class {short(value)} of aspect 'conclusion'", f"use {meaning}")
        return {}

    def _report(self, value: Any, where: str, collector: Collector) -> dict[str, tuple[str, ...]]:
        captions = [value] if isinstance(value, str) else value
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            collector.error(where, f"caption is {short(value)}", "list the reference texts")
            return {}
        if not any(caption.strip() for caption in captions):
            collector.warning(where, "empty report", "write it, or leave it: the study trains without")
            return {}
        writers = []
        for number, caption in enumerate(captions):
            sentences = split_sentences(caption)
            if len(sentences) == len(self.sections):
                writers.append(sentences)
            else:
                problem = f"caption {number} has {len(sentences)} sentences, not {len(self.sections)}"
                collector.warning(where, problem, "write one a section, parted by '. '; it is left out")
        columns = zip(*writers, strict=True)
        return dict(zip(self.sections, columns, strict=True)) if writers else {}


def split_sentences(caption: str) -> list[str]:
    """Sentences parted by ". ", each ending in a full stop."""
    parts = (part.strip().rstrip(".").rstrip() for part in caption.strip().split(". "))
    return [f"{part}." for part in parts if part]


BCIDR = BladderLayout("bcidr", "Img", "_labels.json", SECTIONS[:5])
BLADDER = BladderLayout("bladder", "Images", "_annotation.json", SECTIONS)
