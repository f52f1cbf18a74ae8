"""Maps that are terms of the model's own sum: exact, and free once the image has been seen.

Formula 3 of docs/method.md. `batch_evidence` gives all of them at once, for every class of every
aspect; the method `evidence` draws the one of a target. What words looked at: `mdnet.explain.words`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdnet.data.study import LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.explain.registry import Maps, register_method
from mdnet.explain.targets import ClassTarget, Scorer
from mdnet.inference.finding import spread
from mdnet.models.mdnet import MDNet

__all__ = ["EvidenceBatch", "batch_evidence", "block_index", "evidence", "spread_over"]


@dataclass(frozen=True)
class EvidenceBatch:
    """Evidence of a batch: every aspect, class and block.

    Attributes:
        space: The model's aspects and classes.
        blocks: Aspect name to block name to maps (B, classes, H_m, W_m) at native resolution.
        bias: Aspect name to (classes,).
        logits: Aspect name to (B, classes), from the model's own forward pass.
        size: Rows and columns of the input.
        views: How many images stand side by side in it.
    """

    space: LabelSpace
    blocks: Mapping[str, Mapping[str, Tensor]]
    bias: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    size: tuple[int, int]
    views: int = 1

    def contrast(self, aspect: str, label: str, *, against: str | None = None) -> dict[str, Tensor]:
        """Block name to the evidence for a class, less that for another: (B, H_m, W_m).

        Raises:
            ConfigurationError: No such aspect or class.
        """
        space = self.space[aspect]
        first = space.index(label)
        second = None if against is None else space.index(against)
        return {
            name: maps[:, first] if second is None else maps[:, first] - maps[:, second]
            for name, maps in self.blocks[aspect].items()
        }

    def summed(self, aspect: str, label: str, *, against: str | None = None) -> Tensor:
        """`contrast` of all blocks, spread over the input's pixels and added up: (B, H, W)."""
        return _summed(list(self.contrast(aspect, label, against=against).values()), self.size, self.views)

    def residual(self, aspect: str) -> Tensor:
        """The sum check, (B, classes): logit less maps and bias; 0 to rounding."""
        sums = torch.stack([maps.sum(dim=(2, 3)) for maps in self.blocks[self.space[aspect].name].values()])
        return self.logits[aspect] - (sums.sum(dim=0) + self.bias[aspect])


@torch.inference_mode()
def batch_evidence(model: MDNet, pixel_values: Tensor) -> EvidenceBatch:
    """All evidence of normalised images (B, channels, H, W), by one forward pass and a product a block."""
    output = model(pixel_values)
    names = model.config.block_names
    evidence = model.evidence(output.features)
    return EvidenceBatch(
        space=model.config.space,
        blocks={aspect: dict(zip(names, maps, strict=True)) for aspect, maps in evidence.items()},
        bias={aspect: model.heads[aspect].bias.detach() for aspect in evidence} if model.heads else {},
        logits=output.logits or {},
        size=(pixel_values.shape[2], pixel_values.shape[3]),
        views=model.views,
    )


@register_method("evidence", unit="{unit}", targets=(ClassTarget,), by_design=True)
@torch.inference_mode()
def evidence(scorer: Scorer, pixel_values: Tensor, *, block: str | None = None) -> Maps:
    """MDNet's evidence: every block's share of the logit at its own resolution, spread over the input.

    The map and the bias sum to the logit, or to the difference of two (formula 3).

    Args:
        scorer: Of a class.
        pixel_values: (B, channels, H, W).
        block: Draw this one alone, on its own grid; the other blocks' shares then stand beside the bias.
    """
    target, model = scorer.target, scorer.model
    assert isinstance(target, ClassTarget)
    assert target.aspect is not None
    assert model.heads is not None
    of_classes = model.evidence(model.encode(pixel_values))[target.aspect]  # (B, classes, H_m, W_m) each
    weights = target.weights(model)[1].to(of_classes[0])
    maps = [torch.einsum("bkhw,k->bhw", each, weights) for each in of_classes]
    bias = (weights @ model.heads[target.aspect].bias).expand(len(pixel_values))
    if block is None:
        return Maps(_summed(maps, pixel_values.shape[-2:], model.views), bias)
    drawn = maps.pop(block_index(model, block))
    return Maps(drawn, bias + sum(each.sum(dim=(1, 2)) for each in maps))


def block_index(model: MDNet, block: str) -> int:
    """Position of a block by its name.

    Raises:
        ConfigurationError: The model has no such block.
    """
    names = model.config.block_names
    if block not in names:
        raise ConfigurationError(f"no block {block!r}; the model's blocks: {', '.join(names)}")
    return names.index(block)


def spread_over(maps: Tensor, size: tuple[int, ...] | torch.Size, *, views: int = 1) -> Tensor:
    """Maps (B, rows, columns) enlarged to `size`, each keeping its sum (`inference.finding.spread`)."""
    down = torch.from_numpy(spread(size[0], maps.shape[1])).to(maps)  # (H, rows)
    across = torch.from_numpy(spread(size[1], maps.shape[2], views=views)).to(maps)
    return torch.einsum("hr,brc,wc->bhw", down, maps, across)


def _summed(maps: Sequence[Tensor], size: tuple[int, ...] | torch.Size, views: int) -> Tensor:
    """Blocks' maps (B, H_m, W_m) over one grid, added up."""
    return torch.stack([spread_over(each, size, views=views) for each in maps]).sum(dim=0)
