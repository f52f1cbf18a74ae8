"""A data set as tar shards: for sets that outgrow a disk of small files, and for the webdataset library.

A shard set is a folder of tars (`train-000000.tar`, ...) beside `dataset.json`. Of study number 17 a
shard holds, one after the other, `00000017.json` (its record, as in `studies.jsonl`, images and masks by
the names of their members), `00000017.0.png`, `00000017.1.jpg` (its views) and `00000017.mask0.png`. Every
shard is a random sample of its split, so an order that is local to shards is a shuffle too.

`shards.jsonl` repeats the records for a reader that would else have to walk through all shards, a study a
line; its last line says of which shards, and has a digest of what stands above it. It and `shards.npy`
(`mdnet.data.shard_index`) are made anew from the shards where both are missing, so shards that webdataset
or a script wrote can be read too: of a study without a record, `txt` is the report and `cls` the label.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, groupby
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mdnet.data.copying import as_png, copied_suffix
from mdnet.data.images import SUFFIXES, load_image, load_mask
from mdnet.data.readers.collector import DATASET_FILE
from mdnet.data.readers.studies import dataset_to_dict, study_to_dict
from mdnet.data.readers.validation import split_named
from mdnet.data.shard_index import RECORDS_FILE, Member, digest, members_of, read_file, write_index
from mdnet.data.study import Study, StudySet
from mdnet.errors import DataError
from mdnet.files import write_text, writing_folder

__all__ = ["COPIED", "index_shards", "records_fault", "shard_numbers", "write_shards"]

COPIED = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of files that are in a shard as they are; of others the pixels are, without a header."""

_TOLD = ("id", "split", "patient", "labels", "report")  # by a record; the rest is in the names of members
_LAST_LINE = 4096  # bytes in which it has room
_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")  # of a member, as webdataset takes its name apart

_logger = logging.getLogger(__name__)


