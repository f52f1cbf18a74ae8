"""What looks at a run's val split after every epoch: with as many studies at once as memory has room for, and
decoding their images the first time only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mdnet.data.study import Study, StudySet
from mdnet.inference.predictor import Predictor
from mdnet.inference.reading import ReadStudy, StudyReader, images_of
from mdnet.models.mdnet import MDNet
from mdnet.training.history import Row
from mdnet.training.memory import with_fewer
from mdnet.training.validation import validation_row

if TYPE_CHECKING:
    from collections.abc import Hashable

    from mdnet.inference.reading import StudyLike

__all__ = ["KeptStudies", "Validator"]

_AT_ONCE = 32  # studies
_ROOM = 1 << 30  # bytes of arrays that are kept; further studies are decoded every time


@dataclass
class KeptStudies:
    """Studies as a model takes them, kept from one epoch to the next.

    Of a picture no more than its size is kept, which is all that evaluation asks of it: (H, W, 3) zeros
    without memory of their own.
    """

    room: int = _ROOM
    studies: dict[Hashable, ReadStudy] = field(default_factory=dict)

    def keep(self, images: Hashable, read: ReadStudy) -> None:
        """Keeps a study, while there is room; its warnings have been said."""
        size = sum(array.nbytes for array in read.arrays)
        if size <= self.room:
            self.room -= size
            blank = tuple(np.broadcast_to(np.uint8(0), picture.shape) for picture in read.pictures)
            self.studies[images] = replace(read, pictures=blank, warnings=())


@dataclass(frozen=True)
class _KeepingReader(StudyReader):
    """A reader that reads a study of files once."""

    kept: KeptStudies = field(default_factory=KeptStudies)

    def read(self, study: StudyLike, number: int) -> ReadStudy:
        images = images_of(study, self.views)
        if (known := self.kept.studies.get(images)) is not None:
            return known
        read = super().read(study, number)
        self.kept.keep(images, read)
        return read


class _KeepingPredictor(Predictor):
    """A predictor whose pictures are blank but for the first time: for evaluation alone."""

    def __init__(self, model: MDNet, kept: KeptStudies, *, batch_size: int) -> None:
        super().__init__(model, device=model.device, batch_size=batch_size)
        self.kept = kept

    def reader(self, *, keep_pictures: bool = True) -> StudyReader:
        return _KeepingReader(self.preprocessing, self.model.views, keep_pictures, self.kept)


class Validator:
    """Validates a model; called after every epoch.

    Args:
        studies: What to validate on; of none nothing is said.
        data: Their data set.
        cache: Keep what was decoded, 1 GiB of it at most.
    """

    def __init__(self, studies: Sequence[Study], data: StudySet, *, cache: bool) -> None:
        self.studies, self.data = studies, data
        self.kept = KeptStudies() if cache else None
        self.at_once = _AT_ONCE

    def __call__(self, model: MDNet) -> Row:
        """The validation's part of an epoch's row.

        Raises:
            TrainingError: Not one study fits in memory.
        """
        if not self.studies:
            return {}
        row, self.at_once = with_fewer(
            lambda studies: validation_row(self._predictor(model, studies), self.studies, self.data),
            at_once=self.at_once,
            what="validation",
        )
        return row

    def _predictor(self, model: MDNet, batch_size: int) -> Predictor:
        if self.kept is None:
            return Predictor(model, device=model.device, batch_size=batch_size)
        return _KeepingPredictor(model, self.kept, batch_size=batch_size)
