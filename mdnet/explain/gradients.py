"""Maps from the gradient of the score with respect to the image, by captum.

Each method reduces the channels as its authors do: those that show a gradient take the largest
absolute value over the channels, those that share out a score take the sum, which keeps it. Units
of input are those of the model's normalised input, where 1 is a standard deviation of the training
images. No value is rescaled.

References:
    1. Simonyan et al., "Deep Inside Convolutional Networks", arXiv 1312.6034, section 3 (saliency).
    2. Shrikumar et al., "Not Just a Black Box", arXiv 1605.01713 (input x gradient).
    3. Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017, arXiv 1703.01365.
    4. Smilkov et al., "SmoothGrad", arXiv 1706.03825.
    5. Springenberg et al., "Striving for Simplicity", arXiv 1412.6806 (guided backpropagation).
    6. Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017,
       arXiv 1705.07874; Erion et al., "Improving performance of deep learning models with axiomatic
       attribution priors and expected gradients", arXiv 1906.10670 (GradientSHAP).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from captum.attr import (
    GradientShap,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Saliency,
)
from torch import Tensor

from mdnet.explain.baselines import BASELINES, baseline_images
from mdnet.explain.batching import IMAGES_AT_ONCE, check_at_least, image_by_image
from mdnet.explain.registry import Maps, register_method
from mdnet.explain.targets import Scorer

__all__ = [
    "differentiable",
    "gradient_shap",
    "guided_backprop",
    "input_x_gradient",
    "integrated_gradients",
    "saliency",
    "smooth_grad",
]


@contextmanager
def differentiable(pixel_values: Tensor) -> Iterator[Tensor]:
    """A copy of the images that takes gradients, whatever mode the caller is in, `inference_mode` too."""
    with torch.inference_mode(False), torch.enable_grad():
        yield pixel_values.detach().clone().requires_grad_()


@register_method("saliency", unit="{unit} per unit of normalised input")
def saliency(scorer: Scorer, pixel_values: Tensor) -> Tensor:
    """Saliency: the gradient's largest absolute value over the channels [1]."""
    with differentiable(pixel_values) as images:
        return Saliency(scorer).attribute(images, abs=True).amax(dim=1)


@register_method("input_x_gradient", unit="{unit}, to first order")
def input_x_gradient(scorer: Scorer, pixel_values: Tensor) -> Tensor:
    """Input importance: gradient times normalised input, summed over the channels [2].

    What the score would lose, were it linear, when a pixel took the training images' mean colour.
    """
    with differentiable(pixel_values) as images:
        return InputXGradient(scorer).attribute(images).detach().sum(dim=1)


@register_method("integrated_gradients", unit="{unit}")
def integrated_gradients(
    scorer: Scorer, pixel_values: Tensor, *, baseline: str = "mean", steps: int = 50
) -> Maps:
    """Integrated gradients along the straight line from a baseline, by Gauss-Legendre quadrature [3].

    The map and the score at the baseline sum to the score; what is left over is the quadrature's
    error, and more steps make it smaller. For a word something else can be left: its log-probability
    jumps where the class that guides the attention changes on the way, which no gradient sees.

    Args:
        scorer: What is explained.
        pixel_values: Images.
        baseline: Where the line begins, one of `BASELINES`.
        steps: Gradients taken along it.
    """
    check_at_least(1, steps=steps)
    with differentiable(pixel_values) as images:
        begin = baseline_images(baseline, scorer.model, images.detach())
        attributions = IntegratedGradients(scorer).attribute(
            images, begin, n_steps=steps, internal_batch_size=max(IMAGES_AT_ONCE, len(images))
        )
        with torch.no_grad():
            return Maps(attributions.detach().sum(dim=1), scorer(begin))


@register_method("smooth_grad", unit="{unit} per unit of normalised input, mean over noise", randomised=True)
def smooth_grad(scorer: Scorer, pixel_values: Tensor, *, noise: float = 0.15, samples: int = 32) -> Tensor:
    """SmoothGrad: the mean gradient over noisy copies of the image, then as saliency [4].

    Args:
        scorer: What is explained.
        pixel_values: Images.
        noise: Standard deviation of the noise as a share of the image's range of values; the authors
            advise 0.1 to 0.2.
        samples: Noisy copies.
    """
    check_at_least(1, samples=samples)
    check_at_least(0, noise=noise)

    def draw(image: Tensor) -> Tensor:
        with differentiable(image) as images:
            return NoiseTunnel(Saliency(scorer)).attribute(
                images,
                nt_type="smoothgrad",
                nt_samples=samples,
                nt_samples_batch_size=IMAGES_AT_ONCE,
                stdevs=noise * float(image.max() - image.min()),
                abs=False,
            )

    return image_by_image(draw, pixel_values).abs().amax(dim=1)


@register_method("guided_backprop", unit="{unit} per unit of normalised input, negative paths cut")
def guided_backprop(scorer: Scorer, pixel_values: Tensor) -> Tensor:
    """Guided backpropagation: no ReLU lets a negative gradient pass; then as saliency [5].

    It is no gradient of the model, and depends little on what is explained (Adebayo et al., "Sanity
    Checks for Saliency Maps", arXiv 1810.03292).
    """
    with differentiable(pixel_values) as images, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")  # captum removes them
        return GuidedBackprop(scorer).attribute(images).abs().amax(dim=1)


@register_method("gradient_shap", unit="{unit}", randomised=True)
def gradient_shap(
    scorer: Scorer,
    pixel_values: Tensor,
    *,
    baselines: tuple[str, ...] = BASELINES,
    samples: int = 32,
) -> Maps:
    """GradientSHAP, or expected gradients: gradients at random points between image and baselines [6].

    The map and the mean score at the baselines sum to the score in expectation; the residual says how
    far the draws are from it, and it is often large.

    Args:
        scorer: What is explained.
        pixel_values: Images.
        baselines: Names of `BASELINES`; each weighs the same.
        samples: Points on the way from each, in one pass.
    """
    check_at_least(1, samples=samples, baselines=len(baselines))

    def draw(image: Tensor) -> Tensor:
        with differentiable(image) as images:
            drawn = [
                GradientShap(scorer).attribute(
                    images, baseline_images(name, scorer.model, image), n_samples=samples, stdevs=0.0
                )
                for name in baselines
            ]
            return torch.stack(drawn).mean(dim=0).detach()

    with torch.no_grad():
        scores = [scorer(baseline_images(name, scorer.model, pixel_values)) for name in baselines]
    return Maps(image_by_image(draw, pixel_values).sum(dim=1), torch.stack(scores).mean(dim=0))
