"""What heads of a user's own have beside the contract of all members: further losses, a step between epochs,
the report to learn from; against what the papers' formulas say, written out.
"""

from __future__ import annotations

import pytest
import torch
from contract_members import close, narrow_options, registered_own
from own_prototypes import CLUSTER, PROTOTYPES, SEPARATION

from mdnet.data.study import MISSING
from mdnet.models.objective import loss_counts


@pytest.fixture(scope="module", autouse=True)
def own_members():
    with registered_own():
        yield


@pytest.fixture
def prototypes(build_model):
    return build_model("prototypes", **narrow_options("prototypes"))


@pytest.fixture
def tandem(build_model):
    return build_model("tandem", **narrow_options("tandem"))


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    squares = [(a - b) ** 2 for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    return sum(squares) / len(squares)


def classes_of(aspect, label) -> list[int]:
    if aspect.multi_label:
        return [index for index, there in enumerate(label.tolist()) if there == 1]
    return [] if label == MISSING else [int(label)]


def test_terms_of_l_m_are_those_of_the_paper(prototypes, draw_batch):
    """Of each label, the smallest distance of a position to a prototype of its class, and of another."""
    images, labels, _ = draw_batch(3)
    labels["conclusion"][1] = MISSING
    output = prototypes(images, labels)
    near = far = 0.0
    for aspect in prototypes.config.space.aspects:
        table = prototypes.heads[aspect.name].prototypes
        for grid, label in zip(output.features.grid, labels[aspect.name], strict=True):
            own = classes_of(aspect, label)
            nearest = [
                min(distance(at, table[k * PROTOTYPES + j]) for at in grid for j in range(PROTOTYPES))
                for k in range(len(aspect.classes))
            ]
            if own:
                near += min(nearest[k] for k in own)
                others = [value for k, value in enumerate(nearest) if k not in own]
                far += min(others) if others else 0.0
    count = int(loss_counts(labels, None, prototypes.config.space, 0)["classification"])
    assert list(output.losses) == [
        "classification",
        "classification_cluster",
        "classification_separation",
    ]
    assert output.losses["classification_cluster"].item() == pytest.approx(CLUSTER * near / count, rel=1e-10)
    found = output.losses["classification_separation"].item()
    assert found == pytest.approx(-SEPARATION * far / count, rel=1e-10)
    close(output.loss, sum(output.losses.values()))


def test_parts_of_a_step_add_up_to_it(prototypes, draw_batch):
    images, labels, _ = draw_batch(4)
    whole = prototypes(images, labels).losses
    counts = loss_counts(labels, None, prototypes.config.space, 0)
    parts = [slice(0, 3), slice(3, 4), slice(4, 4)]  # the last is of no study
    losses = [
        prototypes(images[part], {name: each[part] for name, each in labels.items()}, counts=counts).losses
        for part in parts
    ]
    for name, loss in whole.items():
        close(sum(part[name] for part in losses), loss)


@torch.no_grad()
def test_a_prototype_becomes_the_nearest_position_of_its_class(prototypes, draw_batch):
    batches = [draw_batch(3, seed=seed) for seed in (0, 1)]
    studies = [(prototypes.encode(images), labels) for images, labels, _ in batches]
    space = prototypes.config.space
    before = {name: prototypes.heads[name].prototypes.clone() for name in space.names}
    prototypes.heads.end_epoch(iter(studies))
    for aspect in space.aspects:
        for number, prototype in enumerate(before[aspect.name]):
            positions = [
                position
                for features, labels in studies
                for grid, label in zip(features.grid, labels[aspect.name], strict=True)
                if number // PROTOTYPES in classes_of(aspect, label)
                for position in grid
            ]
            # A class that no study has keeps its prototypes.
            expected = min(positions, key=lambda at: distance(at, prototype), default=prototype)
            assert torch.equal(prototypes.heads[aspect.name].prototypes[number], expected)
    again = {name: prototypes.heads[name].prototypes.clone() for name in space.names}
    prototypes.heads.end_epoch(iter(studies))
    assert all(torch.equal(prototypes.heads[name].prototypes, table) for name, table in again.items())


@torch.no_grad()
def test_heads_read_the_report_in_training_alone(tandem, draw_batch):
    images, labels, tokens = draw_batch(8)
    plain = tandem(images).logits
    told = tandem(images, labels, tokens).logits
    assert all(torch.equal(told[name], logits) for name, logits in plain.items())
    tandem.heads.train()  # the image module stays as it is
    tandem.training = True
    torch.manual_seed(0)
    learnt = tandem(images, labels, tokens).logits["conclusion"]
    shown = ~torch.isclose(learnt, plain["conclusion"], rtol=1e-9, atol=1e-9).all(dim=1)
    assert 0 < shown.sum() < 8  # half of the reports are hidden
    tokens[:, 0, 0] += 1
    torch.manual_seed(0)
    other = tandem(images, labels, tokens).logits["conclusion"]
    assert torch.equal((other != learnt).any(dim=1), shown)
