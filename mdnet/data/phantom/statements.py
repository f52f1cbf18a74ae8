"""Reads back which class a text on synthetic tissue states: the inverse of `writers`.

The text may be a writer's sentence or a model's mixture of several. A sentence counts for a section
when it names one of the section's topics, and states the classes whose cues it holds. Longer cues
are read first and consumed, so that "no space" is not also read as "space".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from mdnet.data.phantom.specification import CONCLUSION, INSUFFICIENT, SECTIONS
from mdnet.errors import ConfigurationError

__all__ = ["stated_class", "stated_classes"]

# Phrases of a line are separated by bars.
_TOPICS: dict[str, str] = {
    "pleomorphism": "pleomorphism|size and shape|nuclear size|outlines|differences|differ|differs|vary|giant",
    "crowding": "crowding|crowded|space|spaced|close together|overlap|overlaps|packed|density|neighbors",
    "polarity": "polarity|axes|architecture|direction|arrangement|basement membrane",
    "mitosis": "mitosis|mitoses|mitotic|dividing",
    "nucleoli": "nucleoli|nucleolus",
    CONCLUSION: "conclusion|conclude|findings|overall the|urothelium|neoplasm|lesion|carcinoma|tumor"
    "|low grade|high grade",
}

_CUES: dict[str, dict[str, str]] = {
    "pleomorphism": {
        "mild": "mild|uniform|hardly any variation|smooth|slight|hardly differs|small differences",
        "moderate": "moderate|moderately|some variation|uneven|intermediate|up to twice|clear differences",
        "severe": "severe|widely|striking variation|bizarre|marked|giant and small|many times"
        "|extreme differences",
    },
    "crowding": {
        "absent": "no nuclear crowding|absent|well spaced|clear cytoplasm|ample space|evenly spaced|not seen"
        "|density is low|no crowding|well apart",
        "moderate": "moderate|moderately|close together|rarely touch|little space|overlaps are few"
        "|density is raised|come near",
        "severe": "severe|severely|packed|overlap one another|no space|overlaps are many"
        "|density is very high|on top of",
    },
    "polarity": {
        "preserved": "preserved|upright|an orderly arrangement|perpendicular|polarity is kept"
        "|architecture is ordered|one common direction",
        "partially lost": "partially lost|partial loss|lean|partly disturbed|tilted|polarity is reduced"
        "|partly disordered|roughly follow one direction",
        "lost": "completely lost|complete loss|every direction|no orderly arrangement|random|polarity is gone"
        "|fully disordered|no direction|lost|loss|disordered",
    },
    "mitosis": {
        "absent": "absent|no mitotic figures|no dividing|no mitotic activity|not seen|count is zero",
        "rare": "rare|one or two|low mitotic activity|scarce|most levels have none|count is low",
        "frequent": "frequent|numerous|high mitotic activity|common|most levels have one|count is high|many",
    },
    "nucleoli": {
        "inconspicuous": "inconspicuous|no visible|chromatin is even|even chromatin|without a nucleolus|tiny"
        "|few can be found|lack",
        "prominent": "prominent|large|dark round|bold|most can be found|dark dots|chromatin is open",
    },
    CONCLUSION: {
        "normal": "normal|no neoplasm",
        "low grade": "low grade",
        "high grade": "high grade",
    },
}

_INSUFFICIENT_CUES = (
    "insufficient|cannot be assessed|cannot be judged|cannot tell|not graded|not counted|not readable"
)


def stated_class(section: str, text: str) -> str | None:
    """The class that `text` states for `section`.

    Case, punctuation and spaces before punctuation do not matter.

    Returns:
        The class, of those that `stated_classes` finds; None where there is no one, or more than one.
    """
    stated = stated_classes(section, text)
    return next(iter(stated)) if len(stated) == 1 else None


def stated_classes(section: str, text: str) -> frozenset[str]:
    """Every class that `text` states for `section`.

    `insufficient information` is among them where the text says that the section cannot be assessed
    (for every section, although only the conclusion has that class).
    """
    if section not in SECTIONS:
        raise ConfigurationError(f"no section {section!r}; the sections: {', '.join(SECTIONS)}")
    topics, cues, labels = _patterns(section)
    stated: set[str] = set()
    for sentence in re.split(r"[.;!?]", text.lower()):
        words = " ".join(re.findall(r"[a-z]+", sentence))
        found = {labels[match] for match in cues.findall(words)}
        if not topics.search(words):
            found &= {INSUFFICIENT}  # needs no topic: the whole sentence may be "insufficient information"
        stated |= found
    return frozenset(stated)


@cache
def _patterns(section: str) -> tuple[re.Pattern[str], re.Pattern[str], dict[str, str]]:
    """Topics, cues, and the class of each cue."""
    classes = _CUES[section] | {INSUFFICIENT: _INSUFFICIENT_CUES}
    labels = {cue: label for label, cues in classes.items() for cue in cues.split("|")}
    return _any_of(_TOPICS[section].split("|")), _any_of(labels), labels


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the phrases as whole words, the longest one where several begin at one place."""
    return re.compile(rf"\b(?:{'|'.join(sorted(phrases, key=len, reverse=True))})\b")
