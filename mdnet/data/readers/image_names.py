"""Finding images that a table names without their ending, or by the folder they were in elsewhere."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from mdnet.data.images import SUFFIXES
from mdnet.data.readers.collector import Collector, is_file

__all__ = ["ImageNames"]


class ImageNames:
    """Looks for images of a table in some folders.

    A name is looked for as it stands; with one of the usual endings where it has none; then without
    its first folder, its first two, ... so that `/elsewhere/images/a.png` finds `images/a.png`.

    Args:
        collector: Takes the faults.
        folders: Where to look, in turn.
    """

    def __init__(self, collector: Collector, folders: tuple[Path, ...]) -> None:
        self.collector = collector
        self.folders = folders
        self._name_of: dict[str, str] = {}

    def find(self, names: list[str], where: str) -> tuple[Path, ...]:
        """The files; an error for each that is not there, or that another name found already."""
        if not names or not all(isinstance(name, str) for name in names):
            return self.collector.images(names, where, self.folders)  # says what is wrong
        found = []
        for name in names:
            path = self._path(name.replace("\\", "/"), where)
            self.collector.note_image(path, self.folders[0] / name, where)
            if path is not None:
                found.append(path)
        return tuple(found)

    def _path(self, name: str, where: str) -> Path | None:
        for tail in _tails(name):
            for variant in _with_endings(tail):
                for folder in self.folders:
                    if is_file(path := folder / variant):
                        self._own(variant, name, where)
                        return path
        return None

    def _own(self, found: str, name: str, where: str) -> None:
        """An error if an image of another name was taken to be this one."""
        other = self._name_of.setdefault(found, name)
        if other != name:
            problem = f"image {name!r} is not there, and {found!r} is already {other!r}"
            self.collector.error(where, problem, "put each image where the table says")


def _tails(name: str) -> list[str]:
    """The name, then what is left of it without its first folders."""
    path = PurePosixPath(name)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    return [name, *("/".join(parts[first:]) for first in range(0 if path.is_absolute() else 1, len(parts)))]


def _with_endings(name: str) -> list[str]:
    if name.lower().endswith(SUFFIXES):
        return [name]
    return [name, *(f"{name}{suffix}" for suffix in SUFFIXES)]
