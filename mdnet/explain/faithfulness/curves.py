"""Deletion and insertion: how fast the score falls, or rises, as a map's best pixels go, or come.

Petsiuk et al., "RISE", BMVC 2018, arXiv 1806.07421, after Samek et al., "Evaluating the
visualization of what a deep neural network has learned", IEEE TNNLS 2017, arXiv 1509.06321.

Pixels are replaced by a baseline image in equal steps, those of the largest map value first. A
deletion curve runs from the image to the baseline and should fall at once; an insertion curve runs
from the baseline to the image and should rise at once.

- With one baseline for both, inserting the most relevant first passes through the same images as
  deleting the least relevant first, in reverse. So insertion's area is that of "least relevant
  first" deletion too, and insertion less deletion is the area between the two orders (Samek's).
- A random map is what both are read against.
- RISE's score is a probability, and its deletion and insertion have different baselines (grey, blur).
  Here score and baseline are the caller's. A logit has no floor: where the class is long gone, it goes on
  falling below the baseline image's own score, as what speaks against the class is left standing, and
  most of the area can lie there. A probability (`mapped(torch.sigmoid)`) counts only how soon it falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mdnet.explain.faithfulness.scoring import Score, covered_scores, map_values, pixel_ranks

__all__ = ["Curve", "deletion", "insertion"]


@dataclass(frozen=True)
class Curve:
    """Scores along the way, `steps + 1` of them.

    Attributes:
        scores: (N, steps + 1), in the score's unit.
        original: (N,) score of the images.
        emptied: (N,) score of the baseline images.
    """

    scores: Tensor
    original: Tensor
    emptied: Tensor

    @property
    def area(self) -> Tensor:
        """Area under each curve by the trapezoidal rule, (N,): a mean score, in the score's unit."""
        return torch.trapezoid(self.scores, dim=1) / (self.scores.shape[1] - 1)

    def mapped(self, scale: Callable[[Tensor], Tensor]) -> Curve:
        """The curve with its scores on another scale: `torch.sigmoid` of a difference of two logits."""
        return Curve(scale(self.scores), scale(self.original), scale(self.emptied))

    @property
    def relative_area(self) -> Tensor:
        """`area` where 0 is the baseline's score and 1 the image's, (N,); it may leave 0..1.

        NaN where the image scores no higher than its baseline: there is nothing to take away. Images
        that score just higher make it huge, so averages over images are better taken of `area`, or
        as a median.
        """
        fall = self.original - self.emptied
        return torch.where(fall > 0, (self.area - self.emptied) / fall, torch.nan)


def deletion(
    score: Score,
    images: Tensor,
    maps: Tensor,
    *,
    baseline: Tensor,
    steps: int = 16,
    seed: int = 0,
    batch_size: int = 64,
) -> Curve:
    """Takes pixels away, the most relevant first; a small area is good.

    Args:
        score: The number explained, from images (B, channels, H, W) to (B,).
        images: (N, channels, H, W), as the score takes them.
        maps: (N, rows, columns) on any grid over the images; larger is more relevant.
        baseline: What stands where a pixel is gone, of the images' shape.
        steps: Equal steps from all pixels to none.
        seed: Of the order among equal pixels.
        batch_size: Images in one pass.

    Raises:
        DataError: The maps are not finite, or not one for every image.
    """
    ranks = pixel_ranks(map_values(maps, images), seed=seed)
    pixels = ranks[0].numel()
    scores = covered_scores(
        score, images, baseline, lambda step: ranks < round(step * pixels / steps), steps + 1, batch_size
    )
    return Curve(scores, original=scores[:, 0], emptied=scores[:, -1])


def insertion(
    score: Score,
    images: Tensor,
    maps: Tensor,
    *,
    baseline: Tensor,
    steps: int = 16,
    seed: int = 0,
    batch_size: int = 64,
) -> Curve:
    """Puts pixels back onto the baseline, the most relevant first; a large area is good.

    Arguments and errors: `deletion`.
    """
    curve = deletion(score, baseline, maps, baseline=images, steps=steps, seed=seed, batch_size=batch_size)
    return Curve(curve.scores, original=curve.emptied, emptied=curve.original)
