"""Sections under way: the report module's state, one row a text, whatever chooses the words.

A row is one text of one section of one study. Beams and draws are rows too, as if they were more sections of
the study: they share its C(I), which is never repeated. Nothing here knows what the state of a report module
holds; `mdnet.models.report_module.ReportModule` is the contract.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdnet.inference.decoded import Alternatives, map_tensors
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet
from mdnet.models.prepared import Prepared

__all__ = ["CHECK_EVERY", "Writer", "likeliest", "score"]

CHECK_EVERY = 8  # steps between looks at whether all is written: a look waits for the device


class Writer:
    """The rows of a batch, (B, R): section s of a study has the rows from s K to s K + K - 1.

    Attributes:
        words: (B, R) the words written last; at first the begin tokens.
        dtype: Of log p: sums over a text need float32 at least, whatever the model computes in.

    Args:
        model: In evaluation mode.
        features: C(I) of B studies.
        prepared: `model.prepare(features, ...)`.
        words: What a row writes at most.
        copies: Rows K of each section.
    """

    def __init__(
        self, model: MDNet, features: ImageFeatures, prepared: Prepared, *, words: int, copies: int = 1
    ) -> None:
        assert model.report is not None
        self._report, config = model.report, model.config
        self._grid = features.grid
        self.studies, self.sections, self.copies = len(self._grid), len(config.sections), copies
        self.dtype, self.device = torch.promote_types(self._grid.dtype, torch.float32), self._grid.device
        self.vocabulary_size, self.end_id, self.pad_id = config.vocabulary_size, config.end_id, config.pad_id

        no_words = [self.pad_id, *config.begin_ids]
        if model.tokenizer is not None:
            no_words.append(model.tokenizer.unknown_id)
        self._no_words = torch.tensor(no_words, device=self.device)

        self._first = torch.empty(0, 0, 1)  # the first row of each section, in B R
        self.words = torch.tensor(config.begin_ids, device=self.device).expand(self.studies, -1)
        if copies > 1:
            places = torch.arange(self.sections, device=self.device).repeat_interleave(copies)
            self.words = self.words[:, places]
            prepared = prepared.of_sections(places.expand(self.studies, -1))
        self._prepared = self._report.precompute(self._grid, prepared, words=words)
        self._state = self._report.initial_state(self._prepared)
        # What a row that is not to be written says: its end, for certain.
        self._end = torch.full((self.vocabulary_size,), -torch.inf, dtype=self.dtype, device=self.device)
        self._end[self.end_id] = 0.0

    def advance(self) -> tuple[Tensor, Tensor]:
        """Reads `words`; log p (B, R, V) of what comes next, and attention (B, R, P).

        Log p is the caller's own to change. What stands for no word (padding, unknown, begin tokens) has
        -inf: it is never written.
        """
        self._state, attention = self._report.step(
            self._report.embedding(self.words), self._state, self._grid, self._prepared
        )
        logits = self._report.output(self._report.readout(self._state))
        log_p = logits.log_softmax(dim=-1, dtype=self.dtype)
        if self._prepared.closed is not None:
            log_p = torch.where(self._prepared.closed[..., None], self._end, log_p)
        return log_p.index_fill_(-1, self._no_words, -torch.inf), attention

    def reorder(self, parents: Tensor) -> None:
        """Each row goes on from another row of its section: parents (B, S, K), places among its K."""
        if self.copies == 1:
            return
        if self._first.shape[:2] != parents.shape[:2]:
            sections = torch.arange(parents.shape[0] * parents.shape[1], device=self.device)
            self._first = self.copies * sections.view(*parents.shape[:2], 1)
        rows = (self._first + parents).flatten()
        self._state = map_tensors(
            self._state, lambda tensor: tensor.flatten(0, 1).index_select(0, rows).view_as(tensor)
        )

    def without_repeats(self, log_p: Tensor, written: Tensor, *, no_repeat_ngram: int) -> Tensor:
        """Log p (..., V), -inf for what would repeat a run of words of `written`, (..., t)."""
        size = no_repeat_ngram
        if not size or written.shape[-1] < size:
            return log_p
        runs = written.unfold(-1, size, 1)  # (..., t - size + 1, size)
        last = written[..., None, written.shape[-1] - size + 1 :]  # its last size - 1 words
        repeats = (runs[..., :-1] == last).all(dim=-1)  # of no words, all are equal
        blocked = runs[..., -1]
        repeats &= blocked != self.end_id  # of a row that is over: something must be left to it
        return log_p.scatter(-1, blocked.masked_fill(~repeats, self.pad_id), -torch.inf)

    def keep(self, studies: Tensor, rows: Tensor) -> None:
        """Goes on with the rows (B', R') of the studies (B',) alone."""
        self._grid = self._grid[studies]
        self._state = map_tensors(self._state, lambda tensor: tensor[studies[:, None], rows])
        self.words = self.words[studies[:, None], rows]
        self._prepared = map_tensors(self._prepared, lambda tensor: tensor[studies]).of_sections(rows)


def likeliest(log_p: Tensor, count: int) -> Alternatives:
    """The likeliest words (..., A) of log p (..., V)."""
    found = log_p.topk(min(count, log_p.shape[-1]))
    return Alternatives(found.indices, found.values)


def score(log_p: Tensor, length: Tensor, length_penalty: float) -> Tensor:
    """What ranks the texts of a section: `log p / tokens ** a`, the end token counted."""
    return log_p / length.to(log_p.dtype) ** length_penalty if length_penalty else log_p
