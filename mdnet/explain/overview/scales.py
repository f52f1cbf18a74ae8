"""Which scale decides: how the blocks share the evidence, class by class, over a data set.

A block is a scale: early blocks see little and finely, late ones much and coarsely. Formula 3 of
docs/method.md makes a contrast of two logits a sum over blocks, so its shares are read off, not estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mdnet.data.study import LabelSpace
from mdnet.explain.overview.observations import Observation

__all__ = ["ScaleRow", "scale_lines", "scale_table"]


@dataclass(frozen=True)
class ScaleRow:
    """The studies of one class, on average.

    Attributes:
        aspect: Its name.
        label: The class; its contrast is that with the aspect's reference, of the reference itself that
            with the likeliest other class.
        studies: Whose class it is.
        shares: Block to the mean share of the contrast's absolute evidence; they sum to 1 (all are 0
            where there is no evidence at all).
        signed: Block to the mean evidence, logit. With `bias` they sum to `contrast`.
        bias: Mean of what no position adds.
        contrast: Mean difference of the two logits.
    """

    aspect: str
    label: str
    studies: int
    shares: dict[str, float]
    signed: dict[str, float]
    bias: float
    contrast: float

    @property
    def decides(self) -> str:
        """The block with the largest share."""
        return max(self.shares, key=lambda block: self.shares[block])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"decides": self.decides}


def scale_table(
    observations: Sequence[Observation],
    space: LabelSpace,
    blocks: Sequence[str],
    *,
    by: Literal["truth", "prediction"] = "truth",
) -> list[ScaleRow]:
    """A row for each class of each aspect that some study has.

    Args:
        observations: From `observe`.
        space: The model's aspects.
        blocks: The model's block names, in order.
        by: Whether a study counts for its true class or for the predicted one.
    """
    rows = []
    for aspect in space.aspects:
        for label in aspect.classes:
            chosen = [
                contrast
                for each in observations
                for contrast in each.contrasts
                if (contrast.aspect, contrast.label) == (aspect.name, label)
                and label in _classes(each, aspect.name, by)
            ]
            if not chosen:
                continue
            absolute = np.stack([contrast.absolute for contrast in chosen])  # (n, M)
            whole = absolute.sum(axis=1, keepdims=True)
            shares = (absolute / np.where(whole > 0, whole, 1.0)).mean(axis=0)
            signed = np.stack([contrast.signed for contrast in chosen]).mean(axis=0)
            bias = float(np.mean([contrast.bias for contrast in chosen]))
            rows.append(
                ScaleRow(
                    aspect=aspect.name,
                    label=label,
                    studies=len(chosen),
                    shares=dict(zip(blocks, shares.tolist(), strict=True)),
                    signed=dict(zip(blocks, signed.tolist(), strict=True)),
                    bias=bias,
                    contrast=float(signed.sum()) + bias,
                )
            )
    return rows


def scale_lines(rows: Sequence[ScaleRow]) -> Iterator[str]:
    """The table as text: share and signed mean of every block."""
    if not rows:
        return
    names = [f"{row.aspect}: {row.label}" for row in rows]
    width = max(map(len, names))
    blocks = list(rows[0].shares)
    yield f"{'':<{width}}  studies" + "".join(f"  {block:>14}" for block in blocks) + "     bias  contrast"
    for name, row in zip(names, rows, strict=True):
        cells = "".join(f"  {row.shares[b]:>5.0%} {row.signed[b]:>+8.2f}" for b in blocks)
        yield f"{name:<{width}}  {row.studies:>7}{cells}  {row.bias:>+7.2f}  {row.contrast:>+8.2f}"


def _classes(observation: Observation, aspect: str, by: str) -> Sequence[str]:
    if by == "prediction":
        return observation.record.labels[aspect]
    truth = observation.record.study.labels.get(aspect) or ()
    return (truth,) if isinstance(truth, str) else truth
