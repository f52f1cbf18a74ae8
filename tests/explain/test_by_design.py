"""Evidence of a batch in one pass: the formula's terms, every class, every block, and their sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdnet.errors import ConfigurationError
from mdnet.explain.by_design import batch_evidence
from mdnet.explain.registry import explain
from mdnet.explain.targets import ClassTarget


def test_every_map_is_the_formula_s_term(small, pictures):
    model, images = small.model, small.pixel_values(pictures)
    found, features = batch_evidence(model, images), model.encode(images)
    assert list(found.blocks) == list(model.config.space.names)
    for aspect, blocks in found.blocks.items():
        assert list(blocks) == ["block1", "block2", "block3"]
        start = 0
        for (name, maps), block in zip(blocks.items(), features.blocks, strict=True):
            width, rows, columns = block.shape[1:]
            weight = model.heads[aspect].weight[:, start : start + width]
            expected = torch.full_like(maps, torch.nan)
            for i in range(rows):
                for j in range(columns):
                    expected[:, :, i, j] = block[:, :, i, j] @ weight.T / (rows * columns)
            torch.testing.assert_close(maps, expected, msg=lambda text, name=name: f"{name}: {text}")
            start += width


@pytest.mark.parametrize("size", [(32, 32), (33, 50)])
def test_every_logit_is_its_maps_and_bias(small, draw_batch, size):
    found = batch_evidence(small.model, draw_batch(2, size=size).pixel_values)
    for aspect in found.space.names:
        assert float(found.residual(aspect).abs().max()) < 1e-10
        with torch.no_grad():
            found.bias[aspect][0] += 1.0
        assert float(found.residual(aspect)[:, 0].max()) == pytest.approx(-1.0)
        with torch.no_grad():
            found.bias[aspect][0] -= 1.0  # it is the model's


def test_a_contrast_of_the_batch_is_the_one_of_each_finding(small, pictures):
    found = batch_evidence(small.model, small.pixel_values(pictures))
    blocks = found.contrast("mitosis", "frequent", against="rare")
    whole = found.summed("mitosis", "frequent", against="rare")
    alone = found.summed("mitosis", "frequent")
    for row, finding in enumerate(small(pictures)):
        expected = finding.evidence("mitosis", "frequent", against="rare")
        np.testing.assert_allclose(whole[row], expected, atol=1e-6)  # a finding keeps float32
        np.testing.assert_allclose(alone[row], finding.evidence("mitosis", "frequent"), atol=1e-6)
        for each in expected.blocks:
            np.testing.assert_allclose(blocks[each.name][row], each, atol=1e-6)


def test_a_batch_gives_what_its_images_give_alone(small, pictures):
    images = small.pixel_values(pictures)
    together = batch_evidence(small.model, images).blocks["conclusion"]["block2"]
    for row in range(len(images)):
        alone = batch_evidence(small.model, images[row : row + 1]).blocks["conclusion"]["block2"]
        torch.testing.assert_close(together[row : row + 1], alone)


def test_names_that_the_model_lacks_are_refused(small, pictures):
    found = batch_evidence(small.model, small.pixel_values(pictures[:1]))
    for call in (
        lambda: found.contrast("polarity", "lost"),
        lambda: found.summed("mitosis", "lost"),
        lambda: found.contrast("mitosis", "rare", against="lost"),
        lambda: found.residual("polarity"),
    ):
        with pytest.raises(ConfigurationError, match=r"no aspect 'polarity'|no class 'lost'"):
            call()
    with pytest.raises(ConfigurationError, match="no block 'block4'; the model's blocks: block1, block2, bl"):
        explain(small, pictures[:1], block="block4")


def test_a_model_without_heads_has_no_evidence(make_predictor, pictures):
    predictor = make_predictor(label_space=None)
    found = batch_evidence(predictor.model, predictor.pixel_values(pictures[:1]))
    assert (found.blocks, found.bias, found.logits) == ({}, {}, {})


@pytest.mark.parametrize(
    "target", [ClassTarget("mitosis", "rare", "absent"), ClassTarget("findings", "nodule")]
)
def test_the_method_s_map_is_complete_whole_or_one_block(small, pictures, target):
    whole = explain(small, pictures, target=target)
    parts = {
        name: explain(small, pictures, target=target, block=name) for name in small.model.config.block_names
    }
    for row, each in enumerate(whole):
        assert each.map.shape == (32, 32)
        assert abs(each.residual) < 1e-10
        shapes = [parts[name][row].map.shape for name in parts]
        assert shapes == [(16, 16), (8, 8), (4, 4)]
        assert all(abs(part[row].residual) < 1e-10 for part in parts.values())
        assert sum(part[row].map.sum() for part in parts.values()) == pytest.approx(each.map.sum(), abs=1e-10)
