"""A data set in another layout: our own, R2Gen's, or tar shards, with its images.

Images are copied as they are, so a file keeps its depth and its compression; but a DICOM or NIfTI file,
which may name a patient in its header, and any file of a kind that only mdnet reads, becomes a PNG of what
mdnet shows of it. What the new layout cannot hold is logged, a line each.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mdnet.data.copying import as_png, copied_suffix, head_of
from mdnet.data.images import load_image, load_mask
from mdnet.data.readers.collector import DATASET_FILE
from mdnet.data.readers.r2gen import ANNOTATION_FILE, ASPECT
from mdnet.data.readers.studies import dataset_to_dict, write_studies
from mdnet.data.shard_index import read_file, shard_of
from mdnet.data.study import SPLITS, LabelSpace, Study, StudySet
from mdnet.data.study_list import StudyList
from mdnet.errors import ConfigurationError, DataError
from mdnet.files import file_name, write_text, writing_folder

__all__ = ["LAYOUTS", "convert", "losses"]

LAYOUTS = ("studies", "r2gen", "shards")
"""What a data set can be converted to, by the names of their readers."""

_AHEAD = 256  # studies whose files are brought at once
_LONGEST_NAME = 100  # bytes of a study's id that its files are named by
_COPIED = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jp2")

_log = logging.getLogger(__name__)


def convert(
    studies: StudySet,
    folder: str | PathLike[str],
    *,
    to: str,
    link: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a data set in another layout, and logs what that layout cannot hold.

    Args:
        studies: What to write: those that can be used, with their labels, reports, masks and splits.
        folder: One that is empty or does not exist. It has its name only when it is whole.
        to: One of `LAYOUTS`.
        link: Make symbolic links to images and masks instead of copies.
        progress: Called with the number of studies done and the number of all.

    Returns:
        `folder`.

    Raises:
        ConfigurationError: The folder holds something, the layout is unknown, or shards were to link.
        DataError: R2Gen's layout, and a study has no split.
        ImageError: An image or mask cannot be read.
        OSError: The disk is full; nothing is left of the folder.
    """
    if to not in LAYOUTS:
        raise ConfigurationError(f"no layout {to!r} to convert to; there are {', '.join(LAYOUTS)}")
    if to == "r2gen":
        _require_splits(studies)
    for loss in losses(studies, to):
        _log.warning("%s: %s", to, loss)
    folder = Path(folder)
    if to == "shards":
        if link:
            raise ConfigurationError("shards hold their images: leave --link out, or convert to studies")
        from mdnet.data.shards import write_shards

        return write_shards(studies, folder, progress=progress)
    with writing_folder(folder) as partial:
        files = _Files(partial, link=link)
        brought = files.bring(studies, masks=to == "studies", progress=progress)
        if to == "studies":
            write_studies(replace(studies, studies=brought), partial)
        else:
            _write_r2gen(replace(studies, studies=brought), partial)
    if files.decoded:
        what = "written as PNG, 8 bits, as mdnet shows them; nothing of a header is copied"
        _log.warning("%s: %d images or masks are %s", to, files.decoded, what)
    return folder


def losses(studies: StudySet, to: str) -> list[str]:
    """What the layout `to` cannot hold of these studies, a sentence each."""
    if to == "shards":
        from mdnet.data.shards import COPIED

        images = (image for study in studies.studies for image in study.images)
        others = sum(copied_suffix(image, head_of(image), COPIED) is None for image in images)
        problem = f"{others} images are written as PNG, 8 bits: shards hold PNG, JPEG and WebP"
        return [problem] if others else []
    if to != "r2gen":
        return []
    found = []
    writers = max((len(texts) for study in studies.studies for texts in study.report.values()), default=0)
    if writers > 1:
        found.append(f"up to {writers} writers a report: the first one is kept")
    if len(studies.sections) > 1:
        found.append(f"sections {', '.join(studies.sections)}: their texts become one, in this order")
    space = studies.label_space
    if left_out := [name for name in space.names if name != space.diagnosis]:
        found.append(
            f"labels of {', '.join(left_out)} are left out: there is room for one label, the diagnosis"
        )
    if space.diagnosis not in (None, ASPECT):
        found.append(f"the aspect {space.diagnosis!r} is called {ASPECT!r}")
    if masks := sum(len(study.masks) for study in studies.studies):
        found.append(f"{masks} masks are left out")
    if not any(study.split == "val" for study in studies.studies):
        found.append("no study is of val: who reads it takes a tenth of train")
    return found


