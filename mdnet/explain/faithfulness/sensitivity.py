"""Do a map's values say how much the score changes: sensitivity-n, infidelity, maximum sensitivity.

For parts S_1..S_R of the image, let a_r be the map's sum over S_r and d_r the score lost when S_r is
covered. The d_r do not depend on the map, so they are computed once for all methods.

References:
    1. Ancona et al., "Towards better understanding of gradient-based attribution methods for deep
       neural networks", ICLR 2018, arXiv 1711.06104, section 4 (sensitivity-n).
    2. Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019,
       arXiv 1901.09392, definitions 2.1 (infidelity, here with the perturbation "covered parts" of
       section 2.3, for maps that share out the score) and 2.2 (sensitivity).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.metrics import sensitivity_max
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.explain.faithfulness.scoring import Score, covered_scores, map_values

__all__ = ["attributed", "infidelity", "maximum_sensitivity", "random_parts", "score_drops", "sensitivity_n"]


def random_parts(
    size: tuple[int, ...], *, parts: int = 64, share: float = 0.1, cell: int = 8, seed: int = 0
) -> Tensor:
    """Random parts of an image, bool (parts, H, W), each of the same number n of square cells.

    Cells and not single pixels: scattered pixels make noise of an image, not a hole in it.

    Args:
        size: (H, W)
        parts: How many.
        share: Of the cells that each part takes.
        cell: Side of a cell in pixels; those at the lower and right edge may be cut.
        seed: Of the choice.
    """
    rows, columns = (-(-side // cell) for side in size)
    count = round(share * rows * columns)
    if not 0 < count < rows * columns:
        raise ConfigurationError(
            f"share {share} of {rows * columns} cells is {count} cells: at least one goes and one stays"
        )
    random = torch.Generator().manual_seed(seed)
    chosen = torch.rand(parts, rows * columns, generator=random).argsort(dim=1).argsort(dim=1) < count
    cells = chosen.view(parts, rows, columns)
    return cells.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, : size[0], : size[1]]


def score_drops(
    score: Score, images: Tensor, parts: Tensor, *, baseline: Tensor, batch_size: int = 64
) -> Tensor:
    """d: the score lost when each part is covered, (N, R).

    Args:
        score: The number explained, from images (B, channels, H, W) to (B,).
        images: (N, channels, H, W), as the score takes them.
        parts: Bool (R, H, W), the same for all images.
        baseline: What stands where a pixel is covered, of the images' shape.
        batch_size: Images in one pass.
    """
    nothing = torch.zeros_like(parts[:1])
    masks = torch.cat([nothing, parts]).to(images.device)
    scores = covered_scores(score, images, baseline, lambda copy: masks[copy], len(masks), batch_size)
    return scores[:, :1] - scores[:, 1:]


def attributed(maps: Tensor, images: Tensor, parts: Tensor) -> Tensor:
    """a: each map's sum over each part, (N, R); a coarser map is spread over the pixels first."""
    values = map_values(maps, images)
    return values.flatten(1) @ parts.to(values).flatten(1).T


def sensitivity_n(sums: Tensor, drops: Tensor) -> Tensor:
    """Pearson's correlation of a and d over parts of n cells each, (N,) in [-1, 1] [1].

    0 where a map gives every part the same sum: it does not tell them apart.
    """
    a = sums - sums.mean(dim=1, keepdim=True)
    d = drops - drops.mean(dim=1, keepdim=True)
    scale = a.norm(dim=1) * d.norm(dim=1)
    return torch.where(scale > 0, (a * d).sum(dim=1) / scale, 0.0)


def infidelity(sums: Tensor, drops: Tensor, *, scaled: bool = True) -> Tensor:
    """Mean squared error of a as a forecast of d, (N,) [2].

    Args:
        sums: a, (N, R).
        drops: d, (N, R).
        scaled: Scale each map by the one factor that serves it best, `sum a d / sum a^2`, and give the
            error as a share of the mean of d^2: 0 is perfect, 1 what a map of zeros gets. Maps of
            different units can be compared then. Otherwise the error is in the score's unit, squared.
    """
    if not scaled:
        return (sums - drops).square().mean(dim=1)
    power = sums.square().sum(dim=1, keepdim=True)
    factor = torch.where(power > 0, (sums * drops).sum(dim=1, keepdim=True) / power, 0.0)
    return (factor * sums - drops).square().sum(dim=1) / drops.square().sum(dim=1)


def maximum_sensitivity(
    draw: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
) -> Tensor:
    """How far a map moves, at most, when the image hardly does: captum's estimate [2], (N,).

    `max |map(x + e) - map(x)| / |map(x)|` over `samples` perturbations e, uniform in
    [-radius, radius] at every value of the image.

    Args:
        draw: The method, from images (B, channels, H, W) to maps (B, rows, columns). One that draws
            random numbers should begin with the same seed at every call.
        images: (N, channels, H, W)
        radius: In units of the normalised image.
        samples: Perturbations.
        seed: Of the perturbations.
    """

    def draw_tuple(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # captum's form, a tuple of one
        return (draw(*inputs),)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # As many at once as there are images: every call is one changed copy of each.
        worst: Tensor = sensitivity_max(
            draw_tuple,
            images,
            perturb_radius=radius,
            n_perturb_samples=samples,
            max_examples_per_batch=len(images),
        )
    return worst
