"""From what people call a study to the arrays that a model takes, which loader processes do without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mdnet.data.images import as_decoded
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import Study
from mdnet.errors import ConfigurationError

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | Path | Image | npt.NDArray[np.uint8]
    StudyLike = ImageLike | Study | Sequence[ImageLike]

__all__ = ["ReadStudy", "StudyReader", "images_of", "source_of"]

ImageArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ReadStudy:
    """A study as a model takes it.

    Attributes:
        source: What a finding calls it.
        arrays: Its images, (C, rows, columns) uint8 each, as `Preprocessing.to_array` gives them.
        pictures: The same as decoded, (H, W, 3) uint8; empty where nobody is going to look at them.
        warnings: A line for every image that is not as the training images were.
    """

    source: str
    arrays: tuple[ImageArray, ...]
    pictures: tuple[ImageArray, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class StudyReader:
    """Reads studies.

    Attributes:
        preprocessing: The model's.
        views: Images of a study that the model looks at.
        keep_pictures: Give the images as decoded, too.
    """

    preprocessing: Preprocessing
    views: int
    keep_pictures: bool = True

    def read(self, study: StudyLike, number: int) -> ReadStudy:
        """Reads one study; `number` is what one of arrays goes by.

        Raises:
            ImageError: An image that cannot be decoded.
            ConfigurationError: A list of no image, or of more than `views`.
        """
        images = images_of(study, self.views)
        decoded = [as_decoded(image) for image in images]
        found = [self.preprocessing.warning_for(each.pixels, kind=each.kind) for each in decoded]
        return ReadStudy(
            source_of(images, number),
            tuple(self.preprocessing.to_array(each.pixels) for each in decoded),
            tuple(each.pixels for each in decoded) if self.keep_pictures else (),
            tuple(
                f"{source_of(image, number)}: {warning}"
                for image, warning in zip(images, found, strict=True)
                if warning
            ),
        )


def images_of(study: StudyLike, views: int) -> tuple[ImageLike, ...]:
    """The images of a study that a model of so many views looks at.

    Raises:
        ConfigurationError: A list of no image, or of more than `views`; of a `Study` the first are taken.
    """
    if isinstance(study, Study):
        return study.images[:views]
    if isinstance(study, str) or not isinstance(study, Sequence):
        return (study,)
    if not 1 <= len(study) <= views:
        raise ConfigurationError(
            f"a study of {len(study)} images: the model looks at {views} a study; give 1 to {views}"
        )
    return tuple(study)


def source_of(images: ImageLike | Sequence[ImageLike], number: int) -> str:
    """What a finding calls a study: its image's path (all of them, joined by " + "), else its number."""
    several = (images,) if isinstance(images, str) or not isinstance(images, Sequence) else images
    paths = [str(image) for image in several if isinstance(image, (str, Path))]
    return " + ".join(paths) or f"image {number}"
