"""The report of a finding: its sections, how sure of their wording the model is, what else it had in mind."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["OtherText", "ReportFinding", "SectionFinding"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OtherText:
    """A text that could have been written, of a section or a report.

    Attributes:
        log_likelihood: log p(text | image), natural logarithm.
        tokens: Its words and ends.
    """

    text: str
    log_likelihood: float
    tokens: int

    @property
    def confidence(self) -> float | None:
        """As that of `SectionFinding`."""
        return _mean_probability(self.log_likelihood, self.tokens)


@dataclass(frozen=True)
class SectionFinding:
    """The text for one section, and where each of its words looked.

    Attributes:
        words: The tokens as the model wrote them, punctuation included.
        attention: (words, rows, columns) over the feature grid; each word's map sums to 1.
        sharpness: (words,) how peaked each map is: 1 - entropy / log(positions), 0 is flat.
        log_probabilities: (words,) log p(word | image, words before), natural logarithm.
        aspect: The aspect whose evidence guided the attention, if any.
        guided_by: The class whose evidence did.
        end_log_probability: log p of the end after the last word; None where the text was cut at the limit,
            or the section was not to be written.
        alternatives: Of each word the likeliest tokens in its place, the likeliest first, with their
            probabilities; the word itself is one of them where it is likely enough. Empty unless asked for.
        others: The best of the other texts for the section, in the order of the search. Empty likewise.
        agrees: Whether the text states the predicted class, where decoding was to make it so; None where it
            was not: nor is it of a section that is not read for a class, or not to be written.
    """

    name: str
    text: str
    words: tuple[str, ...]
    attention: FloatArray
    sharpness: FloatArray
    log_probabilities: FloatArray
    aspect: str | None = None
    guided_by: str | None = None
    end_log_probability: float | None = None
    alternatives: tuple[tuple[tuple[str, float], ...], ...] = ()
    others: tuple[OtherText, ...] = ()
    agrees: bool | None = None

    @property
    def tokens(self) -> int:
        """Words, and the end where there is one."""
        return len(self.log_probabilities) + (self.end_log_probability is not None)

    @property
    def log_likelihood(self) -> float:
        """Natural logarithm of p(section | image): the sum over its tokens."""
        return float(self.log_probabilities.sum()) + (self.end_log_probability or 0.0)

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the probabilities of its tokens; None where none is known.

        How sure the model is of the wording, which is no probability that what it says is true.
        """
        return _mean_probability(self.log_likelihood, self.tokens)


@dataclass(frozen=True)
class ReportFinding:
    """The report: its sections in order."""

    sections: Mapping[str, SectionFinding]

    @property
    def text(self) -> str:
        return _joined(section.text for section in self.sections.values())

    @property
    def log_likelihood(self) -> float:
        """That of p(report | image): the sections' sum, as they are independent of each other given it."""
        return sum(section.log_likelihood for section in self.sections.values())

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the probabilities of all its tokens, as that of a section."""
        return _mean_probability(self.log_likelihood, sum(s.tokens for s in self.sections.values()))

    def others(self, count: int) -> tuple[OtherText, ...]:
        """The likeliest other reports that the sections' own other texts make, the likeliest first."""
        best = [(True, OtherText("", 0.0, 0))]  # whether it is the written one so far
        for section in self.sections.values():
            own = OtherText(section.text, section.log_likelihood, section.tokens)
            texts = [(True, own), *((False, other) for other in section.others)]
            longer = [
                (
                    written and same,
                    OtherText(
                        _joined((report.text, text.text)),
                        report.log_likelihood + text.log_likelihood,
                        report.tokens + text.tokens,
                    ),
                )
                for (written, report), (same, text) in product(best, texts)
            ]
            # Exact: what is not among the best so far is not among the best with any text behind it.
            best = heapq.nlargest(count + 1, longer, key=lambda entry: entry[1].log_likelihood)
        return tuple(report for written, report in best if not written)[:count]

    def details(self) -> dict[str, Any]:
        """Confidence, and what decoding was asked for beside the texts, section by section, for JSON."""
        sections = self.sections
        asked_for = {
            "agrees": {name: s.agrees for name, s in sections.items() if s.agrees is not None},
            "alternatives": {
                name: [
                    {"word": word, "alternatives": dict(likeliest)}
                    for word, likeliest in zip(s.words, s.alternatives, strict=True)
                ]
                for name, s in sections.items()
                if s.alternatives
            },
            "others": {
                name: [asdict(other) | {"confidence": other.confidence} for other in s.others]
                for name, s in sections.items()
                if s.others
            },
        }
        confidence = {name: section.confidence for name, section in sections.items()}
        return {
            "confidence": {"report": self.confidence, "sections": confidence},
            **{key: found for key, found in asked_for.items() if found},
        }


def _joined(texts: Iterable[str]) -> str:
    """The sections of a report as one text."""
    return " ".join(text for text in texts if text)


def _mean_probability(log_likelihood: float, tokens: int) -> float | None:
    """Geometric mean of the probabilities of so many tokens; None of none."""
    return math.exp(log_likelihood / tokens) if tokens else None
