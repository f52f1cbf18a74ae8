"""What a look inside says of a model in training: gradients, dead units, attention, sameness of reports.

Everything is of one fixed batch, so that epochs compare. The model is left as it was: modes,
BatchNorm's statistics, gradients, hooks and random state.

References:
    1. Lu et al., "Dying ReLU and Initialization", 2019, arXiv 1903.06733 (units that are 0 for all input).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mdnet.data.loading import StudyBatch
from mdnet.data.study import MISSING
from mdnet.explain.gradient_flow import GradientFlow, batch_gradient_flow
from mdnet.explain.layers import by_channel, evaluation_mode, watching
from mdnet.metrics.diversity import diversity
from mdnet.models.mdnet import MDNet
from mdnet.models.objective import is_of_labels

__all__ = [
    "AttentionFocus",
    "DeadUnits",
    "Health",
    "collapse_warning",
    "examine",
    "gradients_kept",
    "uncompiled",
]

DEAD_SHARE = 0.5  # of a layer's channels, from which on it is warned of
FLAT_ENTROPY = 0.995  # of log P, above which attention counts as uniform; a trained section has up to 0.97
SAME_SHARE = 0.9  # of the studies with one report, from which on all count as alike
FEW_DISTINCT = 0.05  # of the distinct references, up to which the distinct reports count as one


@dataclass(frozen=True)
class DeadUnits:
    """One call of a ReLU; a unit is a channel, and dead if it is 0 at all positions of all images."""

    layer: str
    units: int
    dead: int

    @property
    def share(self) -> float:
        return self.dead / self.units


@dataclass(frozen=True)
class AttentionFocus:
    """How sharply a section's words look, means over the true words of the batch.

    Attributes:
        section: Its name.
        words: How many they are, the end tokens included.
        entropy: In nats; log P is uniform, 0 one position.
        share: Entropy over log P, P the positions that are there.
        positions: The effective number of positions, e to the entropy.
        maximum: The greatest weight.
    """

    section: str
    words: int
    entropy: float
    share: float
    positions: float
    maximum: float


@dataclass(frozen=True)
class Health:
    """What one look found.

    Attributes:
        flow: Gradient norms layer by layer, of each loss; None where the batch has no truth.
        units: Every ReLU, in forward order.
        attention: Every section that the batch has words of.
    """

    flow: GradientFlow | None
    units: tuple[DeadUnits, ...]
    attention: tuple[AttentionFocus, ...]

    @property
    def dead_share(self) -> float | None:
        """Dead units of all ReLUs over all their units; None without a ReLU."""
        units = sum(layer.units for layer in self.units)
        return sum(layer.dead for layer in self.units) / units if units else None

    @property
    def entropy_share(self) -> float | None:
        """Mean of the sections' entropies over log P; None without attention."""
        shares = [focus.share for focus in self.attention]
        return math.fsum(shares) / len(shares) if shares else None

    @property
    def warnings(self) -> list[str]:
        """What should not be, one line each."""
        found = [] if self.flow is None else list(self.flow.warnings)
        for layer in self.units:
            if layer.share >= DEAD_SHARE:
                found.append(
                    f"{layer.layer}: dead: {layer.dead} of {layer.units} units are 0 everywhere; "
                    "a lower learning rate or a longer warmup may keep them alive"
                )
        for focus in self.attention:
            if not math.isfinite(focus.entropy):
                found.append(f"section {focus.section}: the attention is no number")
        if flat := [focus for focus in self.attention if focus.share >= FLAT_ENTROPY]:
            named, least = ", ".join(focus.section for focus in flat), min(focus.share for focus in flat)
            found.append(
                f"attention of {named}: uniform: entropy at least {least:.1%} of the greatest possible; "
                "its maps say nothing"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is no number is None."""
        return {
            "gradient_flow": None if self.flow is None else _finite(self.flow.to_dict()),
            "dead_units": {
                "share": self.dead_share,
                "layers": [asdict(layer) | {"share": layer.share} for layer in self.units],
            },
            "attention": [_finite(asdict(focus)) for focus in self.attention],
            "warnings": self.warnings,
        }


def examine(model: MDNet, batch: StudyBatch) -> Health:
    """Looks inside a model.

    Costs one forward pass, and for the gradients another with a backward pass a loss.

    Args:
        model: Bare, without the wrappers of `accelerate`; with its preprocessing. Where parts of it are
            compiled, call inside `uncompiled`.
        batch: On the model's device; what truth it has decides what is looked at.
    """
    flow, (labelled, told) = None, _truth_of(model, batch)
    if labelled or told:
        with _own_statistics(model):
            flow = batch_gradient_flow(model, batch)
        # One that is of nothing is 0, and its gradient would seem to vanish.
        losses = {
            name: value for name, value in flow.losses.items() if (labelled if is_of_labels(name) else told)
        }
        flow = replace(flow, losses=losses)
    units, attention = _forward(model, batch)
    return Health(flow, units, attention)


@contextmanager
def gradients_kept(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside the block, collects the sum of all gradients that are computed for each parameter, by name."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, gradient: Tensor) -> None:
        kept[name] = kept[name] + gradient if name in kept else gradient

    handles = [
        parameter.register_hook(lambda gradient, name=name: keep(name, gradient))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Inside the block, modules that were compiled run as they were written: their hooks are called."""
    # Asked first, because the call below imports the compiler, a second or more.
    if any(module._compiled_call_impl is not None for module in model.modules()):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


def collapse_warning(row: Mapping[str, float], references: Sequence[str]) -> str | None:
    """What to say when the model writes one report for all studies, or nearly so; else None.

    Where the references are as much alike, nothing is said.

    Args:
        row: With `val_distinct_share` and `val_commonest_share`, as `diversity` has them, of reports
            that were generated freely; without them there is nothing to say.
        references: The true reports of those studies, one a study.
    """
    if len(references) < 2 or "val_distinct_share" not in row:
        return None
    due = diversity(references)
    distinct = round(row["val_distinct_share"] * len(references))
    one_for_most = SAME_SHARE <= row.get("val_commonest_share", 0.0) >= 1.5 * due["commonest_share"]
    few = distinct < due["distinct_reports"] and distinct <= max(1.0, FEW_DISTINCT * due["distinct_reports"])
    if not (few or one_for_most):
        return None
    return (
        f"the reports have collapsed: {distinct} distinct {'report' if distinct == 1 else 'reports'} for "
        f"{len(references)} studies, where the references have {due['distinct_reports']:.0f}; text metrics "
        "mean little until the reports follow the images"
    )


@torch.no_grad()
def _forward(model: MDNet, batch: StudyBatch) -> tuple[tuple[DeadUnits, ...], tuple[AttentionFocus, ...]]:
    """One pass in evaluation mode: ReLUs by hooks, attention from the output."""
    assert model.preprocessing is not None
    names = [name for name, module in model.named_modules() if isinstance(module, (nn.ReLU, nn.ReLU6))]
    calls: Counter[str] = Counter()
    dead: dict[str, Tensor] = {}  # (C,); stays on the device until all are there

    def receive(name: str, output: Tensor) -> None:
        call = f"{name}:{calls[name]}" if calls[name] else name
        calls[name] += 1
        dead[call] = by_channel(output).amax(dim=1) <= 0

    pixel_values = model.preprocessing.normalise(batch.images)
    with evaluation_mode(model), watching(model, names, receive):
        output = model(pixel_values, batch.labels, batch.tokens, present=batch.present)
    counts = torch.stack([channels.sum() for channels in dead.values()]).tolist() if dead else []
    units = tuple(
        DeadUnits(name, len(channels), count)
        for (name, channels), count in zip(dead.items(), counts, strict=True)
    )
    if output.attention is None or batch.tokens is None:
        return units, ()
    written = batch.tokens != model.config.pad_id
    return units, attention_focus(
        output.attention, written, model.config.sections, there=output.features.there
    )


def attention_focus(
    attention: Tensor, written: Tensor, sections: Sequence[str], *, there: Tensor | None = None
) -> tuple[AttentionFocus, ...]:
    """How sharply every section looks; one without words is left out.

    Args:
        attention: (B, S, T, P), each map sums to 1.
        written: (B, S, T), true for a word.
        sections: Their S names.
        there: (B, P), true for a position of a view that is there; None: all are.
    """
    entropy = torch.special.entr(attention.double()).sum(dim=-1)  # (B, S, T)
    count = entropy.new_tensor(attention.shape[-1]) if there is None else there.sum(dim=1).double()
    greatest = count.log().reshape(-1, 1, 1)  # (B or 1, 1, 1)
    share = torch.where(greatest > 0, entropy / greatest, torch.zeros_like(entropy))
    values = torch.stack([entropy, share, entropy.exp(), attention.double().amax(dim=-1)])  # (4, B, S, T)
    words = written.sum(dim=(0, 2))  # (S,)
    sums = values.masked_fill(~written, 0.0).sum(dim=(1, 3))  # (4, S)
    return tuple(
        AttentionFocus(name, int(number), *(total / number for total in totals))
        for name, number, totals in zip(sections, words.tolist(), sums.T.tolist(), strict=True)
        if number
    )


@contextmanager
def _own_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorms that wait for other processes take this one's batch alone: the others are not looking."""
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    waiting = [m for m in model.modules() if isinstance(m, _BatchNorm) and type(m) not in plain]
    try:
        for module in waiting:
            module.forward = partial(_BatchNorm.forward, module)  # type: ignore[method-assign]
        yield
    finally:
        for module in waiting:
            module.__dict__.pop("forward", None)


def _truth_of(model: MDNet, batch: StudyBatch) -> tuple[bool, bool]:
    """Whether a batch has any label, and any word."""
    labelled = any(bool((label != MISSING).any()) for label in batch.labels.values())
    told = batch.tokens is not None and bool((batch.tokens != model.config.pad_id).any())
    return model.heads is not None and labelled, told


def _finite(value: Any) -> Any:
    """The same with None in place of numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
