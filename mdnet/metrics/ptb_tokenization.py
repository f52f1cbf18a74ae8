"""Tokens of reports, close to those of pycocoevalcap's `PTBTokenizer`, without Java.

Published text metrics are computed on the tokens of a Java program: the conventions of the Penn
Treebank (Marcus, Santorini and Marcinkiewicz, Computational Linguistics 1993; tokenizer.sed by Robert
MacIntyre), lower-case, less the punctuation marks in pycocoevalcap's list. This module is one regular
expression written from these conventions and from the program's output; none of its source was used.

Two habits of the original are kept, for they change the counts: brackets stay, as "-lrb-" and the like
(the list has them in upper case only, and so misses them), and so do marks outside the list, such as
"%" and "/".

Known differences from the program: it splits off superscripts and subscripts ("cm²" is "cm ²") and
writes "½" as "1/2"; keeps "?!" and "??" as tokens, "clear,well-expanded", "A&B" and e-mail addresses as
one, and a period before a comma ("5 cm., and" has "cm."); reads the sentence for the period of an
initial ("Vitamin B. The") and of names such as "Mass."; knows more abbreviations; splits "gonna" and
its like; and drops emoji.
"""

from __future__ import annotations

import re

__all__ = ["tokenize"]

# Abbreviations, seldom a sentence's last word, whose period the program keeps; CT is Connecticut.
_ABBREVIATIONS = "al ct dr etc jr md mr mrs ms prof rt sr st vs jan feb mar apr jun jul aug sept oct nov dec"
_LETTERED = r"[^\W\d_]\w*"
_PART = rf"(?:{_LETTERED}(?:\.{_LETTERED})+|\w+)(?:-\w+)*"  # clear.heart   t2-weighted

_TOKEN = re.compile(
    rf"""
      (?:https?://|www\.)[^\s<>"]*\w                # a web address
    | <\w+>                                         # a tag that was left in: <br>
    | &(?:lt|gt|amp);
    | (?:[^\W\d_]\.){{2,}}(?!\w)                    # i.v.   p.m.
    | (?:[^\W\d_]|{_ABBREVIATIONS.replace(" ", "|")})\.(?!\w)
    | (?:figs?|nos?|pp)\.(?=\s*\d)                  # "no." is a word elsewhere
    | [-+]?\d*(?:[.,:]\d+)+(?:-\w+)*                # -2.5   1,000   12:30   .5   2.5-cm
    | [-+]\d+
    | can(?=not\b) | \w+(?=n't\b) | n't\b           # can not   do n't
    | '(?:s|m|d|ll|re|ve)\b                         # patient 's
    | [dlo]'\w\w+                                   # o'clock   l'hermitte
    | {_PART}(?:/{_PART}){{0,2}}                    # and/or
    | \S
    """,
    re.VERBOSE,
)
_WRITTEN_AS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "&lt;": "<",
    "&gt;": ">",
    "&amp;": "&",
}
_DROPPED = frozenset("'`\"“”‘’«».…?!,:;-–—")  # the list, and what the program writes as a mark of it


def tokenize(text: str) -> list[str]:
    """Split a report into lower-case tokens without punctuation; line breaks are spaces."""
    tokens = _TOKEN.findall(text.lower().replace("’", "'"))
    return [_WRITTEN_AS.get(token, token) for token in tokens if token not in _DROPPED]
