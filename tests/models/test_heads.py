"""Evidence is exact, blocks stay apart, and contrasts are those of the formula."""

from __future__ import annotations

import pytest
import torch

from mdnet.data.phantom import draw_study, render
from mdnet.data.study import Aspect, LabelSpace
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import get_architecture, list_models
from mdnet.models.weights import list_weights


def assert_complete(model: MDNet, images: torch.Tensor) -> None:
    """Maps and bias give every logit to 1e-4 of the logits' scale, and the blocks' shares likewise."""
    output = model(images)
    for name, blocks in model.evidence(output.features).items():
        logits, bias = output.logits[name], model.heads[name].bias
        tolerance = {"rtol": 1e-4, "atol": 1e-5 * float(logits.abs().max())}
        sums = torch.stack([maps.sum(dim=(2, 3)) for maps in blocks], dim=1)  # (B, M, classes)
        torch.testing.assert_close(sums.sum(dim=1) + bias, logits, **tolerance)
        torch.testing.assert_close(output.block_logits[name].sum(dim=1) + bias, logits, **tolerance)
        torch.testing.assert_close(sums, output.block_logits[name], **tolerance)
        native = [block.shape[-2:] for block in output.features.blocks]
        assert [maps.shape[-2:] for maps in blocks] == native


@pytest.mark.parametrize("name", list_models("mdnet_*"))
@torch.no_grad()
def test_evidence_and_bias_give_the_logits_of_every_registered_model(build_model, draw_batch, name):
    model = build_model(name, dtype=torch.float32, **get_architecture(name).options)
    size = model.config.image_size
    assert_complete(model, draw_batch(1, size=(size, size)).pixel_values.float())


@pytest.mark.parametrize("name", list_weights())
@torch.no_grad()
def test_evidence_and_bias_give_the_logits_of_all_weights_that_ship(name):
    model = MDNet.from_pretrained(name).eval()
    size, channels = model.config.image_size, model.config.image_channels
    tile = torch.from_numpy(render(draw_study(11, 0), size).image)  # (rows, columns, 3)
    images = model.preprocessing.normalise(tile.permute(2, 0, 1)[None, :channels])
    assert_complete(model, torch.cat([images, images.flip(3)]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("size", [(32, 32), (33, 50), (7, 90)])
@torch.no_grad()
def test_evidence_and_bias_give_the_logits_at_any_block_channels_and_size(
    build_model, draw_batch, size, block, channels
):
    model = build_model(block=block, image_channels=channels, dtype=torch.float32)
    assert_complete(model, draw_batch(2, size=size, channels=channels).pixel_values.float())


@torch.no_grad()
def test_evidence_stays_exact_with_the_batch_statistics_of_training(build_model, draw_batch):
    assert_complete(build_model(dtype=torch.float32).train(), draw_batch(4).pixel_values.float())


def test_logits_equal_the_formula_written_out(build_model, draw_batch):
    model = build_model()
    output = model(draw_batch(2).pixel_values)
    for name in model.config.space.names:
        head = model.heads[name]
        for study in range(2):
            for c in range(len(head.bias)):
                logit, start = head.bias[c], 0
                for block in output.features.blocks:
                    width, rows, columns = block.shape[1:]
                    weight = head.weight[c, start : start + width]
                    for i in range(rows):
                        for j in range(columns):
                            logit = logit + weight @ block[study, :, i, j] / (rows * columns)
                    start += width
                torch.testing.assert_close(output.logits[name][study, c], logit)


def test_a_block_s_class_weights_change_that_block_s_share_alone(build_model, draw_batch):
    model, images = build_model(), draw_batch(2).pixel_values
    before = model(images).block_logits
    starts = [0, 4, 10, 18]
    for block in range(3):
        with torch.no_grad():
            model.heads["mitosis"].weight[1, starts[block] : starts[block + 1]] += 1.0
        after = model(images).block_logits
        changed = after["mitosis"] != before["mitosis"]  # (B, M, classes)
        assert changed[:, block, 1].all()
        assert changed.sum() == 2
        assert all(torch.equal(after[name], before[name]) for name in before if name != "mitosis")
        before = after


def test_contrast_of_two_classes_is_the_difference_of_their_logits(build_model, draw_batch):
    model, images = build_model(), draw_batch(3).pixel_values
    output = model(images)
    grid = output.features.grid.mean(dim=1)  # (B, D)
    head = model.heads["mitosis"]
    weights = model.heads.contrast_weights(model.config.space["mitosis"], torch.tensor([2, 2, 2]))
    found = (weights * grid).sum(dim=1) + head.bias[2] - head.bias[0]
    expected = output.logits["mitosis"][:, 2] - output.logits["mitosis"][:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["mitosis", "cell.type", "conclusion"])
def test_contrast_weights_stand_against_the_reference_class(build_model, name):
    model = build_model()
    aspect, weight = model.config.space[name], model.heads[name].weight
    count, reference = len(aspect.classes), aspect.classes.index(aspect.reference)
    found = model.heads.contrast_weights(aspect, torch.arange(count))
    for c in range(count):
        if c != reference:
            expected = weight[c] - weight[reference]
        else:
            others = [weight[k] for k in range(count) if k != reference]
            expected = sum(others) / len(others) - weight[reference]
        torch.testing.assert_close(found[c], expected, rtol=1e-12, atol=1e-12)
    assert not found.requires_grad  # L_L does not rewrite theta_M


def test_contrast_is_the_same_when_one_vector_is_added_to_all_classes(build_model):
    model = build_model()
    aspect, classes = model.config.space["conclusion"], torch.tensor([0, 1, 2, 3])
    before = model.heads.contrast_weights(aspect, classes)
    with torch.no_grad():
        model.heads["conclusion"].weight += torch.randn(18, dtype=torch.float64)
    torch.testing.assert_close(model.heads.contrast_weights(aspect, classes), before)


def test_multi_label_contrast_is_the_mean_of_the_classes_present_or_of_all_if_none_is(build_model):
    model = build_model()
    aspect, weight = model.config.space["findings"], model.heads["findings"].weight
    present = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    found = model.heads.contrast_weights(aspect, present)
    torch.testing.assert_close(found[0], (weight[0] + weight[2]) / 2)
    torch.testing.assert_close(found[1], weight[1])
    torch.testing.assert_close(found[2], weight.mean(dim=0))


def test_predicted_class_is_the_likeliest_or_every_one_above_a_half(build_model, space):
    heads = build_model().heads
    logits = {"mitosis": torch.tensor([[0.0, 2.0, 1.0]]), "findings": torch.tensor([[-0.1, 0.1, 3.0]])}
    assert heads.predicted(logits, space["mitosis"]).tolist() == [1]
    assert heads.predicted(logits, space["findings"]).tolist() == [[0, 1, 1]]


def test_heads_of_a_single_multi_label_class_work(build_model, draw_batch):
    model = build_model(label_space=LabelSpace((Aspect("nodule", ("nodule",), multi_label=True),), "nodule"))
    images, _, tokens = draw_batch(2)
    output = model(images, {"nodule": torch.tensor([[1], [0]])}, tokens)
    assert output.logits["nodule"].shape == (2, 1)
    assert torch.isfinite(output.loss)
