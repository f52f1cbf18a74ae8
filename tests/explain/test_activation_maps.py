"""CAM and Grad-CAM equal the formulas of their papers, and parts of the evidence of MDNet."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.explain.activation_maps import cam, grad_cam
from mdnet.explain.targets import ClassTarget, Scorer, Target, WordTarget
from mdnet.models.mdnet import MDNet

CLASSES = [
    ClassTarget("conclusion", "high grade"),
    ClassTarget("mitosis", "frequent", "absent"),
    ClassTarget("findings", "nodule"),
]
WORD = WordTarget("mitosis", ("mitotic", "figures", "are"))
BLOCKS = ("block1", "block2", "block3")


@pytest.fixture
def images(draw_batch) -> Tensor:
    return draw_batch(3).pixel_values


def evidence_of_block(model: MDNet, target: ClassTarget, images: Tensor, block: int) -> Tensor:
    """Formula 3, written out: `w_m . y_m(i, j) / cells_m`."""
    maps = model.image(images).blocks[block]  # (B, D_m, rows, columns)
    head, widths = model.heads[target.aspect], model.config.widths
    start = sum(widths[:block])
    weights = target.weights(model)[1].double() @ head.weight[:, start : start + widths[block]]
    return sum(w * maps[:, d] for d, w in enumerate(weights)) / (maps.shape[2] * maps.shape[3])


@pytest.mark.parametrize("target", CLASSES, ids=str)
@torch.no_grad()
def test_cam_is_the_evidence_of_the_last_block(build_model, images, target):
    model = build_model()
    drawn = cam(Scorer(model, target), images)
    torch.testing.assert_close(drawn.maps, evidence_of_block(model, target, images, 2))


@pytest.mark.parametrize("target", CLASSES, ids=str)
@torch.no_grad()
def test_cam_and_what_it_leaves_out_sum_to_the_score(build_model, images, target):
    model = build_model()
    scorer = Scorer(model, target)
    drawn = cam(scorer, images)
    torch.testing.assert_close(drawn.maps.sum(dim=(1, 2)) + drawn.offset, scorer(images))
    bias = target.weights(model)[1].double() @ model.heads[target.aspect].bias
    others = sum(evidence_of_block(model, target, images, block).sum(dim=(1, 2)) for block in (0, 1))
    torch.testing.assert_close(drawn.offset, others + bias)


def grad_cam_by_hand(model: MDNet, target: Target, images: Tensor, block: int) -> Tensor:
    """ReLU(sum_k alpha_k A^k), alpha_k the mean of d score / d A^k over positions, from an edited forward."""
    kept = {}

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept["A"] = output

    handle = model.image.activations[block].register_forward_hook(keep)
    score = target.score(model, images)
    handle.remove()
    maps = []
    for study in range(len(images)):
        gradient = torch.autograd.grad(score[study], kept["A"], retain_graph=True)[0][study]
        alpha = [channel.sum() / channel.numel() for channel in gradient]
        maps.append(sum(a * A for a, A in zip(alpha, kept["A"][study], strict=True)).clamp_min(0))
    return torch.stack(maps).detach()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("target", [*CLASSES, WORD], ids=str)
def test_grad_cam_equals_the_formula_at_every_block(build_model, images, target, block):
    model = build_model()
    drawn = grad_cam(Scorer(model, target), images, block=block)
    expected = grad_cam_by_hand(model, target, images, BLOCKS.index(block))
    torch.testing.assert_close(drawn, expected)
    assert drawn.shape[1:] == model.image(images).blocks[BLOCKS.index(block)].shape[2:]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("target", CLASSES, ids=str)
def test_grad_cam_of_a_class_is_the_positive_part_of_the_blocks_evidence(build_model, images, target, block):
    model = build_model()
    drawn = grad_cam(Scorer(model, target), images, block=block)
    evidence = evidence_of_block(model, target, images, BLOCKS.index(block))
    torch.testing.assert_close(drawn, evidence.clamp_min(0))


def test_grad_cam_takes_the_last_block_unless_named(build_model, images):
    scorer = Scorer(build_model(), WORD)
    torch.testing.assert_close(grad_cam(scorer, images), grad_cam(scorer, images, block="block3"))


def test_grad_cam_works_on_a_frozen_model(build_model, images):
    free, frozen = build_model(), build_model().requires_grad_(False)
    expected = grad_cam(Scorer(free, WORD), images)
    torch.testing.assert_close(grad_cam(Scorer(frozen, WORD), images), expected)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_grad_cam_names_the_blocks_there_are(build_model, images):
    with pytest.raises(ConfigurationError, match=r"no block .layer4.; .* block1, block2, block3, or last"):
        grad_cam(Scorer(build_model(), WORD), images, block="layer4")
