"""Randomised weights: ranks against scipy, the cascade's order, and a model left as it was."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from mdnet.errors import DataError
from mdnet.explain.faithfulness.randomisation import (
    cascade,
    compare_models,
    parameter_randomisation,
    rank_correlation,
    survives,
)
from mdnet.explain.registry import Maps, get_method
from mdnet.explain.targets import ClassTarget, Scorer
from mdnet.models.mdnet import MDNet

PARTS = ["report", "heads", "stage 3", "stage 2", "stage 1", "stem"]
TARGET = ClassTarget("mitosis", "frequent", "absent")


def test_rank_correlation_is_spearmans() -> None:
    random = torch.Generator().manual_seed(0)
    first, second = torch.randint(6, (2, 9, 4, 5), generator=random).double()  # many ties
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, rtol=0, atol=1e-12)
    assert rank_correlation(first, first.exp()) == pytest.approx(np.ones(9))
    assert rank_correlation(first, torch.zeros_like(first)).tolist() == [0] * 9
    with pytest.raises(DataError, match="on one grid"):
        rank_correlation(first, second[:, :2])


def test_the_cascade_goes_down_and_leaves_the_model_as_it_was(build_model: Callable[..., MDNet]) -> None:
    model = build_model()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    state = torch.get_rng_state()
    changed: list[set[str]] = []
    for _, randomised in cascade(model):
        assert not randomised.training
        now = randomised.state_dict()
        changed.append({name for name, values in before.items() if not torch.equal(values, now[name])})
    assert [name for name, _ in cascade(model)] == PARTS
    assert all(smaller < larger for smaller, larger in pairwise(changed))
    assert all(name.startswith("report.") for name in changed[0])
    assert "heads.heads.0.weight" in changed[1]
    assert any(name.startswith("image.activations.2.") for name in changed[2])
    assert changed[-1] == {name for name in before if "num_batches" not in name}  # nothing is kept
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name]), name
    assert torch.equal(state, torch.get_rng_state())


def test_a_seed_decides(build_model: Callable[..., MDNet]) -> None:
    model = build_model()
    first, again, other = (
        [copy.heads.heads[0].weight.clone() for _, copy in cascade(model, seed=seed)][-1]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("method", ["evidence", "saliency"])
def test_maps_of_each_stage_are_compared_with_the_models(
    method: str, build_model: Callable[..., MDNet], draw_batch: Callable
) -> None:
    model, images = build_model(), draw_batch(4).pixel_values

    def draw(other: MDNet) -> Tensor:
        drawn = get_method(method).function(Scorer(other, TARGET), images)
        return drawn.maps if isinstance(drawn, Maps) else drawn

    result = parameter_randomisation(model, draw, seeds=(3,))
    assert list(result) == PARTS
    np.testing.assert_allclose(result["report"], 1, atol=1e-12)  # a logit does not ask the report
    for name, other in cascade(model, seed=3):
        np.testing.assert_allclose(result[name], rank_correlation(draw(model), draw(other)), atol=1e-12)
    assert np.abs(result["stem"]).mean() < 0.9
    both = parameter_randomisation(model, draw, seeds=(3, 4))["stem"]
    other_seed = parameter_randomisation(model, draw, seeds=(4,))["stem"]
    np.testing.assert_allclose(both, (result["stem"] + other_seed) / 2, atol=1e-12)
    np.testing.assert_allclose(compare_models(draw, model, other), result["stem"], atol=1e-12)


def test_a_map_of_the_image_alone_survives(build_model: Callable[..., MDNet], draw_batch: Callable) -> None:
    images = draw_batch(4).pixel_values
    result = parameter_randomisation(build_model(), lambda _: images.abs().sum(dim=1))
    assert survives(result["stem"])
    assert not survives(np.array([0.19, 0.19, -0.19]))
    assert survives(np.array([-0.5, -0.4]))  # upside down is no less a copy