def write_shards(
    studies: StudySet,
    folder: str | PathLike[str],
    *,
    shard_size: int = 256 << 20,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a data set as shards.

    PNG, JPEG and WebP files are copied; of all others the decoded pixels are written as PNG, so that
    nothing of a DICOM header is in a shard.

    Args:
        studies: What to write.
        folder: One that is empty or does not exist.
        shard_size: Bytes after which the next shard is begun.
        seed: Of the order in which a split's studies are dealt to its shards.
        progress: Called with the number of studies done and the number of all.

    Returns:
        `folder`.

    Raises:
        ConfigurationError: The folder holds something.
        ImageError: An image or mask cannot be read.
        OSError: The disk is full; nothing is left of the folder.
    """
    folder = Path(folder)
    with writing_folder(folder) as partial:
        record = json.dumps(dataset_to_dict(studies), indent=1, ensure_ascii=False)
        write_text(partial / DATASET_FILE, f"{record}\n")
        with _Records(partial) as records:
            write_index(partial, _write_all(studies.studies, partial, records, shard_size, seed, progress))
    return folder


def index_shards(folder: Path) -> None:
    """Makes `shards.jsonl` and `shards.npy` of the shards in a folder, reading all of them once.

    Raises:
        DataError: A shard is damaged, a record is no JSON object, or the folder cannot be written.
    """
    _logger.info("%s: reading all shards once, to index them", folder)
    try:
        with _Records(folder) as records:
            write_index(folder, _index_all(folder, records))
    except OSError as error:
        problem = f"the shards cannot be indexed ({error.strerror}: {error.filename})"
        raise DataError(folder, problem, "read them once where you may write and there is room") from error


def records_fault(folder: Path) -> str | None:
    """What is wrong with `shards.jsonl`, or with the shards that it tells of; None if nothing."""
    file = folder / RECORDS_FILE
    end = file.stat().st_size
    with file.open("rb") as records:
        records.seek(max(0, end - _LAST_LINE))
        last = records.read().splitlines(keepends=True)[-1:]
        try:
            told = json.loads(last[0])
            shards, size, expected = told["shards"], told["bytes"], told["digest"]
        except (ValueError, LookupError, TypeError):
            return "the last line is not that of an index: the file is not whole"
        records.seek(0)
        if _digest_of(records, end - len(last[0])) != expected:
            return "the content is not what was written: the file is damaged"
    sizes = [shard.stat().st_size for shard in _shards(folder)]
    if (len(sizes), sum(sizes)) != (shards, size):
        return f"there are {len(sizes)} shards of {sum(sizes)} bytes, indexed were {shards} of {size}"
    return None


def shard_numbers(studies: Sequence[Study]) -> npt.NDArray[np.int64]:
    """Of every study, the number of the shard that its first image lies in, as `draw_epoch` takes it."""
    numbers: dict[Path, int] = {}
    places = (numbers.setdefault(study.images[0].parent, len(numbers)) for study in studies)
    return np.fromiter(places, np.int64, len(studies))


class _Records:
    """`shards.jsonl` while it is written; the file appears when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder / f".{RECORDS_FILE}.{os.getpid()}.partial"

    def __enter__(self) -> _Records:
        self._file = self._partial.open("w+b")
        return self

    def add(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._file:
                if kind is None:
                    end = self._file.tell()
                    self._file.seek(0)
                    sizes = [shard.stat().st_size for shard in _shards(self._folder)]
                    told = {"shards": len(sizes), "bytes": sum(sizes), "digest": _digest_of(self._file, end)}
                    self._file.write(json.dumps(told).encode() + b"\n")
            if kind is None:
                self._partial.replace(self._folder / RECORDS_FILE)
        finally:
            self._partial.unlink(missing_ok=True)


def _write_all(
    studies: Sequence[Study],
    folder: Path,
    records: _Records,
    shard_size: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Member]:
    """Writes all shards and records, and tells of every member."""
    places: dict[str, list[int]] = {}
    for index, study in enumerate(studies):
        places.setdefault(study.split or "none", []).append(index)
    done = 0
    for split, indices in sorted(places.items()):  # as the names of the shards will be sorted
        order = np.random.default_rng(seed).permutation(indices).tolist()
        for number in count():
            if not order:
                break
            with tarfile.open(folder / f"{split}-{number:06d}.tar", "x:", format=tarfile.GNU_FORMAT) as shard:
                while order and shard.offset < shard_size:
                    yield from _write_study(studies[order.pop()], shard, f"{done:08d}", records)
                    done += 1
                    if progress is not None:
                        progress(done, len(studies))


def _write_study(study: Study, shard: tarfile.TarFile, key: str, records: _Records) -> Iterator[Member]:
    path = Path(str(shard.name))
    images = [_content(image, load_image) for image in study.images]
    masks = [_content(mask, load_mask) for mask in study.masks.values()]
    named = replace(
        study,
        images=tuple(path / f"{key}.{view}{suffix}" for view, (suffix, _) in enumerate(images)),
        masks={name: path / f"{key}.mask{i}{masks[i][0]}" for i, name in enumerate(study.masks)},
    )
    record = json.dumps(study_to_dict(named, path), ensure_ascii=False).encode()
    members = (path / f"{key}.json", *named.images, *named.masks.values())
    contents = (record, *(content for _, content in (*images, *masks)))
    for member, content in zip(members, contents, strict=True):
        offset = _put(shard, member.name, content)
        yield Member(path, member, offset, len(content), digest(member.name, content))
    records.add(study_to_dict(named, path.parent))


def _put(shard: tarfile.TarFile, name: str, content: bytes) -> int:
    """Adds a member; where its content begins."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    begin = shard.offset
    shard.addfile(entry, io.BytesIO(content))
    return begin + tarfile.BLOCKSIZE


def _content(path: Path, decode: Callable[[Path], npt.NDArray[Any]]) -> tuple[str, bytes]:
    """The ending and the content that a file has in a shard."""
    content = read_file(path)
    suffix = copied_suffix(path, content, COPIED)
    return (".png", as_png(decode(path))) if suffix is None else (suffix, content)


def _index_all(folder: Path, records: _Records) -> Iterator[Member]:
    for shard in _shards(folder):
        named = (split_named(part) for part in re.split(r"[-_.]", shard.stem))
        split = next((part for part in named if part is not None), None)
        for key, group in groupby(members_of(shard), key=lambda found: _key(found[0], shard)):
            members = list(group)
            yield from (member for member, _ in members)
            if key is not None:
                records.add(_record_of(members, key, split, shard))


def _key(member: Member, shard: Path) -> str | None:
    match = _KEY.fullmatch(member.path.relative_to(shard).as_posix())
    return match[1] if match else None


def _record_of(
    members: Iterable[tuple[Member, bytes]], key: str, split: str | None, shard: Path
) -> dict[str, Any]:
    """The record of one study, its files by their path in the folder."""
    files = {member.path.relative_to(shard).as_posix(): content for member, content in members}
    parts = {name.removeprefix(f"{key}."): content for name, content in files.items()}
    paths = {name: f"{shard.name}/{name}" for name in files}
    record: dict[str, Any] = {"id": key, "split": split}
    images = None
    if "json" in parts:
        try:
            told = json.loads(parts["json"])
        except (ValueError, RecursionError) as error:
            file = shard / f"{key}.json"
            raise DataError(file, f"broken JSON ({error})", "write the shard again") from None
        if isinstance(told, dict):
            record |= {name: told[name] for name in _TOLD if name in told}
            masks = told.get("masks")
            if isinstance(masks, dict):
                record["masks"] = {name: paths.pop(path) for name, path in masks.items() if path in [*paths]}
            images = told.get("images")
    if not isinstance(images, list) or not all(name in [*paths] for name in images):
        images = sorted(name for name in paths if name.lower().endswith(SUFFIXES))
    record["images"] = [paths[name] for name in images]
    if "txt" in parts and "report" not in record:
        record["report"] = parts["txt"].decode("utf-8", "replace")
    if "cls" in parts and "labels" not in record:
        record["labels"] = {"label": parts["cls"].decode("utf-8", "replace").strip()}
    return record


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def _digest_of(file: BinaryIO, size: int) -> str:
    """Of the next `size` bytes."""
    found = hashlib.blake2b(digest_size=16)
    while size > 0 and (chunk := file.read(min(size, 1 << 20))):
        found.update(chunk)
        size -= len(chunk)
    return found.hexdigest()
