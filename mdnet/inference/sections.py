"""Writes the sections of a batch: decoding, then from word ids to the sections of a finding."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.data.statements import StatementReader
from mdnet.inference.constraints import SectionStatements
from mdnet.inference.decoded import Decoded, map_tensors
from mdnet.inference.decoding import decode
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.finding import AspectFinding
from mdnet.inference.report_finding import OtherText, SectionFinding
from mdnet.models.mdnet import MDNet
from mdnet.models.outputs import MDNetOutput

__all__ = ["SectionWriter", "of_first_views", "sharpness"]

FloatType = TypeVar("FloatType", bound=np.floating)

_NO_MAPS = np.zeros((0, 1, 1)), np.zeros(0)


class SectionWriter:
    """Writes the sections of batches, one batch after the other.

    Args:
        model: In evaluation mode. One that has no language module writes no section.
        config: How words are chosen. Draws go on from batch to batch, so that they do not depend on its size.
        statements: Reads what a section states, for constrained decoding.
        maps: Give attention and sharpness, too; without, both are empty.

    Raises:
        ConfigurationError: Decoding is constrained, and nothing says what a section states.
    """

    def __init__(
        self,
        model: MDNet,
        config: DecodingConfig,
        statements: StatementReader | None,
        *,
        maps: bool = True,
    ) -> None:
        self._model, self._config, self._maps = model, config, maps
        constrained = config.constrained and model.report is not None
        self._statements = SectionStatements(model, statements) if constrained else None
        self._generator = None if config.seed is None else torch.Generator().manual_seed(config.seed)

    def write(
        self, output: MDNetOutput, aspects: Sequence[Mapping[str, AspectFinding]], *, views: Sequence[int]
    ) -> list[dict[str, SectionFinding]]:
        """The sections of a batch's studies.

        Args:
            output: With features and logits.
            aspects: What the aspects of each study are.
            views: The views that each study has; maps are of those.
        """
        model, features = self._model, output.features
        if model.report is None:
            return [{} for _ in aspects]
        assert features is not None
        agreement = None
        if self._statements is not None:
            agreement = self._statements.agreement([_answers(each) for each in aspects])
        prepared = model.prepare(features, model.guides(output.logits))
        decoded = decode(
            model,
            features,
            prepared,
            self._config,
            agreement=agreement,
            generator=self._generator,
        )
        decoded = map_tensors(decoded, lambda tensor: tensor.cpu())
        grid = (features.rows, features.columns) if self._maps else None
        closed = None if prepared.closed is None else prepared.closed.cpu()
        read = self._statements.aspects if self._statements is not None else ()
        return [
            _section_findings(
                model, decoded, own, row=row, grid=grid, views=views[row], read=read, closed=closed
            )
            for row, own in enumerate(aspects)
        ]


def _answers(aspects: Mapping[str, AspectFinding]) -> dict[str, str | tuple[str, ...]]:
    """The predicted class, or classes, of every aspect."""
    return {name: own.labels if own.aspect.multi_label else own.label for name, own in aspects.items()}


def _section_findings(
    model: MDNet,
    decoded: Decoded,
    aspects: Mapping[str, AspectFinding],
    *,
    row: int,
    grid: tuple[int, int] | None,
    views: int,
    read: Collection[str],
    closed: Tensor | None,
) -> dict[str, SectionFinding]:
    """The sections of the study at `row`; of those in `read`, `decoded.agrees` says something.

    One that is `closed`, (B, S), was not to be written: it has no text, and its end is no choice of words.
    """
    tokenizer, config = model.tokenizer, model.config
    assert tokenizer is not None
    guided = model.report is not None and model.report.guided
    sections = {}
    for column, name in enumerate(config.sections):
        ids = decoded.tokens[row, column]
        count = int(((ids != config.pad_id) & (ids != config.end_id)).sum())
        written = closed is None or not closed[row, column]
        ended = written and count < len(ids) and int(ids[count]) == config.end_id
        log_p = decoded.log_probabilities[row, column].double().numpy()
        attention, peaked = _NO_MAPS
        if grid is not None:
            maps = decoded.attention[row, column, :count].double().numpy().reshape(count, *grid)
            attention, peaked = _attention(of_first_views(maps, views, model.views))
        aspect = config.section_aspects[name]
        sections[name] = SectionFinding(
            name=name,
            text=tokenizer.decode(ids[:count].tolist()),
            words=tokenizer.words(ids[:count].tolist()),
            attention=attention,
            sharpness=peaked,
            log_probabilities=log_p[:count],
            aspect=aspect,
            guided_by=aspects[aspect].label if aspect is not None and guided else None,
            end_log_probability=float(log_p[count]) if ended else None,
            alternatives=_alternatives(model, decoded, row, column, count),
            others=_others(model, decoded, row, column) if written else (),
            agrees=(
                bool(decoded.agrees[row, column])
                if decoded.agrees is not None and name in read and written
                else None
            ),
        )
    return sections


def _attention(maps: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Maps (words, rows, columns) over the views that a study has, each summing to 1; and their sharpness."""
    attention = maps.reshape(len(maps), math.prod(maps.shape[1:]))  # (words, positions)
    attention = attention / attention.sum(axis=1, keepdims=True)  # exactly 1 in float64
    return attention.reshape(maps.shape), sharpness(attention)


def _alternatives(
    model: MDNet, decoded: Decoded, row: int, column: int, count: int
) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Of each word of a section the likeliest words in its place, each with its probability."""
    if decoded.alternatives is None:
        return ()
    assert model.tokenizer is not None
    words: Sequence[Tensor] = decoded.alternatives.tokens[row, column, :count].unbind()
    log_p = decoded.alternatives.log_probabilities[row, column, :count].double()
    return tuple(
        tuple(
            (word, p)
            for word, p in zip(
                model.tokenizer.fast.convert_ids_to_tokens(ids.tolist()), probabilities.tolist(), strict=True
            )
            if p > 0  # not where the vocabulary has fewer words
        )
        for ids, probabilities in zip(words, log_p.exp(), strict=True)
    )


def _others(model: MDNet, decoded: Decoded, row: int, column: int) -> tuple[OtherText, ...]:
    """The other texts of a section, the best first; the search may have found fewer than were asked for."""
    if decoded.others is None:
        return ()
    assert model.tokenizer is not None
    tokens, log_p, scores = (each[row, column] for each in decoded.others)
    others = []
    for ids, probabilities, score in zip(tokens, log_p.double(), scores.tolist(), strict=True):
        if math.isfinite(score):
            total, count = float(probabilities.sum()), int((ids != model.config.pad_id).sum())
            others.append(OtherText(model.tokenizer.decode(ids.tolist()), total, count))
    return tuple(others)


def of_first_views(maps: npt.NDArray[FloatType], count: int, views: int) -> npt.NDArray[FloatType]:
    """What lies over the first `count` views of maps (..., rows, columns) over all `views`."""
    return maps[..., : maps.shape[-1] // views * count]


def sharpness(attention: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 - entropy / log(positions) of each row of (words, positions): 0 is flat, 1 a single position."""
    positions = attention.shape[1]
    if positions == 1:
        return np.ones(len(attention))
    entropy = -(attention * np.log(np.where(attention > 0, attention, 1.0))).sum(axis=1)
    return 1.0 - entropy / np.log(positions)
