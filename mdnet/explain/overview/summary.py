"""The whole overview of one data set, from the observations of one pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import mdnet
from mdnet.data.phantom import specification
from mdnet.data.study import LabelSpace, Study
from mdnet.errors import ConfigurationError, DataError
from mdnet.explain.overview.embedding import Embedding, embed, label_agreements, space_vectors
from mdnet.explain.overview.error_analysis import AspectErrors, ErrorCase, aspect_errors, confident_errors
from mdnet.explain.overview.observations import Observation, observe
from mdnet.explain.overview.scales import ScaleRow, scale_table
from mdnet.explain.overview.surrogate import Surrogate, fit_surrogate
from mdnet.inference.predictor import Predictor

__all__ = ["Overview", "make_overview"]

_log = logging.getLogger(__name__)

_CASES = 6  # errors of each aspect that are shown
_PICTURES = 5_000_000  # pixels of all thumbnails together, so that the page stays small
_SIDES = (96, 80, 64, 48, 32, 16)


@dataclass(frozen=True)
class Overview:
    """A model over a data set.

    Attributes:
        model: Name of the weights.
        space: Its aspects.
        blocks: Its block names.
        observations: A row a study.
        embeddings: One for each space and method.
        scales: Which block decides, by true class; by predicted class where nothing is labelled.
        scales_by: `truth` or `prediction`.
        surrogate: A tree in the place of the diagnosis; None where it could not be made.
        errors: By aspect, the diagnosis first.
        cases: The surest errors of every aspect, the diagnosis first.
        without: What could not be made, and why.
        seconds: What each part took.
    """

    model: str
    space: LabelSpace
    blocks: tuple[str, ...]
    observations: Sequence[Observation]
    embeddings: tuple[Embedding, ...]
    scales: tuple[ScaleRow, ...]
    scales_by: str
    surrogate: Surrogate | None
    errors: dict[str, AspectErrors]
    cases: tuple[ErrorCase, ...]
    without: tuple[str, ...]
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        records = [each.record for each in self.observations]
        return {
            "version": mdnet.__version__,
            "model": self.model,
            "studies": [
                {
                    "id": record.study.id,
                    "truth": {
                        k: v if isinstance(v, str) else list(v) for k, v in record.study.labels.items()
                    },
                    "said": {k: list(v) for k, v in record.labels.items()},
                }
                for record in records
            ],
            "embeddings": [each.to_dict() for each in self.embeddings],
            "scales": {"by": self.scales_by, "rows": [row.to_dict() for row in self.scales]},
            "surrogate": None if self.surrogate is None else self.surrogate.to_dict(),
            "errors": {name: each.to_dict() for name, each in self.errors.items()},
            "confident_errors": [asdict(case) for case in self.cases],
            "without": list(self.without),
            "seconds": self.seconds,
        }


def make_overview(
    predictor: Predictor,
    studies: Sequence[Study],
    *,
    methods: Sequence[str] = ("pca", "tsne"),
    seed: int = 0,
    progress: bool = True,
) -> Overview:
    """Looks at every study once, then makes everything from what was kept.

    Args:
        predictor: The model.
        studies: At least four, each by as many images as the model has views.
        methods: Of `embedding.METHODS`.
        seed: Of the embeddings and of the surrogate's halves.
        progress: Show a bar where stderr is a terminal.

    Raises:
        DataError: Too few studies.
        MissingExtraError: UMAP without umap-learn.
    """
    model = predictor.model
    space, blocks = model.config.space, tuple(model.config.block_names)
    seconds = {}
    began = time.perf_counter()
    side = next((s for s in _SIDES if s * s * len(studies) <= _PICTURES), _SIDES[-1])
    observations = observe(predictor, studies, thumbnail_side=side, progress=progress)
    seconds["images"] = time.perf_counter() - began

    embeddings = []
    for name, vectors in space_vectors(observations).items():
        in_space = label_agreements(vectors, observations, space)
        for method in methods:
            began = time.perf_counter()
            points, parameters = embed(vectors, method, seed=seed)
            in_plane = label_agreements(points, observations, space)
            embeddings.append(
                Embedding(name, method, vectors.shape[1], points, parameters, in_space, in_plane)
            )
            seconds[f"{method} of {name}"] = time.perf_counter() - began
            _log.info("%s of %s: %.1f s", method, name, seconds[f"{method} of {name}"])

    order = sorted(space.aspects, key=lambda aspect: aspect.name != space.diagnosis)
    records = [each.record for each in observations]
    errors = aspect_errors(records, order)
    by: Literal["truth", "prediction"] = "truth" if errors else "prediction"
    surrogate, without = _surrogate(observations, space, seed)
    return Overview(
        model=predictor.name,
        space=space,
        blocks=blocks,
        observations=observations,
        embeddings=tuple(embeddings),
        scales=tuple(scale_table(observations, space, blocks, by=by)),
        scales_by=by,
        surrogate=surrogate,
        errors=errors,
        cases=tuple(case for aspect in order for case in confident_errors(records, aspect, most=_CASES)),
        without=without,
        seconds=seconds,
    )


def _surrogate(
    observations: Sequence[Observation], space: LabelSpace, seed: int
) -> tuple[Surrogate | None, tuple[str, ...]]:
    """The tree, or why there is none."""
    rule = specification.conclude if space == specification.LABEL_SPACE else None
    try:
        return fit_surrogate([each.record for each in observations], space, rule=rule, seed=seed), ()
    except (ConfigurationError, DataError) as error:
        _log.warning("no surrogate: %s", error)
        return None, (f"No surrogate: {error}.",)
