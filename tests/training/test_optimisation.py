"""Every parameter is in the group of its part, what is frozen stays, and AdamW is its formula."""

from __future__ import annotations

import copy

import pytest
import torch

from mdnet.errors import ConfigurationError
from mdnet.explain.layers import set_training_mode
from mdnet.models.mdnet import MDNet
from mdnet.training.configuration import TrainingConfig
from mdnet.training.optimisation import build_optimizer, freeze, set_learning_rate


def configure(**options) -> TrainingConfig:
    return TrainingConfig(data="a", out="b", **options)


def train_some_steps(model: MDNet, optimizer, batch, *, steps: int = 3) -> None:
    set_training_mode(model)
    for _ in range(steps):
        optimizer.zero_grad()
        model(*batch).loss.backward()
        optimizer.step()


def test_every_parameter_is_in_one_group_of_its_part(build_model):
    model = build_model()
    optimizer = build_optimizer(model, configure(weight_decay=0.1))
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        vector = "bias" in name or ".layers.0." in name or ".layers.3." in name or "activations" in name
        group = group_of[id(parameter)]
        assert group["name"] == f"{name.partition('.')[0]}.{'vectors' if vector else 'matrices'}"
        assert group["weight_decay"] == (0.0 if vector else 0.1)


def test_a_part_has_a_learning_rate_of_its_own(build_model):
    config = configure(learning_rate=0.01, learning_rates={"image": 0.1, "report": 2})
    optimizer = build_optimizer(build_model(), config)
    for factor in (1.0, 0.5):
        set_learning_rate(optimizer, factor)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates == pytest.approx(
            {f"image.{kind}": 0.001 * factor for kind in ("matrices", "vectors")}
            | {f"heads.{kind}": 0.01 * factor for kind in ("matrices", "vectors")}
            | {f"report.{kind}": 0.02 * factor for kind in ("matrices", "vectors")}
        )


def test_grouping_by_part_changes_no_bit(build_model, draw_batch):
    ours = build_model().float()
    theirs = copy.deepcopy(ours)
    images, labels, tokens = draw_batch(4)
    optimizer = build_optimizer(ours, configure(learning_rate=0.01, weight_decay=0.1))
    kernels = [p for p in theirs.parameters() if p.ndim > 1]
    vectors = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    for model, its_optimizer in ((ours, optimizer), (theirs, torch.optim.AdamW(groups, lr=0.01, fused=True))):
        train_some_steps(model, its_optimizer, (images.float(), labels, tokens))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name


def test_a_step_is_adamw_as_published(build_model):
    """Loshchilov & Hutter, algorithm 2, in float64."""
    model = build_model()
    rate, decay = 0.01, 0.1
    optimizer = build_optimizer(model, configure(learning_rate=rate, weight_decay=decay))
    random = torch.Generator().manual_seed(4)
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = {name: torch.zeros_like(p) for name, p in expected.items()}
    second = {name: torch.zeros_like(p) for name, p in expected.items()}
    for t in range(1, 4):
        for name, parameter in model.named_parameters():
            g = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            parameter.grad = g.clone()
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            moved = (first[name] / (1 - 0.9**t)) / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
            kept = decay if parameter.ndim > 1 else 0.0
            expected[name] = expected[name] - rate * moved - rate * kept * expected[name]
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("patterns", [("image",), ("heads", "report.lstm.*"), ("image.stages.0.*",)])
def test_what_is_frozen_keeps_every_bit_and_the_rest_learns(build_model, draw_batch, patterns):
    model = build_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = build_optimizer(model, configure(freeze=patterns, learning_rate=0.01))
    train_some_steps(model, optimizer, draw_batch(4))
    prefixes = tuple(pattern.removesuffix("*").removesuffix(".") + "." for pattern in patterns)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(trained) == sum(not name.startswith(prefixes) for name, _ in model.named_parameters())
    for name, tensor in model.state_dict().items():  # running statistics, too
        assert torch.equal(tensor, before[name]) == name.startswith(prefixes), name


def test_only_the_batch_norm_that_is_frozen_stays_in_evaluation_mode(build_model):
    model = build_model()
    freeze(model, ["image.stages.0.*"])
    set_training_mode(model)
    norms = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert any(n.startswith("image.stages.0.") for n in norms)
    assert all(m.training != n.startswith("image.stages.0.") for n, m in norms.items())
    assert model.training
    assert model.report.dropout.training


def test_a_pattern_that_matches_nothing_names_what_is_near(build_model):
    with pytest.raises(
        ConfigurationError, match=r"freeze 'image.stem.weigth' matches no .*image\.stem\.weight"
    ):
        freeze(build_model(), ["image.stem.weigth"])
    with pytest.raises(ConfigurationError, match="name a part \\(image, heads, report\\)"):
        freeze(build_model(sections=()), ["report"])


def test_freezing_everything_is_refused(build_model):
    with pytest.raises(ConfigurationError, match="leaves nothing to train"):
        build_optimizer(build_model(), configure(freeze=["image", "heads", "report"]))
