"""`Calibration`: what was measured on held-out studies so that a probability can be believed.

It is saved beside the weights as `calibration.json` and `calibration.safetensors`, and fitted by
`mdnet.inference.calibration`. It changes no logit and no map.

References:
    1. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature scaling).
    2. Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
       Adversarial Attacks", NeurIPS 2018 (Mahalanobis distance of features).
    3. Bates et al., "Testing for Outliers with Conformal p-values", Annals of Statistics 2023.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mdnet.errors import WeightsError
from mdnet.files import write_bytes, write_text

__all__ = ["Calibration", "FeatureReference"]

JSON_NAME, TENSORS_NAME = "calibration.json", "calibration.safetensors"
_MEND = "delete it, and fit it anew with `mdnet calibrate`"
_THRESHOLD = 0.995  # of images like the held-out ones, at most one in 200 is called out-of-distribution

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureReference:
    """Where the features of familiar images lie: one Gaussian over C(I), pooled over positions.

    Attributes:
        mean: (D,), block after block as C(I) has them.
        precision: (D, D), the inverse of the shrunk covariance.
        distances: (N,) distances of held-out images, ascending; none of them helped to place the
            Gaussian that it was measured against.
        threshold: The score from which an image is called out-of-distribution.
    """

    mean: Floats
    precision: Floats
    distances: Floats
    threshold: float = _THRESHOLD

    def distance(self, features: npt.ArrayLike) -> Floats:
        """Mahalanobis distance `sqrt((f - mean)^T precision (f - mean))` of (N, D) features: (N,)."""
        centred = np.asarray(features, np.float64) - self.mean
        squares = np.einsum("nd,de,ne->n", centred, self.precision, centred, optimize=True)
        return np.sqrt(np.maximum(squares, 0.0))

    def score(self, distance: npt.ArrayLike) -> Floats:
        """Share of the held-out images that are less unusual, out of N + 1: in [0, 1).

        One less this is the conformal p-value [3]. With N images it never exceeds N / (N + 1), so a
        reference of fewer than 199 images reaches the threshold with none.
        """
        below = np.searchsorted(self.distances, np.asarray(distance, np.float64), side="left")
        return np.asarray(below / (len(self.distances) + 1), np.float64)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What belongs to a model beside its weights, so that its answers can be trusted as far as they go.

    Attributes:
        temperatures: Aspect name to the T of `softmax(logits / T)` (sigmoid where multi-label) [1].
        reference: Features of familiar images; None where the studies were too few.
        fitted_on: The studies that it was measured on, in words.
    """

    temperatures: Mapping[str, float]
    reference: FeatureReference | None = None
    fitted_on: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What `calibration.json` holds; `threshold` is None where there is no reference."""
        return {
            "fitted_on": self.fitted_on,
            "temperatures": dict(self.temperatures),
            "threshold": None if self.reference is None else self.reference.threshold,
        }

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes `calibration.json` and, where there is a reference, `calibration.safetensors`."""
        tensors = Path(folder) / TENSORS_NAME
        if self.reference is None:
            tensors.unlink(missing_ok=True)
        else:
            arrays = {name: getattr(self.reference, name) for name in ("mean", "precision", "distances")}
            write_bytes(tensors, save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))
        write_text(Path(folder) / JSON_NAME, json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(
        cls, folder: str | PathLike[str], *, aspects: Sequence[str], channels: int
    ) -> Calibration | None:
        """Reads what `save` wrote; None where nothing was.

        Args:
            folder: The model's.
            aspects: Names of the model's aspects.
            channels: D, channels of its C(I).

        Raises:
            WeightsError: It is damaged, or of another model.
        """
        file = Path(folder) / JSON_NAME
        if not file.is_file():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            temperatures = {name: float(value) for name, value in record["temperatures"].items()}
            reference = None
            if record["threshold"] is not None:
                arrays = load_file(Path(folder) / TENSORS_NAME)
                reference = FeatureReference(**arrays, threshold=float(record["threshold"]))
            calibration = cls(temperatures, reference, str(record["fitted_on"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"{file}: damaged ({type(error).__name__}: {error}); {_MEND}") from error
        if problem := calibration._misfit(aspects, channels):
            raise WeightsError(f"{file}: {problem}; {_MEND}")
        return calibration

    def _misfit(self, aspects: Sequence[str], channels: int) -> str | None:
        """What keeps it from being of such a model."""
        if set(self.temperatures) != set(aspects):
            ours, theirs = ", ".join(self.temperatures), ", ".join(aspects)
            return f"has temperatures of {ours or 'nothing'}, but the model's aspects are {theirs or 'none'}"
        if not all(0 < value < np.inf for value in self.temperatures.values()):
            return f"temperatures {dict(self.temperatures)} are not all above 0 and finite"
        if self.reference is not None:
            shapes = self.reference.mean.shape, self.reference.precision.shape
            if shapes != ((channels,), (channels, channels)):
                return f"has a reference of shapes {shapes}, but the model's C(I) has {channels} channels"
        return None
