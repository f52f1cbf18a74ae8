"""Everything that is wrong with a data set, found in one pass: what `mdnet data check` lists.

The reader's faults (layout, labels, leaks between splits), then what only decoding shows: images and
masks that cannot be read, masks of another size than their image, the same image in two splits
under two names; and, beside a model, where the label spaces differ.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from os import PathLike
from pathlib import Path

from mdnet.data.images import load_image, load_mask
from mdnet.data.readers import ReaderOptions, read_studies
from mdnet.data.readers.comparison import sort_faults
from mdnet.data.shard_index import read_file
from mdnet.data.study import Fault, LabelSpace, Study, StudySet
from mdnet.errors import ImageError

__all__ = ["check", "check_images", "count_kinds", "kind_of", "label_space_difference"]

_AHEAD = 256  # studies that are decoded ahead
_SEVERAL = re.compile(r" \(([0-9]+) times: .*\)$")  # as `fold_warnings` puts it
_PARTICULARS = re.compile(
    r"""(?<!\w)'[^']*' | (?<!\w)"[^"]*"      # what a message quotes
    | \S*[/\\]\S*(?<![:;,)])              # paths
    | \b\d+(?:[.,]\d+)*\b""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Seen:
    """One file, decoded.

    Attributes:
        size: (rows, columns).
        digest: Of the file's bytes.
        fault: Why it could not be decoded, if so.
    """

    size: tuple[int, int] | None = None
    digest: bytes = b""
    fault: ImageError | None = None


def check(
    path: str | PathLike[str],
    *,
    format: str | None = None,
    options: ReaderOptions | None = None,
    decode: bool = True,
    label_space: LabelSpace | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fault]:
    """All faults of the data set at `path`, by file and line.

    Args:
        path: As `read_studies` takes it.
        format: Name of the reader, if the layout could be several.
        options: What the reader is told.
        decode: Decode every image and mask.
        label_space: A model's, which the data set's must equal.
        workers: Threads that decode; one a CPU unless named.
        progress: Called with the number of studies done and the number of all.

    Raises:
        ConfigurationError, DataError: There is no data set at `path`, or none of a known layout.
    """
    studies = read_studies(path, format=format, strict=False, options=options)
    faults = list(studies.faults)
    if label_space is not None:
        difference = label_space_difference(studies.label_space, label_space)
        if difference:
            mend = "train a model on these labels, or bring them to the model's"
            faults.append(
                Fault(
                    str(studies.root), f"label space differs from the model's: {'; '.join(difference)}", mend
                )
            )
    if decode:
        faults += check_images(studies, workers=workers, progress=progress)
    return sort_faults(faults)


def check_images(
    studies: StudySet,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fault]:
    """Decodes every image and mask, those of studies left out too; the faults of these files.

    Args:
        studies: As read.
        workers: Threads; one a CPU unless named. Pillow decodes without holding the interpreter's lock.
        progress: Called with the number of studies done and the number of all.
    """
    faults: list[Fault] = []
    first_with: dict[bytes, tuple[str, str]] = {}  # digest to a study's id and split
    usable = len(studies.studies)
    total = usable + len(studies.left_out)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        results = _in_order(pool, chain(studies.studies, studies.left_out))
        for done, (study, (images, masks)) in enumerate(results, start=1):
            for path, image in zip(study.images, images, strict=True):
                if image.fault is not None:
                    faults.append(_told_of(study, image.fault))
                    continue
                if done > usable or study.split is None:
                    continue  # a study that is left out, or in no split, leaks nothing
                first, split = first_with.setdefault(image.digest, (study.id, study.split))
                if split != study.split:
                    other = f"one of study {first!r} ({split})"
                    problem = f"image {path} ({study.split}) is the same as {other}"
                    faults.append(Fault(study.source, problem, "keep both in one split", "warning"))
            faults += _mask_faults(study, images, masks)
            if progress is not None:
                progress(done, total)
    return faults


