"""The numbers of Quantus 0.6 (Hedström et al., JMLR 2023), where its definitions agree with ours.

Agree to 1e-6: pointing game, relevance mass and rank accuracy, the deletion curve (its pixel
flipping), maximum sensitivity, the rank correlation of parameter randomisation. Where they differ,
each test says how, and checks the known relation.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mdnet.explain.faithfulness.curves import deletion
from mdnet.explain.faithfulness.localisation import relevance_rank_accuracy
from mdnet.explain.faithfulness.randomisation import rank_correlation
from mdnet.explain.faithfulness.scoring import Score
from mdnet.explain.faithfulness.sensitivity import attributed, infidelity, maximum_sensitivity, sensitivity_n
from mdnet.metrics.grounding import energy_in_mask, pointing_game

quantus = pytest.importorskip(
    "quantus",
    reason="pip install 'mdnet[test]', and apt install libgl1, which quantus needs for OpenCV",
    exc_type=ImportError,
)

SIDE, STUDIES, LABEL, GREY = 8, 5, 1, 0.3
QUIET: dict[str, Any] = {
    "abs": False,
    "normalise": False,
    "disable_warnings": True,
    "display_progressbar": False,
    "return_aggregate": False,
}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 3)).eval()


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """What Quantus calls x, y, a and s: images, labels, maps and masks."""
    generator = np.random.default_rng(0)
    return {
        "x_batch": generator.normal(size=(STUDIES, 1, SIDE, SIDE)).astype(np.float32),
        "y_batch": np.full(STUDIES, LABEL),
        "a_batch": generator.normal(size=(STUDIES, 1, SIDE, SIDE)).astype(np.float32),
        "s_batch": generator.random((STUDIES, 1, SIDE, SIDE)) < 0.3,
    }


def score_of(model: nn.Module) -> Score:
    return lambda images: model(images)[:, LABEL]


def gradients(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
    """A method, in Quantus's form."""
    images = torch.as_tensor(np.asarray(inputs)).requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(images)[:, LABEL].sum(), images)
    return gradient.numpy()


