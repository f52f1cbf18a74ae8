"""The joint objective L_M + L_L, and the gradient rule of the image module.

Formula 6 of docs/method.md: theta_D receives `(1 - beta) dL_M/dtheta_D + beta eta dL_L/dtheta_D`,
theta_M and theta_L their own full gradients. Two identities that scale the gradient where C(I)
forks make this one backward pass of the plain sum.

Both losses are sums divided by a number, of labels or of words: the batch's own, or that of the step
(`loss_counts`) where a step is made of several batches or processes, so that the parts add up to the
loss of one batch.

References, of what `LossTerms` can change in L_M:
    1. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
       arXiv 1512.00567, section 7 (label smoothing).
    2. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314
       (the logit adjusted softmax cross-entropy, equation 10).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mdnet.data.study import MISSING, Aspect, LabelSpace, Study
from mdnet.models.image_module import ImageFeatures

__all__ = [
    "LossTerms",
    "classification_loss",
    "divided",
    "is_of_labels",
    "language_loss",
    "loss_counts",
    "loss_terms",
    "scale_gradient",
    "scale_gradients",
]

_LARGEST_WEIGHT = 100.0  # of a multi-label class's positives; the smallest is its inverse


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


@dataclass(frozen=True)
class LossTerms:
    """What makes L_M differ from the plain mean of cross-entropies. L_L is never touched.

    Attributes:
        label_smoothing: Share of a label's weight that is spread evenly over all classes [1];
            multi-label: over present and absent, so towards 1/2.
        class_weights: Aspect name to the weight of each class (K,); multi-label: of its positives.
        log_priors: Aspect name to log pi (K,), added to the logits inside the loss alone [2];
            multi-label: the log odds.
    """

    label_smoothing: float = 0.0
    class_weights: Mapping[str, Tensor] | None = None
    log_priors: Mapping[str, Tensor] | None = None

    def to(self, device: torch.device | str) -> LossTerms:
        """The same terms on another device."""
        weights, priors = self.class_weights, self.log_priors
        return replace(
            self,
            class_weights=weights and {name: weight.to(device) for name, weight in weights.items()},
            log_priors=priors and {name: prior.to(device) for name, prior in priors.items()},
        )


def loss_terms(
    studies: Sequence[Study], space: LabelSpace, *, label_smoothing: float, imbalance: str
) -> LossTerms | None:
    """The terms of a run, from how often each class occurs in its training studies.

    For N labels of an aspect, n_k of them of class k, and K classes that occur at all:

    - `weights`: class k weighs N / (K n_k). The mean weight over the training labels is then 1, and L_M is
      still divided by the plain number of labels. Multi-label: n_absent / n_present, within 1/100..100.
    - `logits`: log pi_k = log(n_k / N) is added to the logits in training and left out in use, which is
      [2] with tau = 1. Multi-label: log(n_present / n_absent).

    A class that no training study has weighs 1 and has log prior 0, which is that of the commonest
    possible class: that it is rare must not speak for a class of which nothing is known. So has a
    multi-label class that all have.

    Both change what a probability means: it is that of a world in which all classes are equally common.
    Rare classes are found more often, common ones less often, and among studies given 0.8 the
    share that has the class is no longer 0.8. One temperature an aspect does not bring that back.

    Args:
        studies: The training studies.
        space: The model's aspects.
        label_smoothing: At least 0 and below 1.
        imbalance: `none`, `weights` or `logits`.

    Returns:
        None where L_M stays plain.
    """
    if label_smoothing == 0 and imbalance == "none":
        return None
    found = {aspect.name: _weights_and_priors(studies, aspect) for aspect in space.aspects}
    return LossTerms(
        label_smoothing,
        class_weights={name: w for name, (w, _) in found.items()} if imbalance == "weights" else None,
        log_priors={name: p for name, (_, p) in found.items()} if imbalance == "logits" else None,
    )


def loss_counts(
    labels: Mapping[str, Tensor] | None, tokens: Tensor | None, space: LabelSpace, pad_id: int
) -> dict[str, Tensor]:
    """What the losses of a batch are divided by; see `MDNet.forward` for the arguments.

    Returns:
        `classification`, the number of labels that are there, `language`, that of words, and `sections`, that
        of sections with any, as scalars on the batch's device; reading them there is left to the caller, for
        it would wait.
    """
    known = [(labels[name] != MISSING).sum() for name in space.names if name in labels] if labels else []
    if tokens is not None:
        there = tokens != pad_id  # (B, S, T)
        words, sections = there.sum(), there.any(dim=-1).sum()
    else:
        words = sections = known[0].new_zeros(()) if known else torch.tensor(0)
    return {
        "classification": torch.stack(known).sum() if known else words.new_zeros(()),
        "language": words,
        "sections": sections,
    }


def classification_loss(
    logits: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    space: LabelSpace,
    *,
    count: Tensor | None = None,
    terms: LossTerms | None = None,
) -> Tensor:
    """L_M: the mean over all labels that are there, of every study and aspect.

    Args:
        logits: Aspect name to (B, classes).
        labels: Aspect name to (B,) class index, or (B, classes) of 0 and 1 (multi-label);
            `MISSING` where missing. An aspect may be missing altogether.
        space: Which aspects are multi-label.
        count: What the sum is divided by; None: the number of labels that are there.
        terms: Smoothing, weights and priors; None: none.
    """
    terms = terms or LossTerms()
    total = next(iter(logits.values())).new_zeros(())
    own_count = total.clone()
    for aspect in space.aspects:
        if aspect.name not in labels:
            continue
        scores, target = logits[aspect.name], labels[aspect.name]
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # a bf16 weight has three digits
        if terms.log_priors is not None:
            scores = scores + terms.log_priors[aspect.name]
        weight = None if terms.class_weights is None else terms.class_weights[aspect.name].to(scores.dtype)
        known = target != MISSING
        if aspect.multi_label:
            present = target.clamp_min(0).to(scores)
            if terms.label_smoothing:
                present = torch.lerp(present, torch.full_like(present, 0.5), terms.label_smoothing)
            binary = F.binary_cross_entropy_with_logits(scores, present, pos_weight=weight, reduction="none")
            total = total + (binary * known).sum()
        else:
            total = total + F.cross_entropy(
                scores,
                target,
                weight,
                ignore_index=MISSING,
                reduction="sum",
                label_smoothing=terms.label_smoothing,
            )
        own_count = own_count + known.sum()
    return divided(total, own_count if count is None else count)


def language_loss(
    logits: Tensor, targets: Tensor, pad_id: int, *, count: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """L_L per word, and the log-likelihood of every section (formula 4).

    Args:
        logits: (B, S, T, V).
        targets: (B, S, T) words x_{1..T}, the end token last, then `pad_id`.
        pad_id: Token that is no word.
        count: What the sum is divided by; None: the number of words.

    Returns:
        The negative log-likelihood per word, and log p(section | image) (B, S).
    """
    negative = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=pad_id, reduction="none")
    negative = negative.view_as(targets)  # 0 at the padding
    words = (targets != pad_id).sum() if count is None else count
    return divided(negative.sum(), words), -negative.sum(dim=-1)


def is_of_labels(loss: str) -> bool:
    """Whether a loss, as `MDNetOutput.losses` names it, is a term of L_M; the others are of L_L."""
    return loss.startswith("classification")


def divided(total: Tensor, count: Tensor) -> Tensor:
    """`total / count`; where the count is 0, so is the total. A count may be a fraction below 1."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def _weights_and_priors(studies: Sequence[Study], aspect: Aspect) -> tuple[Tensor, Tensor]:
    """Class weights and log priors, (K,) each, as `loss_terms` defines them."""
    labels = [label for study in studies if (label := study.labels.get(aspect.name)) is not None]
    numbers: Counter[str] = Counter()
    for label in labels:
        numbers.update([label] if isinstance(label, str) else label)
    occurring = sum(numbers[name] > 0 for name in aspect.classes)
    weights, priors = [], []
    for number in (numbers[name] for name in aspect.classes):
        others = len(labels) - number
        if number == 0 or (aspect.multi_label and others == 0):
            weight, prior = 1.0, 0.0
        elif aspect.multi_label:
            weight = min(max(others / number, 1 / _LARGEST_WEIGHT), _LARGEST_WEIGHT)
            prior = math.log(number / others)
        else:
            weight, prior = len(labels) / (occurring * number), math.log(number / len(labels))
        weights.append(weight)
        priors.append(prior)
    return torch.tensor(weights), torch.tensor(priors)
