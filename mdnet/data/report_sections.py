"""A free-text report, split into sections by its headings.

Names and synonyms of the headings, and what the text under none of them is, follow the section parser
of MIMIC-CXR (Johnson et al., Scientific Data 2019, doi 10.1038/s41597-019-0322-0; code in
MIT-LCP/mimic-cxr, txt/section_parser.py), with these rules:

- A known heading stands at the beginning of a line (`FINDINGS:`, `Findings:`, or alone on the line
  without a colon), or within one: in capitals with a colon, or capitalised behind the end of a
  sentence. A longer heading in capitals that holds a main one (`CHEST FINDINGS:`) counts as it.
- `FINAL REPORT`, alone on its line, is a mark: below it begins text under no heading, and what stands
  above the first mark under no heading is the section `preamble`. Below `FINAL ADDENDUM` begins
  `addendum`.
- One line in capitals ahead of the first heading (`AP CHEST, 5:12 P.M.`) is the title: `examination`.
- What introduces a report (examination, indication, history, comparison, technique) has one paragraph:
  text without heading below a blank line, or under an unknown heading in capitals
  (`PORTABLE CHEST:`), is the section `report`. Elsewhere an unknown heading is text like any other,
  so that a template's `HEART:` and `LUNGS:` stay in the findings.

No word is lost but known headings and marks; white space becomes single spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["REPORT", "split_sections"]

REPORT = "report"
"""Name of the section that stands under no heading."""

_SYNONYMS: dict[str, tuple[str, ...]] = {
    "findings": ("findings", "finding"),
    "impression": (
        "impression", "impressions", "conclusion", "conclusions", "findings and impression",
        "findings/impression", "impression and findings", "impression/findings",
    ),
    "indication": (
        "indication", "indications", "clinical indication", "reason for exam", "reason for examination",
        "reason for study",
    ),
    "history": ("history", "clinical history", "patient history", "clinical information"),
    "comparison": (
        "comparison", "comparisons", "comparison exam", "comparison film", "comparison study",
        "reference exam",
    ),
    "technique": ("technique",),
    "examination": ("examination", "exam", "type of examination", "type of exam"),
    "recommendation": ("recommendation", "recommendations", "recommendation(s)"),
    "notification": ("notification",),
    "wet read": ("wet read", "wetread"),
    "addendum": ("addendum",),
    "comment": ("comment", "comments"),
}  # fmt: skip
_SECTION_OF = {name: section for section, names in _SYNONYMS.items() for name in names}
_INTRODUCTORY = frozenset({"examination", "indication", "history", "comparison", "technique"})
_MAIN = ("impression", "findings", "history", "comparison", "addendum")  # in a longer heading, first wins

_NAMES = "|".join(
    re.escape(name).replace(r"\ ", r"\s+") for name in sorted(_SECTION_OF, key=len, reverse=True)
)
_MARK = re.compile(r"\s*FINAL\s+(?P<kind>REPORT|ADDENDUM)\s*:?\s*")
_OPENING = re.compile(rf"\s*(?P<name>{_NAMES})\s*(?::|$)", re.IGNORECASE)
_INSIDE = re.compile(rf"(?<![\w/-])(?P<name>{_NAMES})\s*:", re.IGNORECASE)
_UNKNOWN = re.compile(r"\s*(?P<name>[A-Z][A-Z0-9 ()/,.&_-]+):(?=\s|$)")
_SENTENCE_END = re.compile(r"[.!?;]\s+$")


def split_sections(text: str) -> dict[str, str]:
    """Section name to text, in the order of the report; only sections that have a text.

    A heading that stands twice has both texts. A report without headings is one section, `report`; an
    empty one has none.
    """
    parts: dict[str, list[str]] = {}
    section = REPORT
    begun = paragraph_ended = marked = False  # whether the section has text, and a blank line below it
    for line in text.splitlines():
        if mark := _MARK.fullmatch(line):
            if REPORT in parts and not marked:
                parts["preamble"] = parts.pop(REPORT)
            section = REPORT if mark["kind"] == "REPORT" else "addendum"
            begun, marked = False, True
            continue
        if not line.strip():
            paragraph_ended = begun
            continue
        for heading, body in _pieces(line):
            if heading is not None:
                if list(parts) in ([REPORT], ["preamble", REPORT]) and _is_title(parts[REPORT]):
                    parts["examination"] = parts.pop(REPORT)
                section, begun = heading, False
            elif section in _INTRODUCTORY and (paragraph_ended or _UNKNOWN.match(body)):
                section = REPORT
            paragraph_ended = False
            if body.strip():
                begun = True
                parts.setdefault(section, []).append(body)
    return {name: " ".join(" ".join(texts).split()) for name, texts in parts.items()}


def _is_title(texts: list[str]) -> bool:
    return len(texts) == 1 and texts[0].isupper() and not _UNKNOWN.match(texts[0])


def _pieces(line: str) -> Iterator[tuple[str | None, str]]:
    """(section, text) for every heading in the line; section None for text ahead of the first."""
    headings = list(_headings(line))
    ends = [*(start for start, _, _ in headings), len(line)]
    if not headings or line[: ends[0]].strip():
        yield None, line[: ends[0]]
    for (_, start, section), end in zip(headings, ends[1:], strict=True):
        yield section, line[start:end]


def _headings(line: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, section) of every known heading in the line."""
    after = 0
    opening = _OPENING.match(line)
    unknown = _UNKNOWN.match(line)
    if opening and opening["name"][0].isupper():
        yield opening.start("name"), opening.end(), _section_of(opening["name"])
        after = opening.end()
    elif unknown:
        words = re.findall(r"[a-z]+", unknown["name"].lower())
        main = next((section for section in _MAIN if section in words), None)
        if main is not None:
            yield unknown.start("name"), unknown.end(), main
            after = unknown.end()
    for inside in _INSIDE.finditer(line, after):
        name = inside["name"]
        if name.isupper() or (name[0].isupper() and _SENTENCE_END.search(line[: inside.start()])):
            yield inside.start(), inside.end(), _section_of(name)


def _section_of(heading: str) -> str:
    return _SECTION_OF[" ".join(heading.lower().split())]
