"""A file of reports, and what stands beside it while it is written and afterwards.

    reports.jsonl               the reports, a study a line
    reports.jsonl.card.json     what they were made with (`mdnet.inference.bulk.card`)
    reports.jsonl.broken.jsonl  the studies without one, each with the reason; if there are any
    reports.jsonl.parts/        while it is not finished: the list of all studies, and the parts

One process alone appends text and JSON lines to the file itself. Several have a part each, and so has
Parquet, which cannot be appended to; when all are done the main process joins them in the order of the
studies, and the file appears in one step.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mdnet.errors import ConfigurationError, DataError
from mdnet.files import write_text
from mdnet.inference.bulk.card import Card
from mdnet.inference.bulk.inputs import Inputs, save_inputs
from mdnet.inference.bulk.parts import Part, Place, find_written

__all__ = ["Output"]


@dataclass(frozen=True)
class Output:
    """The files of one run.

    Attributes:
        path: Of the reports.
        format: text, jsonl or parquet.
    """

    path: Path
    format: str

    @property
    def card(self) -> Path:
        return self._beside("card.json")

    @property
    def broken(self) -> Path:
        return self._beside("broken.jsonl")

    @property
    def inputs(self) -> Path:
        return self._parts / "inputs.jsonl"

    def part(self, rank: int, *, processes: int) -> Part:
        """The part that a process writes."""
        if processes == 1 and self.format != "parquet" and not self._shares():
            return self._itself()
        text = self._parts / f"{rank:05d}.part"
        return Part(text, text.with_suffix(".progress"))

    def written(self) -> dict[int, Place]:
        """All batches that are written, by number."""
        return find_written([self._itself(), *self._shares()])

    def missing(self, batches: Iterable[int]) -> list[int]:
        """The batches that are not."""
        written = self.written()
        return [number for number in batches if number not in written]

    def earlier(self, *, resume: bool) -> Card | None:
        """The card of the run to go on with; None where nothing is there yet.

        Raises:
            ConfigurationError: There is a run, and it is not to be resumed; or something that is none.
        """
        if not self.card.exists():
            if self.path.exists():
                raise ConfigurationError(
                    f"{self.path}: there already, and without a {self.card.name} nothing to go on with; "
                    "name another --out, or remove it"
                )
            return None
        card = Card.load(self.card)
        needed = self.inputs if card.finished is None else self.path
        if not needed.exists():
            raise ConfigurationError(
                f"{self.card}: {needed} is gone, so nothing can go on; remove the card, or name another --out"
            )
        if card.finished is None and not self.written():
            return None
        if not resume:
            raise ConfigurationError(
                f"{self.path}: there already, or begun; add --resume auto to go on, or name another --out"
            )
        return card

    def begin(self, card: Card, inputs: Inputs) -> None:
        """Begins a run, where `earlier` is None; the card comes last, so it stands for whole inputs."""
        self.path.unlink(missing_ok=True)  # of a run that was stopped before its first batch was whole
        self.card.unlink(missing_ok=True)
        self.clean()
        self._parts.mkdir(parents=True)
        save_inputs(inputs, self.inputs)
        card.save(self.card)

    def finish(
        self,
        card: Card,
        inputs: Inputs,
        *,
        batches: Sequence[int],
        join: Callable[[Iterable[bytes], Path], None],
    ) -> Card:
        """Brings the parts together, and puts them away.

        Args:
            card: That of the run.
            inputs: All of them.
            batches: All of them, in their order.
            join: Writes a file of the texts of all batches.

        Raises:
            DataError: A batch is missing or damaged, as where a disk failed.
            OSError: The disk is full; the parts stay.
        """
        written = self.written()
        if missing := [number for number in batches if number not in written]:
            raise DataError(
                self.path, f"{len(missing)} of {len(batches)} batches are not whole", "add --resume auto"
            )
        places = [written[number] for number in batches]
        if self._is_joined(places):
            _sync(self.path)
        else:
            with _writing(self.path) as partial:
                join((place.read() for place in places), partial)
        unreadable = [*inputs.unreadable, *(each for place in places for each in place.unreadable)]
        self.broken.unlink(missing_ok=True)
        if unreadable:
            told = ({"source": each.where, "error": f"{each.problem}; {each.mend}"} for each in unreadable)
            write_text(self.broken, "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in told))
        reports = sum(place.findings for place in places)
        finished = replace(card, finished={"reports": reports, "broken": len(unreadable)})
        finished.save(self.card)
        self.clean()
        return finished

    def clean(self) -> None:
        """Removes what a finished run does not need."""
        shutil.rmtree(self._parts, ignore_errors=True)

    @property
    def _parts(self) -> Path:
        return self._beside("parts")

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    def _itself(self) -> Part:
        """The part that is the file itself."""
        return Part(self.path, self._parts / "alone.progress")

    def _shares(self) -> list[Part]:
        """The parts that are to be joined."""
        return [Part(text, text.with_suffix(".progress")) for text in sorted(self._parts.glob("*.part"))]

    def _is_joined(self, places: Sequence[Place]) -> bool:
        """Whether the file itself is the text of all batches in their order, and nothing else."""
        end = 0
        for place in places:
            if place.file != self.path or place.start != end:
                return False
            end = place.end
        return self.path.is_file() and self.path.stat().st_size == end


def _sync(file: Path) -> None:
    """Waits until the file is on the disk."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


@contextmanager
def _writing(file: Path) -> Iterator[Path]:
    """A file to write, which takes the name `file` when it is whole and on the disk."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(file)
    except OSError as error:
        problem = (
            f"{error.strerror or error}; what was written is kept: free some space and add --resume auto"
        )
        raise OSError(error.errno, problem, str(file)) from error
    finally:
        partial.unlink(missing_ok=True)