def count_kinds(faults: Iterable[Fault]) -> Counter[tuple[str, str]]:
    """How often there are faults of each severity and kind; one that stands for several counts as these."""
    counts = Counter[tuple[str, str]]()
    for fault in faults:
        several = _SEVERAL.search(fault.problem)
        counts[fault.severity, kind_of(fault)] += int(several[1]) if several else 1
    return counts


def kind_of(fault: Fault) -> str:
    """What a fault has in common with others: its problem without names, paths and numbers."""
    general = _PARTICULARS.sub("…", _SEVERAL.sub("", fault.problem))
    return re.sub(r"…(?:[\s,;]+…)+", "…", general)


def label_space_difference(data: LabelSpace, model: LabelSpace) -> list[str]:
    """How the label space of a data set differs from a model's, a phrase a difference; empty if it does not.

    The order of the classes, the reference and whether they are grades belong to the model and may
    differ, since labels are names; the sets of aspects and classes, and whether an aspect is
    multi-label, may not. A data set without an aspect of the model only lacks these labels.
    """
    differences = []
    for aspect in data.aspects:
        if aspect.name not in model:
            differences.append(f"the model has no aspect {aspect.name!r}")
            continue
        other = model[aspect.name]
        if aspect.multi_label != other.multi_label:
            kinds = {True: "several classes", False: "one class"}
            differences.append(
                f"aspect {aspect.name!r} takes {kinds[aspect.multi_label]} a study, "
                f"in the model {kinds[other.multi_label]}"
            )
        unknown = [name for name in aspect.classes if name not in other.classes]
        if unknown:
            differences.append(
                f"aspect {aspect.name!r} has {', '.join(map(repr, unknown))}, "
                f"the model knows {', '.join(map(repr, other.classes))}"
            )
    if data.diagnosis is not None and model.diagnosis is not None and data.diagnosis != model.diagnosis:
        differences.append(f"the diagnosis is {data.diagnosis!r}, in the model {model.diagnosis!r}")
    return differences


def _in_order(
    pool: ThreadPoolExecutor, studies: Iterable[Study]
) -> Iterator[tuple[Study, tuple[list[_Seen], list[_Seen]]]]:
    """Studies with their files decoded, a bounded number ahead, so that memory is too."""
    remaining = iter(studies)
    while part := list(islice(remaining, _AHEAD)):
        yield from zip(part, pool.map(_decode, part), strict=True)


def _decode(study: Study) -> tuple[list[_Seen], list[_Seen]]:
    return [_seen(path) for path in study.images], [_seen_mask(path) for path in study.masks.values()]


def _seen(path: Path) -> _Seen:
    try:
        rows, columns = load_image(path).shape[:2]
        return _Seen((rows, columns), hashlib.sha256(read_file(path)).digest())
    except ImageError as error:
        return _Seen(fault=error)


def _seen_mask(path: Path) -> _Seen:
    try:
        rows, columns = load_mask(path).shape
        return _Seen((rows, columns))
    except ImageError as error:
        return _Seen(fault=error)


def _mask_faults(study: Study, images: list[_Seen], masks: list[_Seen]) -> Iterator[Fault]:
    sizes = [image.size for image in images if image.size is not None]
    for path, mask in zip(study.masks.values(), masks, strict=True):
        if mask.fault is not None:
            yield _told_of(study, mask.fault)
        elif sizes and mask.size is not None and mask.size not in sizes:
            problem = (
                f"mask {path} is {mask.size[0]} x {mask.size[1]}, its image {sizes[0][0]} x {sizes[0][1]}"
            )
            yield Fault(study.source, problem, "draw the mask on the image's own pixels")


def _told_of(study: Study, error: ImageError) -> Fault:
    """The image's error at the line that names the image."""
    return Fault(study.source, f"{error.where}: {error.problem}", error.mend)
