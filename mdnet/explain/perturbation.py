"""Maps from what the score loses when parts of the image are covered, by captum.

What "covered" means is a choice, `baseline`; which parts is another, `superpixels`. Changed copies go
through the model together. LIME's kernel and regularisation are those of its authors' package.

References:
    1. Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
       arXiv 1311.2901, section 4.2 (occlusion).
    2. Ribeiro et al., "Why Should I Trust You?", KDD 2016, arXiv 1602.04938 (LIME).
    3. Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017,
       arXiv 1705.07874 (KernelSHAP).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import FeatureAblation, KernelShap, Lime, Occlusion
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.explain.baselines import baseline_images
from mdnet.explain.batching import IMAGES_AT_ONCE, check_at_least, image_by_image
from mdnet.explain.registry import Maps, register_method
from mdnet.explain.superpixels import superpixels_of
from mdnet.explain.targets import Scorer

__all__ = ["feature_ablation", "kernel_shap", "lime", "occlusion"]

_KERNEL_WIDTH = 0.25  # of LIME's weights, as in the authors' package for images
_RIDGE = 1.0  # LIME's regularisation, likewise


@register_method("occlusion", unit="{unit} lost when covered")
@torch.no_grad()
def occlusion(
    scorer: Scorer, pixel_values: Tensor, *, window: int = 16, stride: int = 8, baseline: str = "mean"
) -> Tensor:
    """Occlusion: what the score loses when a sliding square is covered [1].

    A pixel's value is the mean over all squares that cover it.

    Args:
        scorer: What is explained.
        pixel_values: Images.
        window: Side of the square in pixels of the model's input.
        stride: From one square to the next, at most `window`.
        baseline: What covers, one of `BASELINES`.
    """
    side = min(pixel_values.shape[-2:])
    if not 1 <= stride <= window <= side:
        raise ConfigurationError(
            f"window {window}, stride {stride}: 1 <= stride <= window <= {side}, the image's shorter side"
        )
    channels = pixel_values.shape[1]
    maps = Occlusion(scorer).attribute(
        pixel_values,
        sliding_window_shapes=(channels, window, window),
        strides=(channels, stride, stride),
        baselines=baseline_images(baseline, scorer.model, pixel_values),
        perturbations_per_eval=_copies(pixel_values),
    )
    return maps[:, 0]  # the square covers all channels


@register_method("feature_ablation", unit="{unit} lost when the superpixel is covered")
@torch.no_grad()
def feature_ablation(
    scorer: Scorer,
    pixel_values: Tensor,
    *,
    superpixels: str = "grid",
    parts: int = 64,
    baseline: str = "mean",
) -> Tensor:
    """Feature ablation: what the score loses when one superpixel is covered; its pixels share the value.

    Args:
        scorer: What is explained.
        pixel_values: Images.
        superpixels: `grid`, or `slic`, which follows edges.
        parts: About how many superpixels.
        baseline: What covers, one of `BASELINES`.
    """
    segments = superpixels_of(superpixels, scorer.model, pixel_values, parts=parts)
    maps = FeatureAblation(scorer).attribute(
        pixel_values,
        baselines=baseline_images(baseline, scorer.model, pixel_values),
        feature_mask=segments[:, None],
        perturbations_per_eval=_copies(pixel_values),
    )
    return maps[:, 0]


@register_method("lime", unit="{unit} per superpixel shown", randomised=True)
@torch.no_grad()
def lime(
    scorer: Scorer,
    pixel_values: Tensor,
    *,
    superpixels: str = "grid",
    parts: int = 64,
    baseline: str = "mean",
    samples: int = 512,
) -> Tensor:
    """LIME: weights of a linear model of the score, fitted where superpixels are shown at random [2].

    Args:
        scorer: What is explained.
        pixel_values: Images.
        superpixels: `grid`, or `slic`, which follows edges.
        parts: About how many superpixels.
        baseline: What covers those not shown, one of `BASELINES`.
        samples: Images with about half their superpixels covered, more than `parts`.
    """
    check_at_least(parts + 1, samples=samples)

    def draw(image: Tensor) -> Tensor:
        segments = superpixels_of(superpixels, scorer.model, image, parts=parts)
        weights = Lime(
            scorer, interpretable_model=SkLearnRidge(alpha=_RIDGE), similarity_func=_similarity
        ).attribute(
            image,
            baselines=baseline_images(baseline, scorer.model, image),
            feature_mask=segments[:, None],
            n_samples=samples,
            perturbations_per_eval=IMAGES_AT_ONCE,
            return_input_shape=False,
        )
        return weights.flatten()[segments]

    return image_by_image(draw, pixel_values)


@register_method("kernel_shap", unit="{unit}", randomised=True)
@torch.no_grad()
def kernel_shap(
    scorer: Scorer,
    pixel_values: Tensor,
    *,
    superpixels: str = "grid",
    parts: int = 64,
    baseline: str = "mean",
    samples: int = 512,
) -> Maps:
    """KernelSHAP: superpixels' Shapley values, each spread evenly over its pixels [3].

    The map and the score of the image wholly covered sum to the score.

    Args:
        scorer: What is explained.
        pixel_values: Images.
        superpixels: `grid`, or `slic`, which follows edges.
        parts: About how many superpixels.
        baseline: What covers those not shown, one of `BASELINES`.
        samples: Images with some superpixels covered, more than `parts`.
    """
    check_at_least(parts + 1, samples=samples)

    def draw(image: Tensor) -> Tensor:
        segments = superpixels_of(superpixels, scorer.model, image, parts=parts)
        values = KernelShap(scorer).attribute(
            image,
            baselines=baseline_images(baseline, scorer.model, image),
            feature_mask=segments[:, None],
            n_samples=samples,
            perturbations_per_eval=IMAGES_AT_ONCE,
            return_input_shape=False,
        )
        return (values.flatten() / segments.flatten().bincount())[segments]

    covered = scorer(baseline_images(baseline, scorer.model, pixel_values))
    return Maps(image_by_image(draw, pixel_values), covered)


def _copies(pixel_values: Tensor) -> int:
    """Changed copies of each image in one pass."""
    return max(1, IMAGES_AT_ONCE // len(pixel_values))


def _similarity(image: Tensor, changed: Tensor, shown: Tensor, **_: Any) -> float:
    """LIME's weight of a sample: an exponential kernel on the cosine distance of what is shown from all."""
    distance = 1.0 - math.sqrt(float(shown.float().mean()))
    return math.exp(-(distance**2) / (2.0 * _KERNEL_WIDTH**2))
