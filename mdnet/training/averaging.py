"""A moving average of the weights, which often validates better than the weights themselves.

References:
    1. Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM Journal on
       Control and Optimization 30 (1992).
    2. `tf.train.ExponentialMovingAverage`: the smaller decay of the first updates.
    3. Wightman, timm, `timm/utils/model_ema.py` (`ModelEmaV3`): statistics are averaged too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mdnet.training.sharding import own_part, part_like

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential moving average of a model's weights and BatchNorm statistics.

    Update n = 1, 2, ... keeps `min(decay, (1 + n) / (10 + n))` of the average [2], so that a short run is
    not dominated by the random weights it began with. BatchNorm's means and variances are averaged
    like the weights, as in [2] and [3]: they are then of the same steps as the weights they stand
    between, where a copy would be of the last few. Whole numbers (how many batches) are copied.

    Args:
        model: Where it begins; without wrappers, and on the device that it is trained on. Of a sharded
            model, every process averages its own part.
        decay: Share of the average that an update keeps in the long run, below 1.

    Attributes:
        updates: How many there have been.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._averages = {name: tensor.clone() for name, tensor in _tensors(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = []
        current: list[Tensor] = []
        for name, tensor in _tensors(model).items():
            if tensor.is_floating_point():
                averages.append(own_part(self._averages[name]))
                current.append(own_part(tensor))
            else:
                self._averages[name].copy_(tensor)
        get_ema_multi_avg_fn(decay)(averages, current, None)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within it the model has the averaged weights; behind it its own again, to the bit."""
        own = {name: tensor.clone() for name, tensor in _tensors(model).items()}
        try:
            _copy(self._averages, model)
            yield
        finally:
            _copy(own, model)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages under the names of the model, and `updates`."""
        return {"updates": torch.tensor(self.updates)} | self._averages

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` gave.

        Raises:
            KeyError: A tensor is missing.
            RuntimeError: A tensor has another shape.
        """
        for name, average in self._averages.items():
            if state[name].shape != average.shape:
                raise RuntimeError(
                    f"the average of {name} has shape {tuple(state[name].shape)}, not {tuple(average.shape)}"
                )
            average.copy_(part_like(state[name], average))
        self.updates = int(state["updates"])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name; looked up each time, for moving a model replaces its buffers."""
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return {name: tensor.detach() for name, tensor in named}


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], model: nn.Module) -> None:
    for name, tensor in _tensors(model).items():
        tensor.copy_(source[name])
