"""A folder of images sorted into a folder a class, as torchvision's `ImageFolder` takes it; no reports.

    <class>/<name>.png, or {train,val,test}/<class>/<name>.png

The class is the aspect `label`, which is the diagnosis; images may lie deeper in their class's folder.
A study is one image, and its id the image's path. No patient is known. A folder whose name says what
kind of file it holds (`images`, `masks`, ...) is no class, and what lies over images (`masks` in a
class's folder) is no image.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mdnet.data.images import SUFFIXES
from mdnet.data.readers.collector import Collector
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.validation import settle_splits, split_named
from mdnet.data.study import Study, StudySet

__all__ = ["matches", "read"]

ASPECT = "label"
_OVERLAYS = frozenset(
    {"annotation", "annotations", "ground_truth", "groundtruth", "label", "labels", "mask", "masks",
     "segmentation", "segmentations"}
)  # fmt: skip
_NO_CLASS = _OVERLAYS | {"image", "images", "img", "imgs"}
_MANY, _FEW = 5, 5  # classes, and images of each, that look as if the folders were patients


def matches(root: Path) -> bool:
    """Whether the folder, or those of splits in it, hold folders of at least two classes with images.

    A folder of such folders is a folder of data sets.
    """
    folders = [folder for _, split in _splits(root) for folder in _folders(split) if _is_class(folder)]
    if any(split_named(inside.name) for folder in folders for inside in _folders(folder)):
        return False
    return len({folder.name for folder in folders if any(_images(folder))}) > 1


def read(root: Path, options: ReaderOptions) -> StudySet:
    """The studies of `root`, in the order of their paths."""
    collector = Collector(root, "image_folder")
    collector.load_dataset_file()
    splits = _splits(root)
    counts = Counter[str]()
    for split, folder in splits:
        _warn_of_others(folder, collector)
        for class_folder in filter(_is_class, _folders(folder)):
            for path in _images(class_folder):
                counts[class_folder.name] += 1
                where = str(path)
                errors = collector.error_count
                labels = collector.labels({ASPECT: class_folder.name}, where)
                identifier = path.relative_to(root).as_posix()
                study = Study(identifier, (path,), split, labels=labels, source=where)
                collector.add(study, usable=collector.error_count == errors)
    if splits != [(None, root)]:
        for folder in _folders(root):
            if split_named(folder.name) is None:
                collector.warning(
                    folder, "no split by that name", "it is not read; call it train, val or test"
                )
    if len(counts) > _MANY and counts.total() < _FEW * len(counts):
        problem = f"{counts.total()} images in {len(counts)} folders, each taken for a class"
        collector.warning(root, problem, "if they are patients or studies, list the images in a table")
    settle_splits(collector, root)
    return collector.finish()


def _splits(root: Path) -> list[tuple[str | None, Path]]:
    """The splits with their folders; the folder itself where none of those in it is a split."""
    found = [(split_named(folder.name), folder) for folder in _folders(root)]
    return [(split, folder) for split, folder in found if split is not None] or [(None, root)]


def _folders(folder: Path) -> list[Path]:
    """What is in it and is a folder, but for hidden ones and those that macOS packs beside."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        inside = sorted(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in inside if not name.startswith((".", "__MACOSX"))]


def _is_class(folder: Path) -> bool:
    return folder.name.casefold() not in _NO_CLASS


def _images(folder: Path) -> Iterator[Path]:
    """Images to the bottom of a folder, in order, but for what lies over others."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name.casefold() not in _OVERLAYS)
        yield from (Path(place, name) for name in sorted(files) if _is_image(name))


def _warn_of_others(folder: Path, collector: Collector) -> None:
    """Says which folders are no class, and how many images lie in no class's folder."""
    for inside in _folders(folder):
        overlays = [each for each in _folders(inside) if each.name.casefold() in _OVERLAYS]
        for each in overlays if _is_class(inside) else [inside]:
            collector.warning(each, f"{each.name!r} is no class, and no image of one", "it is not read")
    if loose := [path for path in sorted(folder.iterdir()) if path.is_file() and _is_image(path.name)]:
        problem = f"{len(loose)} images are in no class's folder"
        collector.warning(folder, problem, "they are not read; put them into a folder named by their class")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
