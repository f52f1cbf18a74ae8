"""Does a map depend on what the model has learned: parameter and label randomisation.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292. A map that stays
what it was when the weights are drawn anew shows the image, not the model.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from mdnet.errors import DataError
from mdnet.models.mdnet import MDNet

__all__ = [
    "SURVIVAL",
    "cascade",
    "compare_models",
    "parameter_randomisation",
    "rank_correlation",
    "survives",
]

# A method survives, and fails the check, whose maps of the model and of random weights correlate more.
SURVIVAL = 0.2

Draw = Callable[[MDNet], Tensor]  # from a model to its maps (N, rows, columns) of the same images


def rank_correlation(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Spearman's rank correlation of two maps of each image, (N,), equal values sharing their mean rank.

    0 where one of the maps is flat: it tells nothing of the other.

    Args:
        first: (N, rows, columns)
        second: Of the same shape.
    """
    if first.shape != second.shape:
        raise DataError(
            "maps", f"shapes {tuple(first.shape)} and {tuple(second.shape)}", "give maps on one grid"
        )
    ranks = [rankdata(maps.detach().double().cpu().flatten(1).numpy(), axis=1) for maps in (first, second)]
    a, b = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), scale, out=np.zeros_like(scale), where=scale > 0)


def cascade(model: MDNet, *, seed: int = 0) -> Iterator[tuple[str, MDNet]]:
    """Copies of a model with more and more of it drawn anew, from the output down to the stem.

    Each part, with its BatchNorm statistics, is set to what it was before training, by the model's own
    initialisation. The model itself is not touched; the copy is one and the same at every step.

    Yields:
        Name of the part drawn last, and the copy.
    """
    randomised = copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = torch.get_rng_state()
    for name, modules in _parts(randomised):
        with torch.random.fork_rng(), torch.no_grad():
            torch.set_rng_state(state)
            for module in modules:
                module.apply(randomised._init_weights)
            state = torch.get_rng_state()
        yield name, randomised


def parameter_randomisation(
    model: MDNet, draw: Draw, *, seeds: Sequence[int] = (0,)
) -> dict[str, NDArray[np.float64]]:
    """Rank correlation of every map with that of the randomised model, as the cascade goes down.

    Args:
        model: The trained model.
        draw: From a model to the maps (N, rows, columns) of the same images and targets. A method that
            draws random numbers should begin with the same seed at every call.
        seeds: Of the weights; a cascade each.

    Returns:
        Name of the part randomised last to the correlations (N,), means over the seeds, from the top
        down; the last entry is a model that has nothing left of its training.
    """
    original = draw(model)
    found: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for seed in seeds:
        for name, randomised in cascade(model, seed=seed):
            found[name].append(rank_correlation(original, draw(randomised)))
    return {name: np.mean(correlations, axis=0) for name, correlations in found.items()}


def survives(correlations: NDArray[np.float64]) -> bool:
    """Whether the maps of a model wholly randomised still rank pixels as before: `SURVIVAL`.

    The mean over images and seeds is what counts: one smooth map resembles another by chance, either way.
    """
    return bool(abs(float(correlations.mean())) >= SURVIVAL)


def compare_models(draw: Draw, trained: MDNet, on_shuffled_labels: MDNet) -> NDArray[np.float64]:
    """Label randomisation: rank correlation of a model's maps with one's trained on shuffled labels, (N,)."""
    return rank_correlation(draw(trained), draw(on_shuffled_labels))


def _parts(model: MDNet) -> Iterator[tuple[str, list[nn.Module]]]:
    """A model's parts from the output down: report, heads, stages, stem; with a stage its block's BN-ReLU."""
    if model.report is not None:
        yield "report", [model.report]
    if model.heads is not None:
        yield "heads", [model.heads]
    image = model.image
    mixed = len(image.stages) - len(image.activations)  # stages that give no block of their own
    for index, stage in reversed(list(enumerate(image.stages))):
        own = [] if index < mixed else [image.activations[index - mixed]]
        yield f"stage {index + 1}", [*own, stage]
    yield "stem", [image.stem]
