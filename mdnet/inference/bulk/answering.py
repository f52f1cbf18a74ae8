"""From studies to findings, batch by batch: loader processes read ahead, one process computes.

A batch is always of the same studies, by their places in the list, whoever computes it and in whatever
order; a study that cannot be read leaves its batch smaller. Its numbers are then the same to the last bit,
and so are its draws, which begin anew with every batch. That is what lets a run that was killed, or one of
several processes, give what one undisturbed process gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Dataset

from mdnet.data.loading import StudyLoader
from mdnet.data.study import Fault, Study
from mdnet.errors import ImageError, MDNetError
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor
from mdnet.inference.reading import ReadStudy, StudyReader, images_of, source_of

__all__ = ["AnsweredBatch", "answer"]


@dataclass(frozen=True)
class AnsweredBatch:
    """The findings of one batch.

    Attributes:
        number: Of the batch.
        findings: Of the studies that could be read, with their ids.
        unreadable: The other studies.
    """

    number: int
    findings: tuple[tuple[str, Finding], ...]
    unreadable: tuple[Fault, ...]

    def __len__(self) -> int:
        return len(self.findings) + len(self.unreadable)


def answer(
    predictor: Predictor,
    studies: Sequence[Study],
    batches: Sequence[int],
    *,
    workers: int = 0,
    maps: bool = False,
    abstain_below: float | None = None,
) -> Iterator[AnsweredBatch]:
    """Findings of the batches of those numbers; batch k is of studies k B to (k + 1) B.

    Args:
        predictor: Says the size B of a batch and how words are chosen.
        studies: All studies of the run.
        batches: The numbers, in the order of the answers.
        workers: Processes that read images ahead; 0 reads in this one.
        maps: Give evidence, attention and images, as a page needs them.
        abstain_below: As `Finding` has it.

    Raises:
        MDNetError: What is wrong is not with one image, as where a package to read it is missing.
    """
    size = predictor.batch_size
    places = [range(number * size, min((number + 1) * size, len(studies))) for number in batches]
    reading = _Reading(studies, predictor.reader(keep_pictures=maps))
    loader = StudyLoader(reading, places, workers=workers)
    for number, read in zip(batches, loader, strict=True):
        readable = [(identifier, each) for identifier, each in read if isinstance(each, ReadStudy)]
        found = predictor.stream(
            [each for _, each in readable], decoding=seeded(predictor.decoding, number), maps=maps
        )
        unreadable = tuple(each for _, each in read if isinstance(each, Fault))
        yield AnsweredBatch(
            number,
            tuple(
                (identifier, replace(finding, abstain_below=abstain_below))
                for (identifier, _), finding in zip(readable, found, strict=True)
            ),
            unreadable,
        )


def seeded(decoding: DecodingConfig, batch: int) -> DecodingConfig:
    """The decoding with a seed of its own for each batch; the first has the one that was given."""
    if decoding.seed is None or batch == 0:
        return decoding
    drawn = np.random.SeedSequence((decoding.seed % 2**64, batch)).generate_state(1, np.uint64)
    return replace(decoding, seed=int(drawn[0]) >> 1)


class _Reading(Dataset[list[tuple[str, ReadStudy | Fault]] | MDNetError]):
    """Ids and what was read of the studies at some places; an error of its own kind ends the run."""

    def __init__(self, studies: Sequence[Study], reader: StudyReader) -> None:
        self._studies, self._reader = studies, reader

    def __getitem__(self, places: Sequence[int]) -> list[tuple[str, ReadStudy | Fault]] | MDNetError:
        try:
            return [self._read(self._studies[place], place) for place in places]
        except MDNetError as error:
            return error

    def _read(self, study: Study, place: int) -> tuple[str, ReadStudy | Fault]:
        try:
            return study.id, self._reader.read(study, place)
        except ImageError as error:
            source = source_of(images_of(study, self._reader.views), place)
            one_of_several = "" if source == error.where else f"{error.where}: "
            return study.id, Fault(source, f"{one_of_several}{error.problem}", error.mend)
