"""What reports say of each aspect, against the truth and against the model's own diagnosis.

Overlap of words rewards a fluent report of the wrong disease. Here a rule-based reader
(`mdnet.data.statements`) has turned every report into classes, which are scored as a diagnosis is:

- *true*: the text states the truth and nothing else;
- *silent* (omission): it states nothing of an aspect whose truth is known;
- *ambiguous*: it states two classes that exclude each other;
- *contradiction*: of the texts that state a class, those that state another than the classifier's. A
  multi-label aspect is contradicted by a class that the classifier denies, or where the text denies
  and the classifier finds; what a text leaves out is no contradiction;
- *DCA*, diagnosis-conclusion agreement: share of reports whose conclusion is the predicted diagnosis,
  after Zhang et al., "MDNet", CVPR 2017, section 4; silent and ambiguous reports do not agree.

None stands where nothing could be counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdnet.data.statements import StatementReader
from mdnet.data.study import Aspect, LabelSpace

__all__ = ["Statement", "statement_metrics", "statements_of"]


@dataclass(frozen=True)
class Statement:
    """What one report says of one aspect, beside what is true and what the classifier says.

    Attributes:
        aspect: What it is about.
        stated: The classes stated, as `StatementReader.read` gives them.
        truth: The true class or classes; None where they are not known.
        head: The predicted class or classes; None where there is no prediction, or none is possible.
    """

    aspect: Aspect
    stated: frozenset[str] | None
    truth: frozenset[str] | None
    head: frozenset[str] | None

    @property
    def ambiguous(self) -> bool:
        """Whether the text states classes that exclude each other."""
        return self.stated is not None and len(self.stated) > 1 and not self.aspect.multi_label

    @property
    def contradicts(self) -> bool:
        """Whether the text says other than the classifier."""
        if self.stated is None or self.head is None or self.ambiguous:
            return False
        return bool(self.stated - self.head) or (not self.stated and bool(self.head))


def statements_of(
    reader: StatementReader,
    space: LabelSpace,
    report: Mapping[str, str],
    *,
    labels: Mapping[str, str | tuple[str, ...]],
    heads: Mapping[str, Collection[str]],
) -> list[Statement]:
    """One report's statements, of every aspect that the reader knows and the space has.

    Args:
        reader: Reads the text.
        space: The aspects.
        report: Section name to generated text; an undivided report is one section of any name.
        labels: The study's true labels, as `Study.labels`.
        heads: Aspect name to the predicted class, or classes, in a collection.
    """
    due = reader.due(labels)
    rows = []
    for name, stated in reader.read(report).items():
        if name not in space:
            continue
        label = due.get(name)
        truth = None if label is None else frozenset((label,) if isinstance(label, str) else label)
        head = frozenset(heads[name]) if name in heads else None
        if truth is not None and not truth <= set(space[name].classes):
            head = None  # the classifier has no such class, as for a feature that cannot be assessed
        rows.append(Statement(space[name], stated, truth, head))
    return rows


def statement_metrics(rows: Sequence[Statement], *, diagnosis: str | None = None) -> dict[str, Any]:
    """Measures what reports state.

    Args:
        rows: One for every report and aspect.
        diagnosis: The aspect that concludes.

    Returns:
        texts (rows with a truth), true, silent, ambiguous, agree_with_head and contradiction over all
        aspects; dca; aspects, the same aspect by aspect, with precision, recall and f1 (means of the
        classes that have them) and per_class (name -> precision, recall, f1, support); and sections,
        `true` aspect by aspect. An ambiguous text counts as stating no class.
    """
    by_aspect: dict[str, list[Statement]] = {}
    for row in rows:
        by_aspect.setdefault(row.aspect.name, []).append(row)
    aspects = {name: _shares(members) | _class_metrics(members) for name, members in by_aspect.items()}
    return {
        **_shares(rows),
        "dca": aspects.get(diagnosis or "", {}).get("agree_with_head"),
        "sections": {name: metrics["true"] for name, metrics in aspects.items() if metrics["texts"]},
        "aspects": aspects,
    }


def _shares(rows: Sequence[Statement]) -> dict[str, Any]:
    """Shares of texts: of those with a truth, of those with a prediction, of those that state one too."""
    known = [row for row in rows if row.truth is not None]
    predicted = [row for row in rows if row.head is not None]
    stating = [row for row in predicted if row.stated is not None and not row.ambiguous]
    return {
        "texts": len(known),
        "true": _share(row.stated == row.truth for row in known),
        "silent": _share(row.stated is None for row in known),
        "ambiguous": _share(row.ambiguous for row in known),
        "agree_with_head": _share(row.stated == row.head for row in predicted),
        "contradiction": _share(row.contradicts for row in stating),
    }


def _class_metrics(rows: Sequence[Statement]) -> dict[str, Any]:
    """Precision, recall and F1 of the text's classes, of one aspect."""
    known = [
        (row.truth, frozenset() if row.stated is None or row.ambiguous else row.stated)
        for row in rows
        if row.truth is not None
    ]
    named = frozenset().union(*(truth | stated for truth, stated in known))
    classes = rows[0].aspect.classes
    per_class = {}
    for name in (*classes, *sorted(named.difference(classes))):  # the phantom states a class no head has
        support = sum(name in truth for truth, _ in known)
        stated = sum(name in said for _, said in known)
        hits = sum(name in truth and name in said for truth, said in known)
        per_class[name] = {
            "precision": hits / stated if stated else None,
            "recall": hits / support if support else None,
            "f1": 2 * hits / (support + stated) if support + stated else None,
            "support": support,
        }
    means = {
        metric: _mean(values[metric] for values in per_class.values())
        for metric in ("precision", "recall", "f1")
    }
    return {**means, "per_class": per_class}


def _share(found: Iterable[bool]) -> float | None:
    return _mean(float(one) for one in found)


def _mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are defined."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
