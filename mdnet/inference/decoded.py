"""What decoding gives, and what moves records of tensors about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

__all__ = ["Alternatives", "Decoded", "Hypotheses", "Search", "map_tensors"]

Record = TypeVar("Record")


class Alternatives(NamedTuple):
    """The likeliest words at each step, the likeliest first; of no meaning at the padding.

    Attributes:
        tokens: (B, S, T, A) word ids.
        log_probabilities: (B, S, T, A) log p of each after the words written before it.
    """

    tokens: Tensor
    log_probabilities: Tensor


class Hypotheses(NamedTuple):
    """Several texts of every section, the best first.

    Attributes:
        tokens: (B, S, N, T) word ids; the end token closes a text, padding follows. One that came to no
            end has none.
        log_probabilities: (B, S, N, T) log p of each token; 0 at the padding.
        scores: (B, S, N) log p of the text over its length to the power of the length penalty; -inf where
            there are fewer texts.
    """

    tokens: Tensor
    log_probabilities: Tensor
    scores: Tensor


class Decoded(NamedTuple):
    """Written sections.

    Attributes:
        tokens: (B, S, T) word ids; the end token closes a section, padding follows.
        log_probabilities: (B, S, T) log p of each token; 0 at the padding.
        attention: (B, S, T, P) where each token looked; of no meaning at the padding.
        alternatives: The words that could have stood there, where asked for.
        others: The best of the other texts, `best - 1` of them, where asked for.
        agrees: (B, S) whether the section states what it should; None where that was not asked.
    """

    tokens: Tensor
    log_probabilities: Tensor
    attention: Tensor
    alternatives: Alternatives | None = None
    others: Hypotheses | None = None
    agrees: Tensor | None = None


class Search(Protocol):
    """A search that is over: its texts, and what is worth looking up for the one that is written."""

    @property
    def hypotheses(self) -> Hypotheses: ...

    def looked_up(self, chosen: Tensor) -> tuple[Tensor, Alternatives | None]:
        """Attention (B, S, T, P) and alternatives of the texts `chosen`, (B, S)."""


def map_tensors(record: Record, function: Callable[[Tensor], Tensor]) -> Record:
    """The same record with `function` applied to each tensor in it: a named tuple, of named tuples too."""
    if record is None:
        return record
    if isinstance(record, Tensor):
        return function(record)  # type: ignore[return-value]  # Record is Tensor here
    members: Any = record
    return type(record)(*(map_tensors(member, function) for member in members))
