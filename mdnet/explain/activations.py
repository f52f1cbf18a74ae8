"""What units answer to: statistics of activations over a data set, and the studies that excite a unit most.

A unit is one channel of one layer. Both pass over the data once and keep no activations: statistics
are reduced inside the forward pass, and of the studies only the best few are held.

References:
    1. Zhou et al., "Object Detectors Emerge in Deep Scene CNNs", ICLR 2015, arXiv 1412.6856 (the
       images that excite a unit most, and where in them).
    2. Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
       AISTATS 2010 (saturation of bounded activations).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mdnet.errors import ConfigurationError
from mdnet.explain.features import extract_features
from mdnet.explain.layers import by_channel, evaluation_mode, find_layer, watching

__all__ = ["Hit", "LayerStatistics", "activation_statistics", "channel_maps", "top_studies"]

SATURATED_SHARE = 0.95  # of a unit's values, from which on the unit counts as saturated

# Below the first or above the second number a value is within 5% of the activation's range from a
# bound. A ReLU6 at 0 is off, not saturated. Unbounded activations (ReLU, convolutions) have no entry.
_SATURATION: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.05, 0.95),
    nn.Hardsigmoid: (0.05, 0.95),
    nn.Tanh: (-0.9, 0.9),
    nn.LSTMCell: (-0.9, 0.9),  # h = o tanh(c)
    nn.ReLU6: (-np.inf, 5.7),
}


@dataclass(frozen=True)
class LayerStatistics:
    """Activations of one layer over a data set, channel by channel.

    Attributes:
        layer: Its name.
        studies: Images seen.
        positions: Values a channel has seen, over images and positions.
        minimum: (C,) least value.
        maximum: (C,) greatest value.
        mean: (C,)
        sparsity: (C,) share of values that are exactly 0.
        saturation: (C,) share of values within 5% of the range from a bound; None for an unbounded
            activation, which cannot saturate.
    """

    layer: str
    studies: int
    positions: int
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    sparsity: npt.NDArray[np.float64]
    saturation: npt.NDArray[np.float64] | None

    @property
    def dead(self) -> npt.NDArray[np.bool_]:
        """(C,) Units that were never above 0 over the whole set."""
        return self.maximum <= 0

    @property
    def saturated(self) -> npt.NDArray[np.bool_] | None:
        """(C,) Units of which at least 95% of the values are saturated; None where none can be."""
        return None if self.saturation is None else self.saturation >= SATURATED_SHARE

    def to_dict(self) -> dict[str, Any]:
        """The layer's own numbers, and its channels' in `channels`, for JSON."""
        channels: dict[str, Any] = {
            name: getattr(self, name).tolist() for name in ("minimum", "maximum", "mean", "sparsity")
        }
        channels["saturation"] = None if self.saturation is None else self.saturation.tolist()
        return {
            "layer": self.layer,
            "studies": self.studies,
            "positions": self.positions,
            "minimum": float(self.minimum.min()),
            "maximum": float(self.maximum.max()),
            "mean": float(self.mean.mean()),
            "sparsity": float(self.sparsity.mean()),
            "dead": np.flatnonzero(self.dead).tolist(),
            "saturated": None if self.saturated is None else np.flatnonzero(self.saturated).tolist(),
            "channels": channels,
        }


@dataclass(frozen=True)
class Hit:
    """A study that excites a unit.

    Attributes:
        study: Its position in the data, from 0.
        value: The greatest activation in it.
        map: (rows, columns) the unit's activation map.
    """

    study: int
    value: float
    map: npt.NDArray[np.float32]

    @property
    def peak(self) -> tuple[int, int]:
        """(row, column) of the greatest activation; the first one of several."""
        row, column = np.unravel_index(int(self.map.argmax()), self.map.shape)
        return int(row), int(column)


class _Running:
    """Sums and extremes of one layer so far, on the layer's own device."""

    def __init__(self, bounds: tuple[float, float] | None) -> None:
        self.bounds = bounds
        self.positions = 0
        self.sums: Tensor | None = None  # (3, C): values, zeros, saturated values
        self.extremes: Tensor | None = None  # (2, C): greatest of -x and of x

    def add(self, output: Tensor) -> None:
        values = by_channel(output)  # (C, N)
        # float64, or a mean over many images would drift; Apple's MPS has none
        wide = torch.float32 if values.device.type == "mps" else torch.float64
        low, high = self.bounds or (-np.inf, np.inf)
        saturated = (values <= low) | (values >= high)
        sums = torch.stack([x.sum(dim=1, dtype=wide) for x in (values, values == 0, saturated)])
        extremes = torch.stack([-values.amin(dim=1), values.amax(dim=1)])
        self.sums = sums if self.sums is None else self.sums + sums
        self.extremes = extremes if self.extremes is None else torch.maximum(self.extremes, extremes)
        self.positions += values.shape[1]

    def statistics(self, layer: str, studies: int) -> LayerStatistics:
        assert self.sums is not None
        assert self.extremes is not None
        mean, sparsity, saturation = self.sums.cpu().double().numpy() / self.positions
        negated, maximum = self.extremes.cpu().double().numpy()
        return LayerStatistics(
            layer,
            studies,
            self.positions,
            0.0 - negated,  # no -0.0
            maximum,
            mean,
            sparsity,
            None if self.bounds is None else saturation,
        )


