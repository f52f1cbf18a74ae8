"""Images decoded and brought to the model's size, kept on disk for the next epoch and the next run.

A set of the cache belongs to a data folder and to what `Preprocessing` does before it normalises. It is two
files that are only ever appended to, each entry in one write, so that any number of processes fill and read
them at once without a lock:

- `images`: arrays, one after the other, mapped into memory by those who read;
- `index`: 32 bytes an entry: key, offset in `images`, and CRC-32 of key and array.

A key is the digest of a file's content, or of its path, size, inode and times, which saves reading a file
that stands where it stood. Names and headers of files are not in the cache. An entry that is not as it was
written is passed over, and the image decoded anew. What the disk or the limit has no room for is decoded
every time; sets that were not used for longest make room for a new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import mmap
import os
import re
import shutil
import struct
import time
import weakref
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mdnet.data.images import load_image
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.shard_index import read_file, shard_of

__all__ = ["ImageCache", "cache_folder", "load_array"]

LIMIT = 20 << 30  # bytes of all sets together
RESERVE = 2 << 30  # bytes of the disk that are left to others
_IMAGES, _INDEX = "images", "index"
_KEY = struct.Struct("<QQ")
_KEY_BYTES = _KEY.size
_ENTRIES = np.dtype([("key", "<u8"), ("rest", "<u8"), ("offset", "<u8"), ("crc", "<u4"), ("unused", "<u4")])
_SET = re.compile("[0-9a-f]{16}-[0-9a-f]{8}")  # the name of a set's folder
_PATIENCE = 5.0  # seconds between looks at what other processes have added
_SETTLED = 2_000_000_000  # ns: a file changed later may change again without another time (git calls it racy)
_DECODERS = ("pillow", "pydicom", "nibabel")  # packages by whose version pixels may change
_NORMALISATION = ("mean", "std", "intensity")  # fields of `Preprocessing` that come after the cache

_logger = logging.getLogger(__name__)

ImageArray = npt.NDArray[np.uint8]


class _Place(NamedTuple):
    offset: int
    crc: int


def cache_folder() -> Path:
    """`images` in `$MDNET_CACHE`, else in `mdnet` in the user's cache folder (XDG base directories)."""
    if named := os.environ.get("MDNET_CACHE"):
        return Path(named) / "images"
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mdnet" / "images"


def load_array(path: Path, preprocessing: Preprocessing) -> ImageArray:
    """The image in a file as the model takes it, (channels, rows, columns) uint8."""
    return preprocessing.to_array(load_image(path))


