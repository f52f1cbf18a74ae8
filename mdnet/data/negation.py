"""Clauses, words, and which phrases of a clause are negated.

Chapman et al., "A Simple Algorithm for Identifying Negated Findings and Diseases in Discharge
Summaries", Journal of Biomedical Informatics 2001 (NegEx): a trigger negates what stands within five
words behind it ("no", "without", "negative for", "free of") or before it ("is not seen", "absent",
"unlikely"); some wordings only look like triggers ("no change in", "cannot be excluded").

Three rules are added. Behind a trigger the reach starts anew at a comma, "or" and "nor", for reports deny
in lists ("no focal consolidation, suspicious opacity, pneumothorax or pleural effusion"), and it ends at a
finite verb, even one inside a phrase, for some are written without full stops ("no crowding is seen
polarity is lost"). Before a trigger it ends at a comma or at a second verb. The triggers are English; others
can be added.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import product

__all__ = ["Negation", "Phrase", "split_clauses", "split_phrase"]

Phrase = tuple[str, ...]

_REACH = 5  # words between trigger and phrase

# A script without spaces has a word a character.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(
    rf"[{_UNSPACED}]|\d+(?:[.,]\d+)+|(?:(?![{_UNSPACED}])\w)+(?:'\w+)*|[,.;!?。、+%<>=±≤≥]|\n\s*\n"
)
_CLAUSE_ENDS = frozenset(".;!?。")
_COMMAS = frozenset(",、")

# Triggers of a line are separated by bars.
_BEFORE_PHRASE = (
    "no|not|without|nor|neither|never|cannot|denies|denied|lacks|lack of|absence of|negative for|free of"
    "|free from|clear of|rule out|rules out|ruled out for|resolution of|fails to show|fails to reveal"
)
_BEHIND_PHRASE = "absent|none|unlikely|negative|free|ruled out|excluded|has resolved|have resolved"
_PARTICIPLES = (  # behind a phrase as "not seen", "cannot be seen"
    "seen|observed|present|identified|visible|visualized|visualised|noted|detected|evident|found|shown"
    "|demonstrated|appreciated|recognizable|recognisable"
)
_BEFORE_PARTICIPLE = "not|no longer|cannot be|can not be|could not be"
_NO_NEGATION = (
    "no change|no significant change|no interval change|no significant interval change|no definite change"
    "|no increase|no decrease|without change|without difficulty|not only|not necessarily|not certain|no doubt"
    "|not excluded|not ruled out|not rule out|not exclude|cannot exclude|cannot rule out|can not exclude"
    "|can not rule out|cannot be excluded|cannot be ruled out|can not be excluded|can not be ruled out"
    "|gram negative"
)
_VERBS = "is|are|was|were|there|remains|appears"
_ENDS = (
    "but|however|although|though|nevertheless|except|yet|which|who|whereas|while|because|due|secondary"
    "|suggesting|suggests|suggestive|indicating|indicates|indicative|consistent"
)
_ALTERNATIVES = ("or", "nor")


def split_clauses(text: str) -> list[list[str]]:
    """The words of each clause; case, width and composition of characters do not matter.

    A clause ends at a full stop, semicolon, exclamation or question mark, Chinese comma (which parts
    clauses; items of a list have "、") or blank line. Commas and signs such as "+" and "%" are words; other
    punctuation is dropped.
    """
    clauses: list[list[str]] = [[]]
    text = unicodedata.normalize("NFKC", text.replace("，", ";").replace("’", "'")).casefold()
    for word in _WORD.findall(text):
        if word in _CLAUSE_ENDS or word.isspace():
            clauses.append([])
        else:
            clauses[-1].append(word)
    return [clause for clause in clauses if clause]


def split_phrase(text: str) -> Phrase | None:
    """The words of a phrase; None if there are none, or if it runs over the end of a clause."""
    clauses = split_clauses(text)
    return tuple(clauses[0]) if len(clauses) == 1 else None


class Negation:
    """Finds the negated ones among phrases.

    Args:
        triggers: Further ones that negate what stands behind them, as in other languages.
    """

    def __init__(self, triggers: Iterable[Phrase] = ()) -> None:
        self._verbs = frozenset(_VERBS.split("|"))
        self._ends = self._verbs.union(_ENDS.split("|"))
        participles = product(_BEFORE_PARTICIPLE.split("|"), _PARTICIPLES.split("|"))
        self._kinds: dict[Phrase, str] = {}
        for kind, listed in (
            ("none", _NO_NEGATION.split("|")),
            ("before", [*_BEHIND_PHRASE.split("|"), *map(" ".join, participles)]),
            ("behind", _BEFORE_PHRASE.split("|")),
        ):
            self._kinds |= {tuple(text.split()): kind for text in listed}
        self._kinds |= dict.fromkeys(triggers, "behind")
        self._longest = max(map(len, self._kinds))

    def negated(self, clause: Sequence[str], spans: Sequence[tuple[int, int]]) -> list[bool]:
        """Whether each phrase is negated.

        Args:
            clause: Words of one clause.
            spans: First word of every phrase and the one behind its last, in order, none in another.
                A trigger inside a phrase belongs to it and negates nothing.
        """
        span_at = {place: index for index, (start, stop) in enumerate(spans) for place in range(start, stop)}
        barriers = {place for place, word in enumerate(clause) if word in self._ends}
        for start, stop in spans:  # a phrase that holds its verb is a clause of its own
            if any(word in self._verbs for word in clause[start:stop]):
                barriers.update(range(start, stop))
        result = [False] * len(spans)
        place = 0
        while place < len(clause):
            kind, stop = self._trigger(clause, place, span_at)
            if kind == "behind":
                places = range(stop, len(clause))
            elif kind == "before":
                end = place - 1
                while end >= 0 and clause[end] in self._verbs:
                    end -= 1
                places = range(end, -1, -1)
            else:
                places = range(0)
            for index in _reached(clause, places, span_at, barriers):
                result[index] = True
            place = stop
        return result

    def _trigger(self, clause: Sequence[str], place: int, span_at: dict[int, int]) -> tuple[str, int]:
        """Kind of the longest trigger that begins at a place, and the place behind it."""
        if place in span_at:
            return "none", place + 1
        for stop in range(min(place + self._longest, len(clause)), place, -1):
            kind = self._kinds.get(tuple(clause[place:stop]))
            if kind is not None and not any(inside in span_at for inside in range(place, stop)):
                return kind, stop
        return ("behind" if clause[place].endswith("n't") else "none"), place + 1


def _reached(clause: Sequence[str], places: range, span_at: dict[int, int], barriers: set[int]) -> set[int]:
    """The phrases met on the way along `places` before the reach ends."""
    met: set[int] = set()
    left = _REACH
    for place in places:
        comma = clause[place] in _COMMAS
        if left < 0 or place in barriers or (comma and places.step < 0):
            break
        left = _REACH if comma or clause[place] in _ALTERNATIVES else left - 1
        if place in span_at:
            met.add(span_at[place])
    return met