@torch.no_grad()
def activation_statistics(
    model: nn.Module, batches: Iterable[Tensor], layers: Sequence[str]
) -> dict[str, LayerStatistics]:
    """Statistics of every named layer, in one pass over the data.

    Args:
        model: Any module; its modes are put back and no hook stays.
        batches: Pixel values (B, channels, H, W) each; `pixel_batches` makes them from files.
        layers: Names of `list_layers(model)`. All calls of a layer that runs several times in a
            pass count.

    Raises:
        ConfigurationError: No batch, or a layer that there is not or that images do not reach.
    """
    bounds = {name: _SATURATION.get(type(find_layer(model, name))) for name in layers}
    running = {name: _Running(limits) for name, limits in bounds.items()}
    studies = 0
    with evaluation_mode(model):
        for pixel_values in batches:
            with watching(model, layers, lambda name, output: running[name].add(output)):
                model(pixel_values)
            studies += len(pixel_values)
    if not studies:
        raise ConfigurationError("no image to take statistics of: give at least one batch")
    return {name: state.statistics(name, studies) for name, state in running.items()}


def top_studies(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    layer: str,
    channels: Sequence[int],
    count: int = 9,
) -> dict[int, list[Hit]]:
    """For each unit of a layer the studies that excite it most, best first; one pass over the data.

    A study counts by the unit's greatest activation in it; of equal ones the earlier study is first.

    Args:
        model: Any module; its modes are put back and no hook stays.
        batches: Pixel values (B, channels, H, W) each; `pixel_batches` makes them from files.
        layer: A name of `list_layers(model)`.
        channels: The layer's channels to follow.
        count: Studies to keep for each.

    Raises:
        ConfigurationError: A layer or a channel that there is not.
    """
    heaps: dict[int, list[tuple[float, int, Hit]]] = {channel: [] for channel in channels}
    studies = 0
    for pixel_values in batches:
        output = extract_features(model, pixel_values, layer)[layer]
        for channel, heap in heaps.items():
            maps = channel_maps(output, channel, layer=layer)  # (B, rows, columns)
            for index, value in enumerate(maps.flatten(1).amax(dim=1).tolist(), start=studies):
                if len(heap) == count and value <= heap[0][0]:
                    continue
                hit = Hit(index, value, maps[index - studies].float().cpu().numpy())
                entry = (value, -index, hit)
                (heapq.heapreplace if len(heap) == count else heapq.heappush)(heap, entry)
        studies += len(pixel_values)
    return {channel: [hit for *_, hit in sorted(heap, reverse=True)] for channel, heap in heaps.items()}


def channel_maps(output: Tensor, channel: int, *, layer: str) -> Tensor:
    """One channel's map of each image, (B, rows, columns); a layer without rows has one.

    Raises:
        ConfigurationError: The layer has no such channel.
    """
    channels = by_channel(output).shape[0]
    if not 0 <= channel < channels:
        raise ConfigurationError(f"layer {layer!r} has channels 0 to {channels - 1}, not {channel}")
    if output.ndim == 3:  # (B, positions, C)
        return output[..., channel].unsqueeze(1)
    return output[:, channel] if output.ndim == 4 else output[:, channel].reshape(len(output), 1, -1)
