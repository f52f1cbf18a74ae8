"""Files inside tar shards, found by name: how everything that opens an image opens a member of a shard.

A shard is an uncompressed tar as the webdataset library writes and reads it: the files of one study stand
together, and share their name up to its first dot. The member `000017.0.png` of `train-000003.tar` goes by
the path `train-000003.tar/000017.0.png`.

`shards.npy` lists the members: the hash of the path, where the content stands, and its digest. It is
mapped, not read, so a million members take no memory; and a member is looked at only where its digest is
right, so a damaged shard gives an error, never another picture.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mdnet.errors import DataError, ImageError
from mdnet.files import write_bytes

__all__ = [
    "INDEX_FILE", "RECORDS_FILE", "Member", "digest", "file_size", "find_member", "members_of", "read_file",
    "read_member", "shard_of", "write_index",
]  # fmt: skip

INDEX_FILE = "shards.npy"
RECORDS_FILE = "shards.jsonl"
_BEGIN = 10  # bytes of a .npy file (version 1.0), the last two of which say how long the rest of its head is
_COLUMNS = {"name": "<u8", "offset": "<u8", "size": "<u8", "digest": "V16"}
_MADE_ANEW = f"delete {INDEX_FILE} and {RECORDS_FILE} there: they are made anew from the shards"
_COPY_AGAIN = "copy the shard again from its source"


class Member(NamedTuple):
    """Where a member's content stands in its shard, in bytes, and its digest."""

    shard: Path
    path: Path
    offset: int
    size: int
    digest: bytes


def find_member(path: Path) -> Member | None:
    """The member of that path, if the index has it; `DataError` where the index is damaged."""
    shard = shard_of(path)
    if shard is None or (index := _load_index(shard.parent)) is None:
        return None
    names, offsets, sizes, digests = index
    name = np.uint64(_hash(path, shard))
    place = int(names.searchsorted(name))
    if place == len(names) or names[place] != name:
        return None
    return Member(shard, path, int(offsets[place]), int(sizes[place]), digests[place].tobytes())


def read_member(path: Path) -> bytes:
    """The content of a member, by the path of its shard and its name.

    Raises:
        ImageError: There is no such member, or its content is not what was put there.
    """
    member = find_member(path)
    if member is None:
        raise ImageError(path, "no such file, or no such member of a shard", _MADE_ANEW)
    try:
        with member.shard.open("rb", buffering=0) as shard:
            content = b""
            if member.offset + member.size <= os.fstat(shard.fileno()).st_size:  # else the index is damaged
                shard.seek(member.offset)
                content = shard.read(member.size) or b""
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})", "check path and permissions") from error
    if digest(path.name, content) != member.digest:
        raise ImageError(path, "the content is not what was put into the shard", _COPY_AGAIN)
    return content


def read_file(path: Path) -> bytes:
    """The content of a file, or of a member of a shard."""
    try:
        return path.read_bytes()
    except NotADirectoryError:
        return read_member(path)


def file_size(path: Path) -> int:
    """The bytes of a file, or of a member of a shard."""
    try:
        return path.stat().st_size
    except NotADirectoryError:
        if (member := find_member(path)) is None:
            raise
        return member.size


def members_of(shard: Path) -> Iterator[tuple[Member, bytes]]:
    """The files in a shard, in their order, with their content.

    Raises:
        DataError: It is no whole, uncompressed tar.
    """
    size = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as archive:
            end = 0
            for entry in archive:
                end = entry.offset_data + entry.size
                if entry.isfile() and (file := archive.extractfile(entry)) is not None:
                    content = file.read()
                    path = shard / entry.name.lstrip("/")
                    found = digest(path.name, content)
                    yield Member(shard, path, entry.offset_data, entry.size, found), content
                archive.members.clear()  # type: ignore[attr-defined]  # or it remembers all of them
            if end + 2 * tarfile.BLOCKSIZE > size:
                raise tarfile.ReadError("unexpected end of data")
    except tarfile.TarError as error:
        raise DataError(shard, f"no whole tar ({error})", _COPY_AGAIN) from error


def write_index(folder: Path, members: Iterable[Member]) -> None:
    """Writes `shards.npy`, sorted by the hash of the path; `DataError` where a path stands twice."""
    found = ((_hash(each.path, each.shard), each.offset, each.size, each.digest) for each in members)
    rows = np.fromiter(found, _layout(1))
    order = np.argsort(rows["name"][:, 0])
    if (np.diff(rows["name"][order, 0]) == 0).any():  # which of the two a study means, nobody can say
        raise DataError(folder, "two files in a shard have one name", "write that shard again")
    index = np.zeros(1, _layout(len(rows)))
    for name in _COLUMNS:
        index[name][0] = rows[name][order, 0]
    file = io.BytesIO()
    np.save(file, index)
    write_bytes(folder / INDEX_FILE, file.getvalue())


def digest(name: str, content: bytes | memoryview) -> bytes:
    """16 bytes of a member's name and content."""
    return hashlib.blake2b(content, digest_size=16, key=name.encode()[:64]).digest()


def _layout(members: int) -> np.dtype[np.void]:
    """One record of whole columns: a search for a name reads only the pages that it looks at."""
    return np.dtype([(name, kind, (members,)) for name, kind in _COLUMNS.items()])


def shard_of(path: Path) -> Path | None:
    """The tar in the middle of a path, if there is one."""
    return next((parent for parent in path.parents if parent.suffix == ".tar"), None)


def _hash(path: Path, shard: Path) -> int:
    """Of the path from the shard's name on, so that the folder may be moved."""
    name = os.fsencode(str(path)[len(str(shard)) - len(shard.name) :])
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _load_index(folder: Path) -> tuple[npt.NDArray[Any], ...] | None:
    file = folder / INDEX_FILE
    try:
        found = file.stat()
    except OSError:
        return None
    return _mapped(file, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def _mapped(file: Path, changed: int, size: int) -> tuple[npt.NDArray[Any], ...]:
    """The index's columns, mapped; `changed` and `size` tell it from one that stood there before."""
    # Not by np.load: of a damaged head it makes any of many exceptions, or only a warning.
    try:
        with file.open("rb") as opened:
            begin = opened.read(_BEGIN)
            head = begin + opened.read(int.from_bytes(begin[-2:], "little"))
        members = (size - len(head)) // _layout(1).itemsize
        if members < 1 or head != _head(members) or size != len(head) + _layout(members).itemsize:
            raise DataError(file, "damaged, or no index of members of shards", _MADE_ANEW)
        index = np.memmap(file, _layout(members), "r", len(head), (1,))
    except OSError as error:
        raise DataError(file, f"cannot be read ({error.strerror})", _MADE_ANEW) from error
    return tuple(np.asarray(index[name])[0] for name in _COLUMNS)


def _head(members: int) -> bytes:
    """The first bytes of an index, as `np.save` writes them."""
    record = {
        "descr": np.lib.format.dtype_to_descr(_layout(members)),
        "fortran_order": False,
        "shape": (1,),
    }
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, record)
    return file.getvalue()
