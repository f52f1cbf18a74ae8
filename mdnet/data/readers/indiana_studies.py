"""What the layouts of the Indiana University chest X-rays share: names, labels, sections.

Demner-Fushman et al., "Preparing a collection of radiology examinations for distribution and
retrieval", JAMIA 2016, doi 10.1093/jamia/ocv080: 3,955 reports and 7,470 images, published by Open-i
(`openi`), copied to Kaggle without the reports that have no image (`indiana`), and in part used by R2Gen
(`r2gen`, 2,955 studies). So that a study is the same in all three:

- Its id is R2Gen's, which is made of the first image's name (`CXR7_IM-2263-1001` gives `CXR7_IM-2263`);
  `CXR7` where there is no image.
- An image is looked for by any of its names: Open-i's `CXR7_IM-2263-1001.png`, Kaggle's
  `7_IM-2263-1001.dcm.png`, in the folders that people unpack it to.
- The aspect `label` is the diagnosis, as others derive it: `normal` where the indexers found nothing,
  else `abnormal`. A report that was not indexed has no label.
- The aspect `problems` is multi-label: what the indexers named (the heads of the MeSH terms). A problem
  that is named in fewer than one report in 200, or in one only, is no class: nothing could be learnt of
  it. A normal report has none.
- Sections are findings and impression; indication and comparison say what no image shows, so they are
  read only where `dataset.json` lists them under `sections`.

No patient is known, and no split is published; see `mdnet.data.readers.validation`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mdnet.data.readers.collector import Collector
from mdnet.data.readers.validation import settle_splits
from mdnet.data.study import Aspect, LabelSpace, Study, StudySet

__all__ = [
    "LABEL",
    "PROBLEMS",
    "SECTIONS",
    "Examination",
    "ImageFinder",
    "image_key",
    "read_examinations",
    "study_id",
]

SECTIONS = ("findings", "impression")
LABEL, PROBLEMS = "label", "problems"
NORMAL, ABNORMAL, NOT_INDEXED = "normal", "abnormal", "no indexing"
_FOLDERS = (
    "images", "images/images_normalized", "images_normalized", "NLMCXR_png", "png", "sample_images", "",
)  # fmt: skip
_ENDINGS = re.compile(r"(?:\.(?:dcm|png|jpg|jpeg))+$", re.IGNORECASE)
_PUBLISHED_ID = {"CXR1_IM-0001": "CXR1_1_IM-0001"}  # R2Gen's one exception: Open-i names its images so
_COMMON = 200  # a class is named in one report of so many, or more


@dataclass(frozen=True)
class Examination:
    """One report with the names of its images.

    Attributes:
        number: The collection's, `7` of `CXR7`.
        images: Names, in the order of the views: frontal first, lateral last.
        sections: Every section of the report, name to text; empty texts too.
        problems: As the indexers named them; `normal` where they found nothing.
        source: File, and line where there is one.
    """

    number: str
    images: tuple[str, ...]
    sections: Mapping[str, str]
    problems: tuple[str, ...]
    source: str


def image_key(name: str) -> str:
    """What all names of one image have in common: `7_IM-2263-1001`."""
    return re.sub(r"^(\d+)_\1_", r"\1_", _ENDINGS.sub("", name).removeprefix("CXR"))


def study_id(number: str, images: Iterable[str]) -> str:
    """R2Gen's name of a study; `CXR` and the number without images."""
    first = min(map(image_key, images), default="")
    series = first.rpartition("-")[0] if first.startswith(f"{number}_") else ""
    name = f"CXR{series or number}"
    return _PUBLISHED_ID.get(name, name)


