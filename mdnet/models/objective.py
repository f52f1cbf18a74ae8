"""The joint objective L_M + L_L, and the gradient rule of the image module.

Formula 6 of docs/method.md: theta_D receives `(1 - beta) dL_M/dtheta_D + beta eta dL_L/dtheta_D`,
theta_M and theta_L their own full gradients. Two identities that scale the gradient where C(I)
forks make this one backward pass of the plain sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mdnet.data.study import MISSING, LabelSpace
from mdnet.models.image_module import ImageFeatures

__all__ = ["classification_loss", "language_loss", "scale_gradient", "scale_gradients"]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """`x` itself; on the way back its gradient is multiplied by `factor`."""
    return _ScaleGradient.apply(x, factor)


def scale_gradients(features: ImageFeatures, factor: float) -> ImageFeatures:
    """One branch of the fork: the same features, their gradient scaled."""
    blocks = tuple(scale_gradient(block, factor) for block in features.blocks)
    return replace(features, blocks=blocks, grid=scale_gradient(features.grid, factor))


def classification_loss(
    logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], space: LabelSpace
) -> Tensor:
    """L_M: the mean over all labels that are there, of every study and aspect.

    Args:
        logits: Aspect name to (B, classes).
        labels: Aspect name to (B,) class index, or (B, classes) of 0 and 1 (multi-label);
            `MISSING` where missing. An aspect may be missing altogether.
        space: Which aspects are multi-label.
    """
    total = next(iter(logits.values())).new_zeros(())
    count = total.clone()
    for aspect in space.aspects:
        if aspect.name not in labels:
            continue
        scores, target = logits[aspect.name], labels[aspect.name]
        known = target != MISSING
        if aspect.multi_label:
            binary = F.binary_cross_entropy_with_logits(
                scores, target.clamp_min(0).to(scores), reduction="none"
            )
            total = total + (binary * known).sum()
        else:
            total = total + F.cross_entropy(scores, target, ignore_index=MISSING, reduction="sum")
        count = count + known.sum()
    return total / count.clamp_min(1)


def language_loss(logits: Tensor, targets: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """L_L per word, and the log-likelihood of every section (formula 4).

    Args:
        logits: (B, S, T, V).
        targets: (B, S, T) words x_{1..T}, the end token last, then `pad_id`.
        pad_id: Token that is no word.

    Returns:
        The negative log-likelihood per word, and log p(section | image) (B, S).
    """
    negative = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=pad_id, reduction="none")
    negative = negative.view_as(targets)  # 0 at the padding
    words = (targets != pad_id).sum()
    return negative.sum() / words.clamp_min(1), -negative.sum(dim=-1)