def test_localisation_agrees(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Differs: of tied peaks Quantus takes any, ours their centre; Quantus's mass lets negative values
    count against the total, ours is of the positive part."""
    maps, masks = arrays["a_batch"][:, 0], arrays["s_batch"][:, 0]
    theirs = quantus.PointingGame(**QUIET)(model=model, **arrays)
    np.testing.assert_array_equal(pointing_game(maps, masks), np.asarray(theirs, bool))
    theirs = quantus.RelevanceRankAccuracy(**QUIET)(model=model, **arrays)
    np.testing.assert_allclose(relevance_rank_accuracy(maps, masks), theirs, rtol=0, atol=1e-6)
    positive = arrays | {"a_batch": np.maximum(arrays["a_batch"], 0)}
    theirs = quantus.RelevanceMassAccuracy(**QUIET)(model=model, **positive)
    np.testing.assert_allclose(energy_in_mask(maps, masks), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pixels", [1, 4, 16])
def test_deletion_is_pixel_flipping(model: nn.Module, arrays: dict[str, np.ndarray], pixels: int) -> None:
    """Differs: Quantus leaves out the unchanged image, and with several channels flips each on its own."""
    theirs = quantus.PixelFlipping(features_in_step=pixels, perturb_baseline=GREY, **QUIET)(
        model=model, softmax=False, **arrays
    )
    images = torch.tensor(arrays["x_batch"])
    ours = deletion(
        score_of(model),
        images,
        torch.tensor(arrays["a_batch"][:, 0]),
        baseline=torch.full_like(images, GREY),
        steps=SIDE * SIDE // pixels,
    )
    np.testing.assert_allclose(ours.scores[:, 1:], theirs, rtol=0, atol=1e-6)


def test_sensitivity_n_is_another_number(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Ours, as Ancona et al., correlates over random parts of one image. Quantus's correlates over
    images, step by step of pixel flipping: each step's own map sum against the score lost so far."""
    pixels, images = 4, torch.tensor(arrays["x_batch"])
    steps = SIDE * SIDE // pixels
    theirs = quantus.SensitivityN(
        features_in_step=pixels, n_max_percentage=1.0, perturb_baseline=GREY, **QUIET
    )(model=model, softmax=False, **arrays)
    maps = torch.tensor(arrays["a_batch"][:, 0])
    curve = deletion(
        score_of(model), images, maps, baseline=torch.full_like(images, GREY), steps=steps
    ).scores
    sums = maps.flatten(1).sort(dim=1, descending=True).values.unflatten(1, (steps, pixels)).sum(dim=2)
    ours = sensitivity_n(
        sums.double().T, (curve[:, :1] - curve[:, 1:]).double().T
    )  # images and steps swapped
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_infidelity_of_nested_parts(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Ours covers random parts, for maps that share out the score. Quantus's covers one square after
    the other and leaves them covered, for maps that are gradients: it multiplies by what was taken."""
    images, side = torch.tensor(arrays["x_batch"]), 4
    theirs = quantus.Infidelity(
        perturb_patch_sizes=[side], n_perturb_samples=1, perturb_baseline=GREY, **QUIET
    )(model=model, **arrays)
    squares = (
        torch.eye(4, dtype=torch.bool).view(4, 2, 2).repeat_interleave(side, 1).repeat_interleave(side, 2)
    )
    parts = squares.cumsum(dim=0) > 0
    taken = torch.tensor(arrays["a_batch"][:, 0]) * (images[:, 0] - GREY)
    score = score_of(model)
    with torch.no_grad():
        covered = [score(torch.where(part, GREY, images)) for part in parts]
        drops = score(images)[:, None] - torch.stack(covered, dim=1)
    ours = infidelity(attributed(taken, images, parts), drops, scaled=False)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_maximum_sensitivity_agrees(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Given the same noise."""
    samples, radius = 6, 0.05

    def noise(arr: np.ndarray, **_: Any) -> np.ndarray:
        drawn = torch.FloatTensor(STUDIES, 1, SIDE, SIDE).uniform_(-radius, radius)
        return arr + drawn.numpy().reshape(arr.shape)

    maps = gradients(model, arrays["x_batch"], None)
    metric = quantus.MaxSensitivity(
        nr_samples=samples,
        perturb_func=noise,
        similarity_func=quantus.similarity_func.difference,
        norm_numerator=quantus.norm_func.fro_norm,
        norm_denominator=quantus.norm_func.fro_norm,
        **QUIET,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = metric(model=model, explain_func=gradients, **(arrays | {"a_batch": maps}))
    ours = maximum_sensitivity(
        lambda images: torch.tensor(gradients(model, images, None)[:, 0]),
        torch.tensor(arrays["x_batch"]),
        radius=radius,
        samples=samples,
        seed=3,
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_randomisation_gives_the_same_rank_correlation(
    model: nn.Module, arrays: dict[str, np.ndarray]
) -> None:
    """Differs: Quantus resets every layer that has `reset_parameters`, and so no head of MDNet."""
    maps = gradients(model, arrays["x_batch"], None)
    theirs = quantus.MPRT(seed=7, **QUIET)(
        model=model, explain_func=gradients, **(arrays | {"a_batch": maps})
    )
    randomised = copy.deepcopy(model)
    original = torch.tensor(maps[:, 0])
    for name in ("3", "0"):  # the linear layer, then the convolution
        with torch.random.fork_rng():
            torch.manual_seed(7 + 1)
            randomised.get_submodule(name).reset_parameters()
        after: Tensor = torch.tensor(gradients(randomised, arrays["x_batch"], None)[:, 0])
        np.testing.assert_allclose(rank_correlation(original, after), theirs[name], rtol=0, atol=1e-6)