class ImageFinder:
    """Looks for images by any of their names, in the folders that people unpack them to.

    The folders are listed once, since a file system answers one list faster than thousands of questions.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, Path] = {}
        for folder in (root / name for name in _FOLDERS):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if _ENDINGS.search(path.name) and path.is_file():
                    self._files.setdefault(image_key(path.name), path)

    def find(self, name: str) -> Path | None:
        """The file, or None."""
        return self._files.get(image_key(name))

    def expected(self, name: str) -> Path:
        """Where the file should be."""
        return self.root / _FOLDERS[0] / name


def read_examinations(examinations: Sequence[Examination], collector: Collector, where: Path) -> StudySet:
    """The studies of the examinations.

    Args:
        examinations: In the order of the files.
        collector: Knows what `dataset.json` declares, and takes studies and faults.
        where: The file or folder that a fault of them all is told at.
    """
    finder = ImageFinder(collector.root)
    wanted = collector.declared.sections or SECTIONS
    known = {name for each in examinations for name in each.sections}
    for name in collector.declared.sections or ():
        if name not in known:
            mend = f"the sections there are: {', '.join(sorted(known)) or 'none'}"
            collector.error(collector.root, f"no report has a section {name!r}", mend)
    space = collector.declared.label_space or _label_space(examinations, collector, where)
    collector.declared = replace(collector.declared, label_space=space, sections=wanted)
    unread: Counter[str] = Counter()
    for each in examinations:
        if not each.images:
            collector.warning(
                each.source, "no image is listed", "nothing can be learnt of it: it is left out"
            )
        errors = collector.error_count
        images = []
        for name in each.images:
            if not image_key(name).startswith(f"{each.number}_"):
                problem = f"image {name!r} is of another report than {each.number!r}, by its name"
                collector.warning(each.source, problem, "correct the number or the name; it is not used")
                continue
            path = finder.find(name)
            collector.note_image(path, finder.expected(name), each.source)
            if path is not None:
                images.append(path)
        unread.update(name for name, text in each.sections.items() if name not in wanted and text.strip())
        report = collector.report({name: each.sections.get(name, "") for name in wanted}, each.source)
        study = Study(
            study_id(each.number, each.images),
            tuple(images),
            None,
            None,
            _labels(each.problems, space),
            report,
            source=each.source,
        )
        collector.add(study, usable=collector.error_count == errors and bool(each.images))
    collector.tell_unread_sections(unread, where)
    settle_splits(collector, where)
    return collector.finish()


def _label_space(examinations: Sequence[Examination], collector: Collector, where: Path) -> LabelSpace:
    """`label`, and `problems` with those that are common enough; the others are told."""
    counts = Counter(
        problem for each in examinations for problem in set(each.problems) if not _is_mark(problem)
    )
    least = max(2, -(-len(examinations) // _COMMON))
    common = sorted(problem for problem, count in counts.items() if count >= least)
    rare = sorted(set(counts) - set(common))
    if rare:
        shown = ", ".join(rare[:5]) + (", ..." if len(rare) > 5 else "")
        problem = f"{len(rare)} problems are named in fewer than {least} reports: {shown}"
        collector.warning(where, problem, "they are no classes; declare them in dataset.json to keep them")
    unindexed = sum(not _indexed(each.problems) for each in examinations)
    if unindexed:
        problem = f"{unindexed} reports were not indexed"
        collector.warning(where, problem, "they have no label; those of others are used")
    aspects = [Aspect(LABEL, (NORMAL, ABNORMAL), NORMAL)]
    if common:
        aspects.append(Aspect(PROBLEMS, tuple(common), multi_label=True))
    return LabelSpace(tuple(aspects), LABEL)


def _labels(problems: Sequence[str], space: LabelSpace) -> dict[str, str | tuple[str, ...]]:
    if not _indexed(problems):
        return {}
    normal = all(_is_mark(problem) for problem in problems)
    labels: dict[str, str | tuple[str, ...]] = {LABEL: NORMAL if normal else ABNORMAL}
    if PROBLEMS in space:
        classes = space[PROBLEMS].classes
        labels[PROBLEMS] = tuple(problem for problem in dict.fromkeys(problems) if problem in classes)
    return {name: label for name, label in labels.items() if name in space}


def _indexed(problems: Sequence[str]) -> bool:
    return bool(problems) and NOT_INDEXED not in map(str.lower, problems)


def _is_mark(problem: str) -> bool:
    """Whether it says that there is no problem, or that nobody looked."""
    return problem.lower() in (NORMAL, NOT_INDEXED)
