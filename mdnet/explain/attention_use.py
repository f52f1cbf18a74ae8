"""Is attention used: what the true report loses when its attention is replaced.

Good text proves nothing about attention (docs/results.md), nor does a map that points well. So the
attention of every word is replaced, and the log-likelihood of the true sections taken again:

- `uniform`: every position alike; what the choice of place is worth;
- `other image`: the attention that another study's evidence would make, over this study's features;
- `nothing`: no image feature for any word, z_t = 0; what the image is worth to the words. What a language
  module began with (`Prepared.start`) stays.

A study's aspects are guided by the classes that the model predicts, as in use.

References:
    1. Jain and Wallace, "Attention is not Explanation", NAACL 2019, arXiv 1902.10186.
    2. Wiegreffe and Pinter, "Attention is not not Explanation", EMNLP 2019, arXiv 1908.04626.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.data.loading import StudyBatch, StudyDataset, make_loader
from mdnet.data.study import Study
from mdnet.errors import ConfigurationError, DataError
from mdnet.metrics.bootstrap import Interval, confidence_interval
from mdnet.models.attention import Attention, softmax_there
from mdnet.models.mdnet import MDNet
from mdnet.models.prepared import Prepared

__all__ = [
    "REPLACEMENTS",
    "AttentionUse",
    "NoAttention",
    "OtherAttention",
    "ReplacedAttention",
    "UniformAttention",
    "attention_replaced",
    "measure_attention_use",
]

FloatArray = npt.NDArray[np.float64]

_BATCH = 32


class ReplacedAttention(Attention):
    """Stands in for an attention that it keeps."""

    def __init__(self, kept: Attention) -> None:
        super().__init__()
        self.kept = kept

    def prepare(self, grid: Tensor, evidence: Tensor, there: Tensor | None = None) -> Prepared:
        return self.kept.prepare(grid, evidence, there)


class UniformAttention(ReplacedAttention):
    """The same weight for every position."""

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        return softmax_there(torch.zeros_like(self.kept(hidden, prepared)), prepared.there)


class OtherAttention(ReplacedAttention):
    """The attention that the next study of the batch would get at this word."""

    def prepare(self, grid: Tensor, evidence: Tensor, there: Tensor | None = None) -> Prepared:
        return self.kept.prepare(grid.roll(-1, dims=0), evidence.roll(-1, dims=0), there)

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        return self.kept(hidden, prepared)


class NoAttention(ReplacedAttention):
    """No weight for any position: the words get no image feature."""

    def forward(self, hidden: Tensor, prepared: Prepared) -> Tensor:
        return torch.zeros_like(self.kept(hidden, prepared))


REPLACEMENTS: dict[str, type[ReplacedAttention]] = {
    "uniform": UniformAttention,
    "other image": OtherAttention,
    "nothing": NoAttention,
}


@contextmanager
def attention_replaced(model: MDNet, replacement: type[ReplacedAttention]) -> Iterator[None]:
    """The model with another attention; its own is put back, whatever happens.

    Raises:
        ConfigurationError: The model writes no report.
    """
    if model.report is None:
        raise ConfigurationError("the model writes no report: there is no attention to replace")
    own = model.report.attention
    model.report.attention = replacement(own)
    try:
        yield
    finally:
        model.report.attention = own


@dataclass(frozen=True)
class AttentionUse:
    """How far log p(true text | image) falls when the attention is replaced, in nats.

    Attributes:
        replacement: A key of `REPLACEMENTS`.
        report: Fall of a whole report, a mean over studies with its interval.
        sections: Section name to the fall of its text, likewise.
        words: Section name to word to the fall of that word wherever it stands, highest first.
        studies: How many studies have a report.
    """

    replacement: str
    report: Interval
    sections: dict[str, Interval]
    words: dict[str, dict[str, Interval]]
    studies: int

    @property
    def matters(self) -> bool:
        """The interval of the report's fall lies above 0."""
        return self.report.low is not None and self.report.low > 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"matters": self.matters}


