"""Images that a list names and that are not there: one by one, or counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mdnet.data.readers.comparison import TOLD_EACH
from mdnet.data.study import Fault

__all__ = ["PUT_IMAGE", "MissingImages"]

PUT_IMAGE = "put the file there, or correct the path"


class MissingImages:
    """Of a collection that may be held in part: how many images are there, and which are not.

    Attributes:
        found: Images that are there.
        count: Images that are not.
        told: Likewise, of a set that is to be whole: an error each has told of them.
    """

    def __init__(self) -> None:
        self.found = 0
        self.count = 0
        self.told = 0
        self._first: list[tuple[str, Path]] = []

    def note(self, path: Path, where: str) -> None:
        """Counts an image that is not there."""
        self.count += 1
        if len(self._first) < TOLD_EACH:
            self._first.append((where, path))

    def faults(self, root: Path, *, studies: int, without: int) -> Iterator[Fault]:
        """What is missing, in as few lines as that takes; an error only where nothing is there.

        Args:
            root: Of the data set.
            studies: All that are listed.
            without: Those without any image.
        """
        if not self.count:
            return
        listed = self.found + self.count
        if not self.found:
            problem = f"none of the {listed} images listed is there, such as {self._first[0][1]}"
            yield Fault(str(root), problem, "put them there, or correct the paths")
            return
        if self.count <= TOLD_EACH:
            for where, path in self._first:
                yield Fault(where, f"no image {path}", f"{PUT_IMAGE}; until then it is left out", "warning")
        else:
            problem = f"{self.count} of the {listed} images listed are not there, such as {self._first[0][1]}"
            yield Fault(str(root), problem, "put them there; until then they are left out", "warning")
        if without:
            problem = f"{without} of {studies} studies have no image and are left out"
            yield Fault(str(root), problem, "fetch their images to use them", "warning")
