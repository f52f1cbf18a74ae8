"""What is searched for: texts, each of a section of the report.

A text is scored as the beginning of what the model would write: log p of its words, without that of the
end token behind them. On 899 fresh phantom studies that never ranks worse than with the end token: the
mean reciprocal rank is the same for whole sentences, and higher for halves of them (0.87, with the end token
0.86) and phrases such as "mitosis frequent" (0.91, 0.88; two of them in a query 0.79, 0.72):
benchmarks/retrieval_end_token.py.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Query", "QueryPart"]


@dataclass(frozen=True)
class QueryPart:
    """One text of a query.

    Attributes:
        text: A sentence or the beginning of one, in words the model knows.
        sections: Sections that may have said it, one or more; p(text | image) is the mean over them.
    """

    text: str
    sections: tuple[str, ...]


@dataclass(frozen=True)
class Query:
    """Texts that an image should bear out together: their log-likelihoods add up."""

    parts: tuple[QueryPart, ...]