def measure_attention_use(
    model: MDNet, studies: Sequence[Study], *, replacements: Sequence[str] = tuple(REPLACEMENTS)
) -> dict[str, AttentionUse]:
    """Replaces the attention of a model over studies with reports; by replacement, what the text loses.

    Args:
        model: In evaluation mode, with its tokenizer and preprocessing.
        studies: Their first writer's text counts; those without a report are left out. Intervals
            resample patients.
        replacements: Keys of `REPLACEMENTS`.

    Raises:
        ConfigurationError: No such replacement, or the model writes no report.
        DataError: Fewer than two studies have a report: no other image.
    """
    if unknown := sorted(set(replacements) - set(REPLACEMENTS)):
        raise ConfigurationError(f"no replacement {unknown[0]!r}; there are {', '.join(REPLACEMENTS)}")
    sections = model.config.sections
    told = [study for study in studies if any(study.report.get(name) for name in sections)]
    if len(told) < 2:
        raise DataError("attention use", f"{len(told)} studies with a report", "give at least two")
    tokens, before, after = _log_probabilities(model, told, replacements)
    groups = np.array([study.patient or study.id for study in told])
    results = {}
    for name in replacements:
        fall = before - after[name]  # (N, S, T); 0 where there is no word
        by_section, by_word = {}, {}
        for column, section in enumerate(sections):
            told_here = (tokens[:, column] != model.config.pad_id).any(axis=1)
            if told_here.any():
                by_section[section] = confidence_interval(
                    fall[told_here, column].sum(axis=1), groups=groups[told_here].tolist()
                )
                by_word[section] = _by_word(model, tokens[:, column], fall[:, column], groups)
        results[name] = AttentionUse(
            replacement=name,
            report=confidence_interval(fall.sum(axis=(1, 2)), groups=groups.tolist()),
            sections=by_section,
            words=by_word,
            studies=len(told),
        )
    return results


@torch.inference_mode()
def _log_probabilities(
    model: MDNet, studies: Sequence[Study], replacements: Sequence[str]
) -> tuple[npt.NDArray[np.int64], FloatArray, dict[str, FloatArray]]:
    """The true words, their log p, and their log p under each replacement, each (N, S, T)."""
    assert model.preprocessing is not None  # saved with the weights
    dataset = StudyDataset(
        studies,
        label_space=model.config.space,
        sections=model.config.sections,
        tokenizer=model.tokenizer,
        preprocessing=model.preprocessing,
        views=model.views,
    )
    batch_size = _BATCH
    while len(studies) % batch_size == 1:  # a study alone in its batch has no other image
        batch_size += 1
    tokens: list[npt.NDArray[np.int64]] = []
    before: list[FloatArray] = []
    after: dict[str, list[FloatArray]] = {name: [] for name in replacements}
    batch: StudyBatch
    for batch in make_loader(dataset, batch_size=batch_size):
        batch = batch.to(model.device)
        pixel_values = model.preprocessing.normalise(batch.images)
        assert batch.tokens is not None
        tokens.append(batch.tokens.cpu().numpy())
        before.append(_of_words(model, pixel_values, batch))
        for name in replacements:
            with attention_replaced(model, REPLACEMENTS[name]):
                after[name].append(_of_words(model, pixel_values, batch))
    pad = model.config.pad_id
    return _joined(tokens, pad), _joined(before, 0), {name: _joined(rows, 0) for name, rows in after.items()}


def _of_words(model: MDNet, pixel_values: Tensor, batch: StudyBatch) -> FloatArray:
    """Log p of every word, (B, S, T); 0 at the padding."""
    assert batch.tokens is not None
    output = model(pixel_values, tokens=batch.tokens, present=batch.present)
    chosen = output.report_logits.log_softmax(dim=-1).gather(-1, batch.tokens[..., None]).squeeze(-1)
    return chosen.masked_fill(batch.tokens == model.config.pad_id, 0.0).double().cpu().numpy()


def _joined(batches: Sequence[npt.NDArray[Any]], fill: int) -> npt.NDArray[Any]:
    """Batches (B, S, T) of unequal T, one below the other."""
    length = max(batch.shape[2] for batch in batches)
    wide = [((0, 0), (0, 0), (0, length - batch.shape[2])) for batch in batches]
    return np.concatenate([np.pad(b, w, constant_values=fill) for b, w in zip(batches, wide, strict=True)])


def _by_word(
    model: MDNet, tokens: npt.NDArray[np.int64], fall: FloatArray, groups: npt.NDArray[np.str_]
) -> dict[str, Interval]:
    """Fall of every word of a section, tokens and fall (N, T), groups (N,); highest first."""
    assert model.tokenizer is not None
    found = {}
    for number in np.unique(tokens).tolist():
        if number not in (model.config.pad_id, model.config.end_id):
            study, place = np.nonzero(tokens == number)
            word = model.tokenizer.words([number])[0]
            found[word] = confidence_interval(fall[study, place], groups=groups[study].tolist())
    return dict(sorted(found.items(), key=lambda entry: -entry[1].mean))
