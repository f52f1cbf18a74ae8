"""From a decoded image to what the image module takes, as one record that is saved with the weights.

An image is brought to the model's mode and size, then normalised per channel:
`x = (value / 255 - mean) / std`. The whole image is stretched onto the model's size and nothing is
cut off, so that an evidence map covers the whole image and its pixels map back by scale alone.
The first step gives uint8 and can be cached; the second works on whole batches, on any device.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mdnet.data.images import DecodedImage
from mdnet.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    import torch

__all__ = ["FILE_NAME", "Intensity", "Preprocessing"]

FILE_NAME = "preprocessor_config.json"
_CHANNELS = {"RGB": 3, "L": 1}
_LEAST_STD = 1.0 / 255.0  # of a channel that never varies
_SPREADS = 6.0
_LEAST_TOLERANCE = 16.0  # grey values; a set of equally bright images has next to no spread


@dataclass(frozen=True)
class Intensity:
    """What the training images were.

    Attributes:
        mean: Over images, of an image's mean, 0..255.
        std: Likewise its deviation.
        kinds: Every kind among them, as `DecodedImage.kind` names it; empty where nobody looked.
    """

    mean: float
    std: float
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the model's input.

    Attributes:
        size: Side of the square input, or (rows, columns).
        mode: `RGB`, or `L` for one channel of luminance (ITU-R 601-2).
        mean: Per channel, in 0..1.
        std: Per channel, in 0..1.
        resize: `stretch`: the whole image onto the whole input.
        interpolation: `bilinear`, with a filter as wide as the reduction (antialiased).
        intensity: Of the training images, if measured; see `warning_for`.
    """

    size: int | tuple[int, int]
    mode: str = "RGB"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    resize: str = "stretch"
    interpolation: str = "bilinear"
    intensity: Intensity | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if len(self.shape) != 2 or not all(isinstance(side, int) and side > 0 for side in self.shape):
            raise ConfigurationError(
                f"size is {self.size}: give one whole number above 0, or (rows, columns)"
            )
        for name, value, allowed in (
            ("mode", self.mode, tuple(_CHANNELS)),
            ("resize", self.resize, ("stretch",)),
            ("interpolation", self.interpolation, ("bilinear",)),
        ):
            if value not in allowed:
                raise ConfigurationError(f"{name} is {value!r}: one of {', '.join(allowed)}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ConfigurationError(
                f"mean {self.mean} and std {self.std}: mode {self.mode} takes {self.channels} number(s) each"
            )
        if not all(value > 0 for value in self.std):
            raise ConfigurationError(f"std is {self.std}: every number must be above 0")

    @property
    def channels(self) -> int:
        return _CHANNELS[self.mode]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the input."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def columns(self) -> int:
        return self.shape[1]

    def to_array(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The image in the model's mode and size.

        Args:
            image: (H, W, 3) uint8 RGB, as `mdnet.data.images.load_image` gives it.

        Returns:
            (channels, rows, columns) uint8.
        """
        picture = Image.fromarray(image)
        if picture.mode != self.mode:
            picture = picture.convert(self.mode)
        if picture.size != (self.columns, self.rows):
            picture = picture.resize((self.columns, self.rows), Image.Resampling.BILINEAR)
        array = np.asarray(picture).reshape(self.rows, self.columns, self.channels)
        return array.transpose(2, 0, 1).copy()

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """Per channel `(value / 255 - mean) / std`.

        Args:
            batch: (N, channels, rows, columns) uint8, on any device.

        Returns:
            The same shape, float32.
        """
        import torch

        mean = torch.tensor(self.mean, device=batch.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, -1, 1, 1)
        # In place after the first copy: three times as quick on a CPU, where new memory is what costs.
        return batch.to(torch.float32, copy=True).div_(255.0).sub_(mean).div_(std)

    def to_image(self, batch: torch.Tensor) -> npt.NDArray[np.uint8]:
        """The inverse of `normalise`, as a picture: (B, channels, H, W) to (B, H, W, 3) uint8, clipped."""
        import torch

        mean = torch.tensor(self.mean, device=batch.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, -1, 1, 1)
        pixels = ((batch * std + mean) * 255.0).round().clamp(0, 255).to(torch.uint8)
        return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()

    def __call__(self, image: npt.NDArray[np.uint8]) -> torch.Tensor:
        """The model's input for one (H, W, 3) uint8 image: (channels, rows, columns) float32."""
        import torch

        return self.normalise(torch.from_numpy(self.to_array(image)).unsqueeze(0)).squeeze(0)

    @classmethod
    def measure(
        cls,
        images: Iterable[DecodedImage | npt.NDArray[np.uint8]],
        *,
        size: int | tuple[int, int],
        mode: str = "RGB",
    ) -> Preprocessing:
        """The record for a training set, from some of its images, each (H, W, 3) uint8, or with its kind.

        `mean` and `std` are those of all resized pixels, each image with the same weight.
        """
        neutral = (0.0,) * _CHANNELS.get(mode, 3), (1.0,) * _CHANNELS.get(mode, 3)
        plain = cls(size, mode, *neutral)
        sums, squares, brightness = np.zeros(plain.channels), np.zeros(plain.channels), []
        kinds: set[str] = set()
        for each in images:
            image, kind = (each.pixels, each.kind) if isinstance(each, DecodedImage) else (each, None)
            kinds.update(() if kind is None else (kind,))
            values = plain.to_array(image).astype(np.float64) / 255.0  # (channels, rows, columns)
            sums += values.mean(axis=(1, 2))
            squares += (values**2).mean(axis=(1, 2))
            brightness.append(float(image.mean()))
        if not brightness:
            raise ConfigurationError("no image to measure mean and std from: give at least one")
        mean = sums / len(brightness)
        std = np.sqrt(np.maximum(squares / len(brightness) - mean**2, _LEAST_STD**2))
        intensity = Intensity(
            round(float(np.mean(brightness)), 3), round(float(np.std(brightness)), 3), tuple(sorted(kinds))
        )
        return cls(size, mode, _rounded(mean), _rounded(std), intensity=intensity)

    def warning_for(self, image: npt.NDArray[np.uint8], *, kind: str | None = None) -> str | None:
        """One line if the image is constant, or unlike the training images; else None.

        Args:
            image: (H, W, 3) uint8.
            kind: What it was, as `DecodedImage.kind` names it: a kind that was not among the training
                images is unlike them. So is a mean that is more than 6 standard deviations of the training
                images' means away: such an image has usually been scaled wrongly on its way, for
                example from 0..1 to 0 and 1.
        """
        low, high, mean = int(image.min()), int(image.max()), float(image.mean())
        if low == high:
            return f"every pixel is {low}: there is nothing to see in this image; check how it was made"
        if self.intensity is None:
            return None
        found = []
        if kind is not None and self.intensity.kinds and kind not in self.intensity.kinds:
            found.append(f"the image was {kind}, the training images {' or '.join(self.intensity.kinds)}")
        tolerance = max(_SPREADS * self.intensity.std, _LEAST_TOLERANCE)
        if abs(mean - self.intensity.mean) > tolerance:
            found.append(
                f"the image's mean is {mean:.0f} of 255, that of the training images "
                f"{self.intensity.mean:.0f} +- {self.intensity.std:.0f}"
            )
        return f"{'; '.join(found)}: check its scaling and its kind" if found else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Preprocessing:
        """The record from `to_dict`; a `ConfigurationError` names a key that is not known."""
        known = [field.name for field in fields(cls)]
        for key in record:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                raise ConfigurationError(
                    f"preprocessing has no {key!r}{f' (did you mean {near[0]!r}?)' if near else ''}; "
                    f"it has {', '.join(known)}"
                )
        intensity = record.get("intensity")
        try:
            return cls(**record | {"intensity": Intensity(**intensity) if intensity else None})
        except TypeError as error:
            raise ConfigurationError(f"preprocessing {record}: {error}") from error

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes `preprocessor_config.json` into `folder`."""
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        (Path(folder) / FILE_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Preprocessing:
        """Reads what `save` wrote; `WeightsError` where it is missing or damaged."""
        file = Path(folder) / FILE_NAME
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(record, dict):
                raise ValueError("not an object")
            return cls.from_dict(record)
        except FileNotFoundError:
            raise WeightsError(f"{file}: no such file; copy the model folder whole") from None
        except ValueError as error:  # broken JSON, or a ConfigurationError
            raise WeightsError(f"{file}: {error}; copy the model folder again") from error


def _rounded(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