@dataclass(frozen=True)
class _Job:
    """A file to bring: where from, where to, and how it is decoded unless it is brought as it is."""

    source: Path
    target: Path
    decode: Callable[[Path], npt.NDArray[Any]] | None


class _Files:
    """Images and masks on their way into a folder; a file that several studies share is brought once.

    Attributes:
        decoded: How many were not copied as they are.
    """

    def __init__(self, folder: Path, *, link: bool) -> None:
        self.decoded = 0
        self._folder = folder
        self._link = link
        self._targets: dict[Path, Path] = {}  # by source
        self._taken: set[str] = set()

    def bring(
        self, studies: StudySet, *, masks: bool, progress: Callable[[int, int], None] | None
    ) -> StudyList:
        """Writes the files; the studies, naming them where they are now."""
        (self._folder / "images").mkdir()
        brought = StudyList()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for start in range(0, len(studies.studies), _AHEAD):
                jobs: list[_Job] = []
                for study in studies.studies[start : start + _AHEAD]:
                    brought.append(self._named(study, jobs, masks=masks))
                for _ in pool.map(self._write, jobs):
                    pass  # what a thread raised is raised here
                self.decoded += sum(job.decode is not None for job in jobs)
                if progress is not None:
                    progress(len(brought), len(studies.studies))
        return brought

    def _named(self, study: Study, jobs: list[_Job], *, masks: bool) -> Study:
        """The study with its files under their new names; adds to `jobs` those that are not there yet."""
        name = file_name(study.id).encode()[:_LONGEST_NAME].decode(errors="ignore")
        several = len(study.images) > 1
        images = tuple(
            self._target(image, f"images/{name}-{view}" if several else f"images/{name}", load_image, jobs)
            for view, image in enumerate(study.images)
        )
        moved = {
            structure: self._target(mask, f"masks/{file_name(structure)}/{name}", load_mask, jobs)
            for structure, mask in study.masks.items()
            if masks
        }
        return replace(study, images=images, masks=moved)

    def _target(
        self, source: Path, name: str, load: Callable[[Path], npt.NDArray[Any]], jobs: list[_Job]
    ) -> Path:
        if source not in self._targets:
            suffix = copied_suffix(source, head_of(source), _COPIED)
            decode = None if suffix else load
            target = self._folder / self._free(name, suffix or ".png")
            self._targets[source] = target
            jobs.append(_Job(source, target, decode))
        return self._targets[source]

    def _free(self, name: str, suffix: str) -> str:
        """A name that no file has, on a disk that does not tell capitals from small letters either."""
        candidates = (
            f"{name}{f'~{number}' if number else ''}{suffix}" for number in range(len(self._taken) + 1)
        )
        free = next(each for each in candidates if each.casefold() not in self._taken)
        self._taken.add(free.casefold())
        return free

    def _write(self, job: _Job) -> None:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        if job.decode is not None:
            job.target.write_bytes(as_png(job.decode(job.source)))
        elif shard_of(job.source) is not None:
            job.target.write_bytes(read_file(job.source))
        elif self._link:
            job.target.symlink_to(job.source.resolve())
        else:
            shutil.copyfile(job.source, job.target)


def _require_splits(studies: StudySet) -> None:
    if without := sum(study.split is None for study in studies.studies):
        problem = (
            f"{without} of {len(studies.studies)} studies have no split, and R2Gen's layout asks for one"
        )
        raise DataError(studies.root, problem, "give them one first: mdnet data split")


def _write_r2gen(studies: StudySet, folder: Path) -> None:
    """`annotation.json`, and a `dataset.json` that declares the classes and names the section."""
    space = studies.label_space
    aspects = () if space.diagnosis is None else (replace(space[space.diagnosis], name=ASPECT),)
    section = studies.sections[0] if len(studies.sections) == 1 else "report"
    record = replace(
        studies, label_space=LabelSpace(aspects, ASPECT if aspects else None), sections=(section,)
    )
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for study in studies.studies:
        assert study.split is not None
        texts = (study.report[name][0] for name in studies.sections if name in study.report)
        label = study.labels.get(space.diagnosis or "")
        entry = {
            "id": study.id,
            "report": " ".join(texts),
            "image_path": [image.relative_to(folder / "images").as_posix() for image in study.images],
            "split": study.split,
            "label": list(label) if isinstance(label, tuple) else label,
            "patient": study.patient,
        }
        entries[study.split].append({key: value for key, value in entry.items() if value is not None})
    write_text(folder / DATASET_FILE, _json(dataset_to_dict(record)))
    write_text(folder / ANNOTATION_FILE, _json(entries))


def _json(record: Any) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"
