"""What `MDNet.forward` returns."""

from __future__ import annotations

from dataclasses import dataclass

import mdnet.torchvision_compat  # noqa: F401  (transformers imports torchvision)

from torch import Tensor
from transformers.utils.generic import ModelOutput

from mdnet.models.image_module import ImageFeatures

__all__ = ["MDNetOutput"]


@dataclass
class MDNetOutput(ModelOutput):
    """Output of `MDNet.forward`; what was not asked for is None.

    Attributes:
        loss: The joint objective L_M + L_L, whose backward pass follows formula 6.
        losses: The parts apart: `classification` (L_M), `language` (L_L per word), and further terms that
            heads (`classification_NAME`, of L_M) and language module (of L_L) have: `auxiliary_losses`.
        logits: Aspect name to (B, classes).
        block_logits: Aspect name to (B, M, classes): every block's share; with the bias, they sum
            to `logits`.
        report_logits: (B, S, T, V), teacher-forced.
        attention: (B, S, T, P), one map a word over the grid; sums to 1.
        log_likelihood: (B, S) log p(section | image), natural logarithm.
        features: C(I).
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    logits: dict[str, Tensor] | None = None
    block_logits: dict[str, Tensor] | None = None
    report_logits: Tensor | None = None
    attention: Tensor | None = None
    log_likelihood: Tensor | None = None
    features: ImageFeatures | None = None
