"""Superpixels are numbered without gaps, cover the image, and SLIC's keep to edges."""

from __future__ import annotations

import sys

import pytest
import torch

from mdnet.errors import MissingExtraError
from mdnet.explain.superpixels import SUPERPIXELS, superpixels_of


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (20, 33)])
@pytest.mark.parametrize("kind", SUPERPIXELS)
def test_numbers_have_no_gaps(build_model, draw_batch, kind, size, channels):
    model = build_model(image_channels=channels)
    images = draw_batch(2, size=size, channels=channels).pixel_values
    segments = superpixels_of(kind, model, images, parts=16)
    assert segments.shape == (2, *size)
    for numbers in segments:
        assert numbers.unique().tolist() == list(range(int(numbers.max()) + 1))
        assert 2 <= len(numbers.unique()) <= 32


def test_a_grid_cuts_into_equal_rectangles_left_to_right(build_model, draw_batch):
    segments = superpixels_of("grid", build_model(), draw_batch(1).pixel_values, parts=17)[0]
    assert segments.flatten().bincount().tolist() == [64] * 16
    assert segments[::8, ::8].tolist() == torch.arange(16).reshape(4, 4).tolist()


def test_slic_keeps_to_an_edge(build_model):
    images = torch.full((1, 3, 32, 32), -3.0, dtype=torch.float64)
    images[..., :13] = 2.0  # a bright part that no grid line meets
    segments = superpixels_of("slic", build_model(), images, parts=16)[0]
    left, right = segments[:, :11], segments[:, 15:]  # SLIC smooths by a pixel
    assert not set(left.unique().tolist()) & set(right.unique().tolist())


def test_slic_cuts_an_image_of_one_colour(build_model):
    images = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    assert superpixels_of("slic", build_model(), images, parts=16).unique().numel() >= 2


def test_slic_without_scikit_image_says_what_to_install(build_model, draw_batch, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingExtraError, match=r"skimage is not installed: pip install .mdnet\[slic\]."):
        superpixels_of("slic", build_model(), draw_batch(1).pixel_values, parts=16)
