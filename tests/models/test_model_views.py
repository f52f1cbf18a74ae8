"""Several views of a study: one grid, one sum, and nothing from a view that is not there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from mdnet.data.study import MISSING
from mdnet.errors import ConfigurationError
from mdnet.inference.decoding import decode_greedily
from mdnet.models.attention import build_attention, softmax_there
from mdnet.models.configuration import ATTENTION_NAMES, MDNetConfig
from mdnet.models.image_module import stack_studies
from mdnet.models.mdnet import MDNet
from mdnet.models.objective import classification_loss, language_loss
from mdnet.models.prepared import Prepared
from mdnet.models.views import join_views, split_views

SHARED = ("sharpened", "additive")  # without weights of their own for each position


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def strip_of(*views: Tensor) -> Tensor:
    """Images (B, C, H, W) of each view side by side."""
    return torch.cat(views, dim=3)


def columns_of(maps: Tensor, view: int, views: int) -> Tensor:
    each = maps.shape[-1] // views
    return maps[..., view * each : (view + 1) * each]


def same_weights(build_model, views: int, **options) -> tuple[MDNet, MDNet]:
    """A model of so many views and one of a single view, every number alike."""
    several, single = build_model(views=views, **options), build_model(**options)
    single.load_state_dict(several.state_dict())
    return several, single


def test_a_strip_is_taken_apart_and_put_together_again():
    strip = torch.arange(2 * 3 * 4 * 15.0).view(2, 3, 4, 15)
    images = split_views(strip, 3)
    assert images.shape == (6, 3, 4, 5)
    assert torch.equal(images[4], strip[1, :, :, 5:10])
    assert torch.equal(join_views(images, 3), strip)
    with pytest.raises(ConfigurationError, match="15 columns of pixels are not 2 views of one width"):
        split_views(strip, 2)


def test_logits_are_of_the_mean_over_the_positions_of_all_views(build_model, draw_batch):
    several, single = same_weights(build_model, 2)
    first, second = draw_batch(3).pixel_values, draw_batch(3, seed=1).pixel_values
    output = several(strip_of(first, second))
    ones = single(first), single(second)
    for name, head in zip(several.config.space.names, several.heads.heads, strict=True):
        naive = head.bias.expand(3, -1)
        for block, weight in enumerate(head.block_weights()):
            positions = torch.cat([one.features.blocks[block].flatten(2) for one in ones], dim=2)
            naive = naive + positions.mean(dim=2) @ weight.T
        close(output.logits[name], naive)
        close(output.logits[name], (ones[0].logits[name] + ones[1].logits[name]) / 2)
    grid = output.features.grid.unflatten(1, (4, 8))
    close(grid[:, :, :4].flatten(1, 2), ones[0].features.grid)
    close(grid[:, :, 4:].flatten(1, 2), ones[1].features.grid)
    assert (output.features.rows, output.features.columns) == (4, 8)


def test_attention_is_one_softmax_over_the_positions_of_both_views(build_model, draw_batch):
    several, single = same_weights(build_model, 2)
    first, second = draw_batch(2).pixel_values, draw_batch(2, seed=1).pixel_values
    _, labels, tokens = draw_batch(2)
    output = several(strip_of(first, second), labels, tokens)
    contrast = single.guiding_weights(single.encode(first), labels)  # w^c - w^r of each section, (B, S, D)
    evidence = torch.cat(
        [
            (contrast @ single.encode(view).grid.transpose(1, 2)).unflatten(2, (4, 4))
            for view in (first, second)
        ],
        dim=3,
    )  # (B, S, 4, 8)
    prepared = several.prepare(output.features, several.guides(output.logits, labels))
    state = several.report.initial_state(prepared)  # h_0 = 0 before the first word
    sharpness = torch.nn.functional.softplus(several.report.attention.sharpness(state.hidden))
    naive = (sharpness[..., None] * evidence).flatten(2).softmax(dim=-1)
    close(output.attention[:, :, 0], naive)
    close(output.attention.sum(dim=-1), torch.ones(2, 4, 6, dtype=torch.float64))


@pytest.mark.parametrize("attention", SHARED)
def test_the_order_of_views_moves_the_maps_and_nothing_else(build_model, draw_batch, attention):
    model = build_model(views=3, attention=attention)
    views = [draw_batch(2, seed=seed).pixel_values for seed in range(3)]
    _, labels, tokens = draw_batch(2)
    order = [2, 0, 1]
    plain = model(strip_of(*views), labels, tokens)
    moved = model(strip_of(*(views[place] for place in order)), labels, tokens)
    close(moved.loss, plain.loss)
    close(moved.report_logits, plain.report_logits)
    for name in plain.logits:
        close(moved.logits[name], plain.logits[name])
        for before, after in zip(
            model.evidence(plain.features)[name], model.evidence(moved.features)[name], strict=True
        ):
            for place, view in enumerate(order):
                close(columns_of(after, place, 3), columns_of(before, view, 3))
    before, after = (output.attention.unflatten(-1, (4, 12)) for output in (plain, moved))
    for place, view in enumerate(order):
        close(columns_of(after, place, 3), columns_of(before, view, 3))


@pytest.mark.parametrize("attention", SHARED)
@pytest.mark.parametrize("there", [0, 1, 2])
def test_a_study_with_one_view_gets_what_a_model_of_one_view_says(build_model, draw_batch, attention, there):
    several, single = same_weights(build_model, 3, attention=attention)
    images, labels, tokens = draw_batch(3)
    strip = torch.full((3, 3, 32, 96), torch.nan, dtype=torch.float64)  # content that must not be looked at
    columns_of(strip, there, 3)[:] = images
    present = torch.zeros(3, 3, dtype=torch.bool)
    present[:, there] = True
    found, expected = several(strip, labels, tokens, present=present), single(images, labels, tokens)
    close(found.loss, expected.loss)
    close(found.report_logits, expected.report_logits)
    close(found.log_likelihood, expected.log_likelihood)
    close(found.features.pooled(), expected.features.pooled())
    for name, logits in expected.logits.items():
        close(found.logits[name], logits)
        close(found.block_logits[name], expected.block_logits[name])
    attention_maps = found.attention.unflatten(-1, (4, 12))
    close(columns_of(attention_maps, there, 3).flatten(-2), expected.attention)
    evidence = several.evidence(found.features)
    for view in {0, 1, 2} - {there}:
        assert not columns_of(attention_maps, view, 3).any()
        assert not any(columns_of(maps, view, 3).any() for each in evidence.values() for maps in each)


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@torch.no_grad()
def test_a_batch_of_mixed_studies_equals_one_by_one(build_model, draw_batch, attention):
    model = build_model(views=2, attention=attention)
    strip, labels, tokens = draw_batch(4, size=(32, 64))
    present = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    together = model(strip, labels, tokens, present=present)
    guides = model.guides(together.logits)
    written = decode_greedily(model, together.features, model.prepare(together.features, guides))
    for row in range(4):
        part = slice(row, row + 1)
        own = {name: label[part] for name, label in labels.items()}
        whole = bool(present[row].all())
        alone = model(strip[part], own, tokens[part], present=None if whole else present[part])
        close(together.report_logits[part], alone.report_logits)
        close(together.attention[part], alone.attention)
        assert all(torch.isfinite(logits).all() for logits in alone.logits.values())
        for name, logits in alone.logits.items():
            close(together.logits[name][part], logits)
        features = alone.features
        words = decode_greedily(model, features, model.prepare(features, model.guides(alone.logits))).tokens
        length = words.shape[-1]
        assert torch.equal(written.tokens[part][..., :length], words)
        missing = ~present[row].repeat_interleave(4).repeat(4)
        assert not together.attention[row][..., missing].any()


def test_evidence_and_bias_sum_to_the_logits_with_views_missing(build_model, draw_batch):
    model = build_model(views=3)
    present = torch.tensor([[True, False, True], [False, True, False], [True, True, True]])
    output = model(draw_batch(3, size=(32, 96)).pixel_values, present=present)
    for name, maps in model.evidence(output.features).items():
        total = sum(each.sum(dim=(2, 3)) for each in maps) + model.heads[name].bias
        close(total, output.logits[name])


@pytest.mark.parametrize("present", [None, [[True, True], [True, False], [False, True]]])
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_gradients_are_those_of_the_formula_and_none_comes_from_a_missing_view(
    build_model, draw_batch, attention, present
):
    model = build_model(views=2, attention=attention)
    images, labels, tokens = draw_batch(3, size=(32, 64))
    labels["mitosis"][0] = MISSING
    present = None if present is None else torch.tensor(present)
    beta, eta = 0.3, 2.0
    images.requires_grad_()
    output = model(images, labels, tokens, present=present, beta=beta, eta=eta)
    parameters = list(model.image.parameters())
    one_pass = torch.autograd.grad(output.loss, [*parameters, images], retain_graph=True)

    features = model.encode(images, present)
    logits = model.heads(features)[0]
    prepared = model.prepare(features, model.guides(logits, labels))
    begin = torch.tensor(model.config.begin_ids)[None, :, None].expand(3, -1, 1)
    words = model.report(torch.cat([begin, tokens[:, :, :-1]], dim=2), features.grid, prepared).logits
    of_m = classification_loss(logits, labels, model.config.space)
    of_l, _ = language_loss(words, tokens, model.config.pad_id)
    apart = [
        torch.autograd.grad(loss, [*parameters, images], retain_graph=True, allow_unused=True)
        for loss in (of_m, of_l)
    ]
    for found, by_m, by_l in zip(one_pass, *apart, strict=True):
        zero = torch.zeros_like(found)
        by_m, by_l = (zero if each is None else each for each in (by_m, by_l))
        close(found, (1 - beta) * by_m + beta * eta * by_l)
        assert torch.isfinite(found).all()
    if present is not None:
        assert not columns_of(one_pass[-1][1], 1, 2).any()
        assert not columns_of(one_pass[-1][2], 0, 2).any()
        assert columns_of(one_pass[-1][2], 1, 2).any()


def test_gradients_of_the_input_are_right_by_finite_differences(build_model, draw_batch):
    model = build_model(views=2, widths=[2, 3], depths=[1, 1], strides=[1, 2], image_size=8)
    strip = draw_batch(1, size=(8, 16)).pixel_values.requires_grad_()
    present = torch.tensor([[False, True]])
    torch.autograd.gradcheck(lambda x: model(x, present=present).logits["mitosis"], (strip,))


def test_batch_statistics_are_of_the_images_that_are_there(build_model, draw_batch):
    model = build_model(views=2).train()
    twin = copy.deepcopy(model)
    strip = draw_batch(3, size=(32, 64)).pixel_values
    present = torch.tensor([[True, True], [True, False], [False, True]])
    real = split_views(strip, 2)[present.flatten()]
    strip[1, :, :, 32:] = 1e6
    strip[2, :, :, :32] = torch.nan
    model.encode(strip, present)
    twin.image(real)
    for (name, found), expected in zip(model.image.named_buffers(), twin.image.buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())


def test_a_study_without_views_or_a_mask_of_another_shape_is_refused(build_model, draw_batch):
    model, strip = build_model(views=2), draw_batch(2, size=(32, 64)).pixel_values
    with pytest.raises(ConfigurationError, match="study 1 of the batch has no view"):
        model(strip, present=torch.tensor([[True, True], [False, False]]))
    with pytest.raises(ConfigurationError, match=r"of shape \(2, 3\): give a bool for every view, \(2, 2\)"):
        model(strip, present=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ConfigurationError, match=r"present is torch\.float32"):
        model(strip, present=torch.ones(2, 2))
    with pytest.raises(ConfigurationError, match="study 0 of the batch has no view"):
        build_model()(strip, present=torch.zeros(2, 1, dtype=torch.bool))
    with pytest.raises(ConfigurationError, match="views 0: give at least 1"):
        build_model(views=0)


def test_one_view_goes_straight_through_the_image_module(build_model, draw_batch):
    model, images = build_model(dtype=torch.float32), draw_batch(2).pixel_values.float()
    assert model.config.views == 1
    features, plain = model.encode(images), model.image(images)
    assert torch.equal(features.grid, plain.grid)
    assert features.there is None
    everything = model.encode(images, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(everything.grid, plain.grid)


def test_no_convolution_crosses_the_border_between_two_views(build_model, draw_batch):
    model = build_model(views=2)
    strip = draw_batch(1, size=(32, 64)).pixel_values
    before = model.encode(strip).blocks
    strip[:, :, :, 32:] += 1.0
    for block, changed in zip(before, model.encode(strip).blocks, strict=True):
        close(columns_of(changed, 0, 2), columns_of(block, 0, 2))
        assert not torch.equal(columns_of(changed, 1, 2), columns_of(block, 1, 2))


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_scores_that_would_overflow_leave_missing_positions_at_zero(attention):
    config = MDNetConfig(
        image_size=4, stem_stride=2, widths=[3], depths=[1], strides=[1], views=2, attention=attention,
        label_space={"aspects": [{"name": "a", "classes": ["x", "y"]}]}, hidden_size=5, attention_size=4,
    )  # fmt: skip
    module = build_attention(config).double()
    features, evidence = torch.rand(2, 8, 3).double(), 1e5 * torch.randn(2, 6, 8).double()
    there = torch.tensor([[True, True, False, False] * 2, [False, False, True, True] * 2])
    prepared = module.prepare(features, evidence, there[:, None])
    weights = module(torch.randn(2, 6, 5).double(), prepared)
    assert isinstance(prepared, Prepared)
    assert torch.isfinite(weights).all()
    assert not weights[~there[:, None].expand_as(weights)].any()
    close(weights.sum(dim=-1), torch.ones(2, 6, dtype=torch.float64))


def test_a_softmax_over_half_the_places_has_a_finite_gradient():
    scores = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    there = torch.tensor([[[True, False, True, False]]])
    assert torch.autograd.gradcheck(lambda x: softmax_there(x, there), (scores,))


@torch.no_grad()
def test_a_twin_of_fewer_views_says_what_the_model_says_of_studies_that_lack_the_others(
    build_model, draw_batch
):
    model = build_model(views=3)
    images = draw_batch(2, size=(32, 64)).pixel_values
    strip = torch.cat([images, torch.zeros(2, 3, 32, 32, dtype=torch.float64)], dim=3)
    present = torch.tensor([[True, True, False]]).expand(2, -1)
    _, labels, tokens = draw_batch(2)
    twin = model.with_views(2)
    found, expected = twin(images, labels, tokens), model(strip, labels, tokens, present=present)
    close(found.loss, expected.loss)
    close(found.report_logits, expected.report_logits)
    assert model.views == 3
    assert next(twin.parameters()) is next(model.parameters())
    with pytest.raises(ConfigurationError, match=r"give images of 32 x 32 pixels, 3 side by side"):
        build_model(views=3, attention="mdnet").with_views(2)(images, labels, tokens)


def test_features_of_studies_are_taken_out_of_a_batch_and_stacked_again(build_model, draw_batch):
    model, strip = build_model(views=2), draw_batch(3, size=(32, 64)).pixel_values
    features = model.encode(strip, torch.tensor([[True, True], [True, False], [False, True]]))
    stacked = stack_studies([features.of_study(row) for row in range(3)])
    assert torch.equal(stacked.grid, features.grid)
    assert torch.equal(stacked.there, features.there)
    whole = model.encode(strip[:1])
    mixed = stack_studies([whole, features.of_study(1)])
    assert mixed.present.tolist() == [[True, True], [True, False]]
    assert stack_studies([whole, whole]).present is None


@torch.no_grad()
def test_a_model_of_two_views_is_saved_and_loaded(build_model, draw_batch, tmp_path):
    model = build_model(views=2, dtype=torch.float32)
    model.save_pretrained(tmp_path)
    loaded = MDNet.from_pretrained(tmp_path)
    assert (loaded.views, loaded.config.views) == (2, 2)
    strip, present = (
        draw_batch(2, size=(32, 64)).pixel_values.float(),
        torch.tensor([[True, True], [True, False]]),
    )
    for name, logits in model(strip, present=present).logits.items():
        assert torch.equal(loaded(strip, present=present).logits[name], logits)
