"""Maps from the activations of a block: CAM and Grad-CAM, and what they are in MDNet.

MDNet's heads are linear on the means of its blocks (formula 3 of docs/method.md), so the gradient
of a logit with respect to a block's activations is the same at every position: the class weights
over the number of cells. CAM on the last block is therefore that block's evidence, Grad-CAM on any
block the positive part of that block's evidence, and neither has the other blocks. On a torchvision
backbone Grad-CAM is so for the last block alone: the others are read by the stages behind them too. For a
word Grad-CAM is its own thing, as the report LSTM is not linear.

References:
    1. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016,
       arXiv 1512.04150.
    2. Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv 1610.02391.
"""

from __future__ import annotations

import torch
from captum.attr import LayerGradCam
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.explain.gradients import differentiable
from mdnet.explain.registry import Maps, register_method
from mdnet.explain.targets import ClassTarget, Scorer
from mdnet.models.views import join_views

__all__ = ["cam", "grad_cam"]

_LAST = "last"


@register_method("cam", unit="{unit}", targets=(ClassTarget,), by_design=True)
@torch.inference_mode()
def cam(scorer: Scorer, pixel_values: Tensor) -> Maps:
    """Class activation map: the last block's channels weighted by the class weights [1].

    It is the last block's part of MDNet's evidence. Offset is what the map leaves out, the other
    blocks' shares and the bias; with it the map sums to the score exactly.
    """
    target, model = scorer.target, scorer.model
    assert isinstance(target, ClassTarget)
    assert target.aspect is not None
    assert model.heads is not None
    output, bias = model(pixel_values), model.heads[target.aspect].bias
    weights = target.weights(model)[1].to(pixel_values)  # (classes,)
    of_classes = model.evidence(output.features)[target.aspect][-1]  # (B, classes, rows, columns)
    maps = torch.einsum("bkhw,k->bhw", of_classes, weights)
    others = output.block_logits[target.aspect][:, :-1].sum(dim=1) + bias  # (B, classes)
    return Maps(maps, others @ weights)


@register_method("grad_cam", unit="{unit}, to first order, positive part")
def grad_cam(scorer: Scorer, pixel_values: Tensor, *, block: str = _LAST) -> Tensor:
    """Grad-CAM: a block's channels weighted by their mean gradients, its positive part [2].

    Of several views each is weighted by its own.

    Args:
        scorer: What is explained.
        pixel_values: Images.
        block: Block of C(I), `block1` the finest; the last and coarsest unless named.
    """
    names = scorer.model.config.block_names
    if block not in (*names, _LAST):
        raise ConfigurationError(f"no block {block!r}; the model's blocks: {', '.join(names)}, or {_LAST}")
    layer = scorer.model.image.activations[-1 if block == _LAST else names.index(block)]
    with differentiable(pixel_values) as images:
        maps = LayerGradCam(scorer, layer).attribute(
            images, relu_attributions=True
        )  # (B V, 1, rows, columns)
        return join_views(maps.detach(), scorer.model.views).squeeze(1)
