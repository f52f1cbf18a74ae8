"""The image module keeps every group of channels apart, at any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mdnet.models.image_module import ImageModule, ResidualFunction


def stage_parameters(image: ImageModule, number: int) -> list[torch.nn.Parameter]:
    return [*image.stages[number].parameters(), *image.activations[number].parameters()]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_no_block_depends_on_a_later_stage_or_on_the_activation_of_another(build_model, draw_batch, block):
    image = build_model(block=block).image
    blocks = image(draw_batch().pixel_values).blocks
    for number, features in enumerate(blocks):
        for later in range(number + 1, len(blocks)):
            gradients = torch.autograd.grad(
                features.sum(), stage_parameters(image, later), retain_graph=True, allow_unused=True
            )
            assert all(gradient is None for gradient in gradients), f"block {number} uses stage {later}"
        for other in set(range(len(blocks))) - {number}:
            gradients = torch.autograd.grad(
                features.sum(), image.activations[other].parameters(), retain_graph=True, allow_unused=True
            )
            assert all(gradient is None for gradient in gradients)


def test_an_ensemble_connection_reads_every_group_before_it(build_model, draw_batch):
    image = build_model(widths=[3, 4, 5, 6], depths=[1, 1, 1, 1], strides=[1, 2, 1, 2]).image
    last = image.stages[3].opening[0].layers[0]  # its BatchNorm sees all groups side by side
    assert last.num_features == 3 + 4 + 5
    inputs, groups = [], []
    handles = [last.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))]
    handles += [
        stage.register_forward_hook(lambda module, arguments, output: groups.append(output))
        for stage in image.stages
    ]
    image(draw_batch().pixel_values)
    for handle in handles:
        handle.remove()
    size = groups[2].shape[-2:]
    expected = torch.cat([F.adaptive_avg_pool2d(group, size) for group in groups[:3]], dim=1)
    torch.testing.assert_close(inputs[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
@pytest.mark.parametrize("size", [32, 33, 47])
def test_grid_size_of_the_configuration_is_that_of_the_features(build_model, draw_batch, size, stem_stride):
    model = build_model(image_size=size, stem_stride=stem_stride, strides=[1, 2, 3])
    features = model.encode(draw_batch(1, size=(size, size)).pixel_values)
    assert (features.rows, features.columns) == (model.config.grid_size,) * 2
    assert features.grid.shape == (1, model.config.grid_size**2, sum(model.config.widths))


def test_blocks_keep_their_own_resolution_and_the_grid_is_their_mean_over_cells(build_model, draw_batch):
    features = build_model().encode(draw_batch(2, size=(32, 64)).pixel_values)
    assert [tuple(block.shape[1:]) for block in features.blocks] == [(4, 16, 32), (6, 8, 16), (8, 4, 8)]
    first = features.blocks[0].reshape(2, 4, 4, 4, 8, 4).mean(dim=(3, 5))  # 4 x 4 pixels a cell
    torch.testing.assert_close(features.grid[..., :4], first.flatten(2).transpose(1, 2))
    last = features.blocks[2].flatten(2).transpose(1, 2)
    torch.testing.assert_close(features.grid[..., 10:], last, rtol=0, atol=0)
    assert all((block >= 0).all() for block in features.blocks)  # ReLU


def test_a_bottleneck_is_1x1_3x3_1x1_with_a_quarter_of_the_channels():
    layers = ResidualFunction(6, 16, stride=2, block="bottleneck").layers
    shapes = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in layers[2::3]]
    assert shapes == [(6, 4, 1, 1), (4, 4, 3, 2), (4, 16, 1, 1)]


def test_features_of_an_image_do_not_depend_on_the_others_of_its_batch(build_model, draw_batch):
    model, images = build_model(), draw_batch(4).pixel_values
    together = model.encode(images).grid
    alone = torch.cat([model.encode(image[None]).grid for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
