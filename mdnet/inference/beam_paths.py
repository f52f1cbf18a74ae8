"""The way back through a beam search: from the places where texts end to their words and maps.

A step leaves behind which word each beam took and which beam it came from. Nothing that a beam has written
moves when beams change places; only the texts that are wanted are read off, at the end, all together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mdnet.inference.decoded import Alternatives, Hypotheses

__all__ = ["BeamPaths", "Rows", "Step"]


class Rows(NamedTuple):
    """The sections at work: of study `studies[n]` those at `sections[n]`.

    Attributes:
        studies: (N,) places in the batch.
        sections: (N, M) places of sections, each once.
    """

    studies: Tensor
    sections: Tensor

    @property
    def at(self) -> tuple[Tensor, Tensor]:
        """The index of a tensor (B, S, ...) that gives (N, M, ...)."""
        return self.studies[:, None], self.sections


class Step(NamedTuple):
    """What a step leaves behind, for K beams of a section.

    Attributes:
        words: (N, M, K) the word that each beam took.
        parents: (N, M, K) the beam that it was before.
        log_p: (N, M, K) log p of the word.
        end_log_p: (N, M, K) log p of an end in place of the step, by the beam before it.
        attention: (N, M, K, P) by the beam before the step.
        alternatives: (N, M, K, A) likewise.
    """

    words: Tensor
    parents: Tensor
    log_p: Tensor
    end_log_p: Tensor
    attention: Tensor
    alternatives: Alternatives | None


@dataclass
class _Stretch:
    """Steps with the same rows at work.

    Attributes:
        before: (T', N, M, H) the beam that each text was before each step, once followed.
    """

    rows: Rows
    start: int
    steps: list[Step] = field(default_factory=list)
    before: Tensor | None = None

    @property
    def stop(self) -> int:
        return self.start + len(self.steps)


class BeamPaths:
    """Records a search step by step, then reads texts off it.

    Args:
        end_id: The end token.
        pad_id: The padding.
    """

    def __init__(self, end_id: int, pad_id: int) -> None:
        self._end_id, self._pad_id = end_id, pad_id
        self._stretches: list[_Stretch] = []
        self._length: Tensor | None = None  # (B, S, H) words of each text, without the end
        self._steps = 0

    def work_on(self, rows: Rows) -> None:
        """The steps that follow are of these rows."""
        self._stretches.append(_Stretch(rows, self._steps))

    def add(self, step: Step) -> None:
        self._stretches[-1].steps.append(step)
        self._steps += 1

    def follow(self, length: Tensor, beam: Tensor, scores: Tensor) -> None:
        """Reads off texts of `length` words before an end, by the beam that they were then: (B, S, H) each.

        A text as long as the search has no end. `hypotheses` holds them then.
        """
        shape = (*length.shape, self._steps)
        tokens = torch.full(shape, self._pad_id, device=length.device)
        log_p = scores.new_zeros(shape)
        beam = beam.clone()
        for stretch in reversed(self._stretches):
            at, steps = stretch.rows.at, stretch.steps
            if not steps:
                continue
            times = torch.arange(stretch.start, stretch.stop, device=length.device)[:, None, None, None]
            goes_on = times < length[at]  # (T', N, M, H)
            now, after, before = beam[at], [], []
            for step, inside in zip(reversed(steps), reversed(goes_on.unbind()), strict=True):
                after.append(now)
                now = torch.where(inside, step.parents.gather(2, now), now)
                before.append(now)
            beam[at] = now
            after_, stretch.before = torch.stack(after[::-1]), torch.stack(before[::-1])
            ends = times == length[at]
            words = _stack(steps, "words").gather(3, after_)
            words = words.where(goes_on, torch.full_like(words, self._pad_id).masked_fill(ends, self._end_id))
            probabilities = _stack(steps, "log_p").gather(3, after_).where(goes_on, 0.0)
            end = _stack(steps, "end_log_p").gather(3, stretch.before)
            probabilities = end.where(ends, probabilities)
            place = (*at, slice(None), slice(stretch.start, stretch.stop))
            tokens[place], log_p[place] = words.movedim(0, -1), probabilities.movedim(0, -1)
        self._length, self._hypotheses = length, Hypotheses(tokens, log_p, scores)

    @property
    def hypotheses(self) -> Hypotheses:
        return self._hypotheses

    def looked_up(self, chosen: Tensor) -> tuple[Tensor, Alternatives | None]:
        """Attention and alternatives of the texts `chosen`, (B, S); 0 behind their ends."""
        assert self._length is not None
        length = self._length.gather(2, chosen[..., None])  # (B, S, 1)
        maps: dict[str, Tensor] = {}
        for stretch in self._stretches:
            if not stretch.steps:
                continue
            at = stretch.rows.at
            assert stretch.before is not None
            beam = stretch.before.gather(3, chosen[at][None, ..., None].expand(len(stretch.steps), -1, -1, 1))
            study = torch.arange(beam.shape[1], device=beam.device)[:, None]
            section = torch.arange(beam.shape[2], device=beam.device)
            times = torch.arange(stretch.start, stretch.stop, device=beam.device)
            written = (times <= length[at])[..., None]  # (N, M, T', 1)
            for name, kept in _maps_of(stretch.steps).items():
                found = torch.stack(
                    [
                        each[study, section, now.squeeze(2)]
                        for each, now in zip(kept, beam.unbind(), strict=True)
                    ],
                    dim=2,
                )  # (N, M, T', P) or (N, M, T', A)
                if name not in maps:
                    maps[name] = found.new_zeros(*chosen.shape, self._steps, found.shape[-1])
                maps[name][(*at, slice(stretch.start, stretch.stop))] = found * written
        attention = maps.pop("attention")
        return attention, Alternatives(**maps) if maps else None


def _stack(steps: list[Step], name: str) -> Tensor:
    return torch.stack([getattr(step, name) for step in steps])


def _maps_of(steps: list[Step]) -> dict[str, list[Tensor]]:
    """Attention, and the two tensors of the alternatives where they are kept, step by step."""
    maps = {"attention": [step.attention for step in steps]}
    alternatives = [step.alternatives for step in steps if step.alternatives is not None]
    if alternatives:
        maps["tokens"] = [each.tokens for each in alternatives]
        maps["log_probabilities"] = [each.log_probabilities for each in alternatives]
    return maps
