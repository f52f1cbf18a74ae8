"""What every captum method promises: it leaves no trace, and gives an image the same map in any company."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from mdnet.explain.explanation import Explanation
from mdnet.explain.registry import Maps, explain, get_method
from mdnet.explain.targets import ClassTarget, Scorer, WordTarget
from mdnet.inference.predictor import Predictor
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

CONTRAST = ClassTarget("mitosis", "frequent", "absent")
WORD = WordTarget("mitosis", ("mitotic", "figures", "are"))
QUICK: dict[str, dict[str, Any]] = {
    "saliency": {},
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 4},
    "smooth_grad": {"samples": 3},
    "guided_backprop": {},
    "gradient_shap": {"samples": 2},
    "cam": {},
    "grad_cam": {},
    "occlusion": {"window": 16, "stride": 16},
    "feature_ablation": {"parts": 4},
    "lime": {"parts": 4, "samples": 6},
    "kernel_shap": {"parts": 4, "samples": 6},
}
SUMS = {"integrated_gradients", "gradient_shap", "cam", "kernel_shap"}
PAIRS = [
    (name, target) for name in QUICK for target in (CONTRAST, WORD) if name != "cam" or target == CONTRAST
]
every_method = pytest.mark.parametrize("name", QUICK)
every_pair = pytest.mark.parametrize(("name", "target"), PAIRS, ids=str)


def draw(name: str, scorer: Scorer, images: Tensor) -> Tensor:
    drawn = get_method(name).function(scorer, images, **QUICK[name])
    return (drawn.maps if isinstance(drawn, Maps) else drawn).clone()


def hooks(model: torch.nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def state(model: MDNet) -> list[Any]:
    """What no explanation may change, comparable."""
    return [
        hooks(model),
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad is None for parameter in model.parameters()],
        [tensor.sum().item() for tensor in model.state_dict().values()],
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_rng_state().sum().item(),
        int(np.random.get_state()[1].sum()),  # noqa: NPY002  (what captum draws from)
        np.random.get_state()[2],  # noqa: NPY002
    ]


@pytest.fixture
def images(draw_batch: Callable[..., Any]) -> Tensor:
    return draw_batch(3).pixel_values


@pytest.fixture
def predictor(build_model: Callable[..., MDNet]) -> Predictor:
    model = build_model(dtype=torch.float32, maximum_words=2)  # explain() asks the model for its answer
    return Predictor(model, name="small", device="cpu", batch_size=2)


@pytest.fixture
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40, 30, 3), dtype=np.uint8) for _ in range(3)]


@every_pair
def test_nothing_is_left_on_the_model_or_the_images(build_model, images, name, target):
    model = build_model()
    model.heads.requires_grad_(False)  # a mixture, to be found again
    before, copy = state(model), images.clone()
    maps = draw(name, Scorer(model, target), images)
    assert state(model) == before
    assert torch.equal(images, copy)
    assert not images.requires_grad
    assert not maps.requires_grad


@pytest.mark.parametrize("calls", [0, 1])
@every_method
def test_nothing_is_left_after_an_interruption(build_model, images, monkeypatch, name, calls):
    model = build_model()
    forward, done = model.heads.forward, []

    def interrupted(features: ImageFeatures, tokens: Tensor | None = None) -> Any:
        if len(done) == calls:
            raise KeyboardInterrupt
        done.append(1)
        return forward(features, tokens)

    before = state(model)
    monkeypatch.setattr(model.heads, "forward", interrupted)
    single_pass = name in ("saliency", "input_x_gradient", "guided_backprop", "cam", "grad_cam")
    if calls and single_pass:
        draw(name, Scorer(model, CONTRAST), images)
    else:
        with pytest.raises(KeyboardInterrupt):
            draw(name, Scorer(model, CONTRAST), images)
    assert state(model) == before


@every_pair
def test_a_map_does_not_depend_on_the_rest_of_the_batch(build_model, images, name, target):
    scorer = Scorer(build_model(), target)
    together = draw(name, scorer, images)
    alone = torch.cat([draw(name, scorer, image) for image in images.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not together[0].allclose(together[1])


@every_method
def test_a_caller_in_inference_mode_gets_the_same_map(build_model, images, name):
    scorer = Scorer(build_model(), CONTRAST)
    expected = draw(name, scorer, images)
    with torch.inference_mode():
        torch.testing.assert_close(draw(name, scorer, images.clone()), expected)


@every_pair
def test_explain_gives_finite_maps_over_the_whole_image_in_words(predictor, pictures, name, target):
    results = explain(predictor, pictures, method=name, target=target, **QUICK[name])
    unit = "logit" if target is CONTRAST else "log-probability"
    for result in results:
        assert np.isfinite(result.map).all()
        assert result.map.shape in {(32, 32), (4, 4)}
        assert result.unit.startswith(unit)
        assert (result.residual is not None) == (name in SUMS)
        assert QUICK[name].items() <= result.parameters.items()


@pytest.mark.parametrize("name", ["smooth_grad", "gradient_shap", "lime", "kernel_shap"])
def test_a_seed_decides_what_is_drawn(predictor, pictures, name):
    def maps(seed: int) -> list[np.ndarray]:
        torch.rand(1)
        np.random.random()  # noqa: NPY002
        results = explain(predictor, pictures, method=name, target=CONTRAST, seed=seed, **QUICK[name])
        assert all(result.parameters["seed"] == seed for result in results)
        return [result.map for result in results]

    first, again, other = maps(1), maps(1), maps(2)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


@every_method
def test_an_image_of_one_colour_is_explained(predictor, name):
    picture = np.full((32, 32, 3), 153, np.uint8)  # the mean colour: nothing changes when it is covered
    (result,) = explain(predictor, [picture], method=name, target=CONTRAST, **QUICK[name])
    assert np.isfinite(result.map).all()
    if name in {"occlusion", "feature_ablation", "lime", "input_x_gradient"}:
        assert np.abs(result.map).max() < 1e-4


def every_kind(predictor: Predictor, pictures: list[np.ndarray], count: int) -> list[Explanation]:
    """`count` explanations, the methods in turn; those of the last round are kept."""
    results: list[Explanation] = []
    for number in range(count):
        name, target = PAIRS[number % len(PAIRS)]
        results = explain(predictor, pictures[:1], method=name, target=target, **QUICK[name])
    return results


def live_tensors() -> int:
    gc.collect()
    return sum(type(thing) in (Tensor, torch.nn.Parameter) for thing in gc.get_objects())


def test_explanations_leave_no_tensors_and_no_hooks(predictor, pictures):
    every_kind(predictor, pictures, len(PAIRS))
    tensors, count = live_tensors(), hooks(predictor.model)
    every_kind(predictor, pictures, 30)
    assert (live_tensors(), hooks(predictor.model)) == (tensors, count)


@pytest.mark.slow
def test_a_thousand_explanations_leave_memory_flat(predictor, pictures):
    process = psutil.Process()
    every_kind(predictor, pictures, 200)
    tensors, size = live_tensors(), process.memory_info().rss
    every_kind(predictor, pictures, 1000)
    assert live_tensors() == tensors
    assert process.memory_info().rss - size < 16 * 2**20
