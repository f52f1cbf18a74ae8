"""Whether reports or labels speak of left and right: of such images none may be mirrored.

Words are looked for in English, German, Dutch, French, Spanish, Portuguese, Italian, Latin, Russian,
Chinese, Japanese and Korean, and the abbreviations of eyes (OD, OS), of lobes of the lung (RUL), of quadrants
(LLQ) and of ventricles (LV). A word too many costs a flip; a word too few teaches a model that sides do
not matter. So what is doubtful counts ("left" as a verb), but for phrases that are plainly something else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mdnet.data.study import Study

__all__ = ["Sides", "find_sides", "words_of_side"]

_WORDS = (
    r"left(?!over| over\b| out\b| behind\b| in place| in situ| untreated)\w*",
    r"(?<!\ball )(?<!\balright)right(?! away\b| now\b)\w*",
    r"links|rechts|(?:link|recht)(?:e[rsnm]?|s\w+)|linker|rechter",  # German, Dutch
    r"gauches?|droite?s?",  # French
    r"izquierd[oa]s?|derech[oa]s?|esquerd[oa]s?|direit[oa]s?",  # Spanish, Portuguese
    r"sinistr[oaie]|destr[oaie]",  # Italian
    r"sinister|dexter|dextra|sinistra",  # Latin
    r"слева|справа|влево|вправо|(?:лев|прав)(?:ый|ая|ое|ые|ого|ой|ом|ую|ым|ых|ому)",  # Russian
    r"[lr]t\.",  # "Rt. lung"
    r"o[ds]\s*:",
)
_ABBREVIATIONS = (r"O\.?[DS]", r"[LR]t", r"R[UML]L|L[UL]L", r"[LR][UL]Q", r"[LR]VH?")
_UNSPACED = (
    r"左(?!右)|(?<!左)右"  # Chinese, Japanese; both together: "about"
    r"|왼|오른|좌(?:측|안|상|하|폐|심)|우(?:측|안|상|중|하|폐|심)"  # Korean
)
_SIDE = re.compile(rf"\b(?i:{'|'.join(_WORDS)})(?!\w)|\b(?:{'|'.join(_ABBREVIATIONS)})\b|{_UNSPACED}")


@dataclass(frozen=True)
class Sides:
    """Where studies speak of sides.

    Attributes:
        studies: How many do.
        among: How many there are.
        words: The commonest words by which they do, as written.
    """

    studies: int
    among: int
    words: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.studies > 0

    def __str__(self) -> str:
        if not self:
            return f"none of {self.among} studies speaks of a side"
        return f"{self.studies} of {self.among} studies speak of sides ({', '.join(self.words)})"


def words_of_side(text: str) -> list[str]:
    """The words of `text` that name a side, as written."""
    return _SIDE.findall(text)


def find_sides(studies: Iterable[Study]) -> Sides:
    """Looks at the reports and the labels of every study."""
    words: Counter[str] = Counter()
    speaking = among = 0
    for study in studies:
        labels = ((label,) if isinstance(label, str) else label for label in study.labels.values())
        texts = [text for written in (*study.report.values(), *labels) for text in written]
        found = words_of_side("\n".join((*texts, *study.labels)))
        words.update(word.lower() for word in found)
        speaking += bool(found)
        among += 1
    return Sides(speaking, among, tuple(word for word, _ in words.most_common(3)))
