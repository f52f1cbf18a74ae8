"""One map over one image, with what it explains, how it was made, and in which unit."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mdnet
from mdnet.errors import DataError
from mdnet.files import write_bytes

__all__ = ["Explanation"]

_RECORD = ("method", "target", "unit", "score", "offset", "model", "source", "parameters", "seconds")


@dataclass(frozen=True)
class Explanation:
    """A map, never rescaled: its values are what the method computed, in its own unit.

    Attributes:
        map: (rows, columns) over the whole image, at the method's own resolution.
        image: The image as decoded, (H, W, 3) uint8.
        method: Name in `registry.list_methods()`.
        target: What is explained, in words.
        unit: Unit of the map's values.
        score: The number explained: the logit, the difference of two, or the log-probability.
        offset: What no position adds, so that `map.sum() + offset` is `score`; None where the method
            makes no such promise.
        model: Name or path of the weights.
        source: Path or name of the image.
        parameters: The method's settings.
        seconds: What the map took, its share of a batch.
    """

    map: npt.NDArray[np.float64]
    image: npt.NDArray[np.uint8]
    method: str
    target: str
    unit: str
    score: float
    offset: float | None = None
    model: str = ""
    source: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def residual(self) -> float | None:
        """`score - (map.sum() + offset)`: 0 to rounding where the map is complete, else what is left over."""
        return None if self.offset is None else self.score - (float(self.map.sum()) + self.offset)

    @property
    def signed(self) -> bool:
        """Zero is the middle of the values, not their end: some are below it, or they add up to a logit."""
        return self.offset is not None or bool((self.map < 0).any())

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON."""
        return {name: getattr(self, name) for name in _RECORD} | {"parameters": dict(self.parameters)}

    def save_npz(self, path: str | Path) -> Path:
        """Writes map, image and record; `load_npz` gives them back to the bit. Nothing is pickled."""
        record = json.dumps(self.to_dict() | {"version": mdnet.__version__})
        buffer = io.BytesIO()
        np.savez_compressed(buffer, map=self.map, image=self.image, record=np.array(record))
        return write_bytes(Path(path), buffer.getvalue())

    @classmethod
    def load_npz(cls, path: str | Path) -> Explanation:
        """Reads what `save_npz` wrote.

        Raises:
            DataError: It is no such file.
        """
        try:
            # NumPy leaves a file open that it opened itself and cannot read.
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                record = json.loads(str(arrays["record"]))
                return cls(arrays["map"], arrays["image"], **{name: record[name] for name in _RECORD})
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                path, f"no explanation ({error})", "name a file that mdnet explain wrote"
            ) from error

    def save_png(self, path: str | Path) -> Path:
        """Draws the map over the image with a colour bar in the map's own unit."""
        from mdnet.report.explanation_picture import save_picture

        return save_picture([self], Path(path))
