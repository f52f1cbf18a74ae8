"""Images that are the same file under several names, byte for byte."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from mdnet.data.shard_index import file_size, read_file
from mdnet.errors import ImageError

__all__ = ["same_images"]

_AHEAD = 1024  # files that wait for a thread: bounds memory

_log = logging.getLogger(__name__)


def same_images(
    paths: Iterable[Path],
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Path]]:
    """Groups of at least two different paths whose files have one content, in the order of `paths`.

    Only files of one size can be the same: all others are not even opened.

    Args:
        paths: Of images; one that is named several times counts once. What cannot be read is the same
            as nothing.
        workers: Threads that read; one a CPU unless named. Hashing does not hold the interpreter's lock.
        progress: Called with the number of paths settled and the number of all.
    """
    distinct = dict.fromkeys(paths)
    by_size: dict[int, list[Path]] = {}
    for path in distinct:
        try:
            by_size.setdefault(file_size(path), []).append(path)
        except OSError as error:
            _log.debug("%s: %s", path, error.strerror)
    suspects = list(chain.from_iterable(alike for alike in by_size.values() if len(alike) > 1))
    settled = len(distinct) - len(suspects)
    by_content: dict[bytes, list[Path]] = {}
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for start in range(0, len(suspects), _AHEAD):
            part = suspects[start : start + _AHEAD]
            for path, digest in zip(part, pool.map(_digest, part), strict=True):
                if digest is not None:
                    by_content.setdefault(digest, []).append(path)
                settled += 1
                if progress is not None:
                    progress(settled, len(distinct))
    if progress is not None:
        progress(settled, len(distinct))
    order = {path: place for place, path in enumerate(distinct)}
    return sorted((same for same in by_content.values() if len(same) > 1), key=lambda same: order[same[0]])


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(read_file(path)).digest()
    except (OSError, ImageError) as error:
        _log.debug("%s: cannot be read (%s)", path, error)
        return None