class ImageCache:
    """The arrays of one data folder.

    Args:
        data: The data folder.
        preprocessing: What is done with an image.
        images: How many there will be: older sets are removed until there is room for them.
    """

    def __init__(self, data: Path, preprocessing: Preprocessing, *, images: int) -> None:
        self.preprocessing = preprocessing
        self._shape = (preprocessing.channels, preprocessing.rows, preprocessing.columns)
        self._size = math.prod(self._shape)
        self.folder = cache_folder() / _set_name(data, preprocessing)
        self._most = _make_room(self.folder, needed=images * self._size)
        self._process = -1  # that the files are open in

    def load(self, path: Path) -> ImageArray:
        """The image in a file, (channels, rows, columns) uint8, from the cache where it is there.

        Raises:
            ImageError: As `mdnet.data.images.load_image`.
        """
        if self._process != os.getpid():  # also in a process that was forked from this one
            self._open()
        file = _identity(path)
        if file is not None and (place := self._find(file)) is not None:
            return self._array(place)
        try:
            content = _content(path)
        except OSError:
            return load_array(path, self.preprocessing)  # which says what is wrong with the file
        keys = [key for key in (content, file) if key is not None]
        if (place := self._find(content)) is not None:
            array = self._array(place)
            self._note(keys[1:], array, place.offset)
        else:
            array = load_array(path, self.preprocessing)
            if _unchanged(path, file, content):  # else the array may be of what the file held later
                self._add(keys, array)
        return array

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to one process, as for a worker that is not forked."""
        kept = ("preprocessing", "folder", "_shape", "_size", "_most")
        return {name: getattr(self, name) for name in kept} | {"_process": -1}

    def _open(self) -> None:
        """Opens the set in this process, a new one where there is none."""
        self._process = os.getpid()
        self._files: tuple[int, int] | None = None
        self._map: mmap.mmap | None = None
        self._new: dict[bytes, _Place] = {}
        self._keys, self._order = np.empty(0, np.uint64), np.empty(0, np.uint32)
        self._entries = np.empty(0, _ENTRIES)
        self._looked = -np.inf
        self._writes = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            images = os.open(self.folder / _IMAGES, flags, 0o600)
            weakref.finalize(self, os.close, images)
            index = os.open(self.folder / _INDEX, flags, 0o600)
            weakref.finalize(self, os.close, index)
            size = os.fstat(index).st_size
            if broken := size % _ENTRIES.itemsize:  # what is left of an entry that a full disk broke off
                os.ftruncate(index, size - broken)
            os.utime(self.folder)  # used now
        except OSError as error:
            self._stop(f"cannot be written ({error.strerror})")
        else:
            self._files = images, index

    def _stop(self, problem: str) -> None:
        """Nothing more is added by this process."""
        self._writes = False
        _logger.warning(
            "%s: %s; images that are not in it are decoded every time; free some space, or name another "
            "folder by MDNET_CACHE",
            self.folder,
            problem,
        )

    def _find(self, key: bytes) -> _Place | None:
        """Where the array of a key stands, if it stands there as it was written."""
        for look in (False, True):
            if look and not self._look():
                return None
            place = self._new.get(key) or self._listed(key)
            if place is not None and self._check(key, self._array(place)) == place.crc:
                return place
        return None

    def _listed(self, key: bytes) -> _Place | None:
        """The latest entry of a key in the index as far as it was looked at."""
        if self._files is None or os.fstat(self._files[1]).st_size < self._entries.nbytes:
            return None  # as in `_array`
        head, rest = _KEY.unpack(key)
        end = int(self._keys.searchsorted(np.uint64(head), side="right"))
        if end == 0 or self._keys[end - 1] != head:
            return None
        entry = self._entries[self._order[end - 1]]
        return _Place(int(entry["offset"]), int(entry["crc"])) if entry["rest"] == rest else None

    def _look(self) -> bool:
        """Whether other processes have added entries, which are then known; asked every few seconds."""
        now = time.monotonic()
        if self._files is None or now - self._looked < _PATIENCE:
            return False
        self._looked = now
        number = os.fstat(self._files[1]).st_size // _ENTRIES.itemsize
        if number <= len(self._entries):
            return False
        index = mmap.mmap(self._files[1], number * _ENTRIES.itemsize, access=mmap.ACCESS_READ)
        self._entries = np.frombuffer(index, _ENTRIES)
        keys = np.array(self._entries["key"])
        self._order = keys.argsort(kind="stable").astype(np.uint32)
        self._keys = keys[self._order]
        self._new.clear()
        return True

    def _array(self, place: _Place) -> ImageArray:
        """What stands at a place, as an array; zeros where the file does not reach so far."""
        assert self._files is not None
        end = place.offset + self._size
        size = os.fstat(self._files[0]).st_size
        if end > size:  # a map of what is no longer there must not be touched
            return np.zeros(self._shape, np.uint8)
        if self._map is None or end > len(self._map):
            self._map = mmap.mmap(self._files[0], size, access=mmap.ACCESS_READ)
        return np.frombuffer(self._map, np.uint8, self._size, place.offset).reshape(self._shape)

    def _check(self, key: bytes, array: ImageArray) -> int:
        return zlib.crc32(array.data, zlib.crc32(key))

    def _add(self, keys: list[bytes], array: ImageArray) -> None:
        """Appends an array and an entry for each of its keys."""
        if self._files is None or not self._writes:
            return
        images = self._files[0]
        disk = os.statvfs(self.folder)
        if os.fstat(images).st_size + self._size > self._most:
            self._stop(f"has its share of the {LIMIT >> 30} GiB of the cache")
        elif disk.f_bavail * disk.f_frsize < RESERVE + self._size:
            self._stop(f"less than {RESERVE >> 30} GiB of the disk are free")
        elif self._append(images, array.data):
            # After a write that appends, the position is that of its end, whoever else has appended.
            self._note(keys, array, os.lseek(images, 0, os.SEEK_CUR) - self._size)

    def _note(self, keys: list[bytes], array: ImageArray, offset: int) -> None:
        """Appends entries for an array that stands at `offset`."""
        if self._files is None or not self._writes:
            return
        places = {key: _Place(offset, self._check(key, array)) for key in keys}
        entries = np.array([(*_KEY.unpack(key), *place, 0) for key, place in places.items()], _ENTRIES)
        if self._append(self._files[1], entries.data):
            self._new |= places

    def _append(self, file: int, content: memoryview) -> bool:
        """Whether the content was written, in one piece."""
        try:
            if os.write(file, content) < content.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._stop(f"cannot be written ({error.strerror})")
            return False
        return True


def _set_name(data: Path, preprocessing: Preprocessing) -> str:
    """Digests of the data folder with the preprocessing, and of the code that decodes an image."""
    record = {name: value for name, value in preprocessing.to_dict().items() if name not in _NORMALISATION}
    of_data = json.dumps([str(data.resolve()), record]).encode()
    files = sorted(Path(__file__).parent.glob("*.py"))
    of_code = b"".join(file.read_bytes() for file in files) + " ".join(map(_version, _DECODERS)).encode()
    return f"{hashlib.sha256(of_data).hexdigest()[:16]}-{hashlib.sha256(of_code).hexdigest()[:8]}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _make_room(mine: Path, *, needed: int) -> int:
    """Removes sets, those first that were not used for longest, until `needed` bytes fit below the limit.

    Sets of the same data and preprocessing by other code go in any case.

    Returns:
        The bytes that the set `mine` may have.
    """
    used: dict[Path, float] = {}
    sizes: dict[Path, int] = {}
    for folder in mine.parent.glob("*"):
        if _SET.fullmatch(folder.name) and folder != mine:
            try:
                used[folder] = folder.stat().st_mtime
                sizes[folder] = sum(file.stat().st_size for file in folder.iterdir())
            except OSError:  # another process makes room too
                _logger.debug("%s: cannot be looked at", folder, exc_info=True)
    for folder in sorted(sizes, key=used.__getitem__):
        if sum(sizes.values()) + needed > LIMIT or folder.name.startswith(mine.name.partition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)
            sizes.pop(folder)
    return LIMIT - sum(sizes.values())


def _content(path: Path) -> bytes:
    """A digest of what a file holds."""
    return hashlib.sha256(read_file(path)).digest()[:_KEY_BYTES]


def _unchanged(path: Path, file: bytes | None, content: bytes) -> bool:
    """Whether a file is still the one whose identity and content were looked at."""
    try:
        return _identity(path) == file and (file is not None or _content(path) == content)
    except OSError:
        return False


def _identity(path: Path) -> bytes | None:
    """A digest of where and what a file is, without its content; None of one that may be about to change."""
    try:
        found = path.stat()
    except NotADirectoryError:
        shard = shard_of(path)
        if shard is None:
            return None
        found = shard.stat()
    except OSError:
        return None
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED:
        return None
    told = f"{found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {path}"
    return hashlib.sha256(os.fsencode(told)).digest()[:_KEY_BYTES]
