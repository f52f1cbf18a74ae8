"""What a text speaks of: sections by their names, and the classes that it states.

A text is read by the phrases of the data (`mdnet.data.statements`) where there are some, else by the names
of aspects and classes, which every model has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mdnet.data import phantom
from mdnet.data.negation import split_phrase
from mdnet.data.statements import PhantomReader, PhraseReader, StatementReader
from mdnet.data.study import LabelSpace
from mdnet.data.text import split_words
from mdnet.models.mdnet import MDNet

__all__ = ["Meanings", "Statement"]


_NO = frozenset(("no", "without"))
_SAYING_NOTHING = frozenset(("there", "is", "are", "any", "."))
_ABSENT = ("absent", "none", "no", "negative")  # reference classes that "no" means


class Statement(NamedTuple):
    """A class of an aspect, as a text states it."""

    aspect: str
    label: str

    def __str__(self) -> str:
        return f"{self.aspect}: {self.label}"


class Meanings:
    """Reads what texts speak of.

    Args:
        model: It names aspects, classes and sections.
        statements: Reads what a text states; unless given, the exact one of synthetic reports, if the model
            is of such.
    """

    def __init__(self, model: MDNet, statements: StatementReader | None = None) -> None:
        config, space = model.config, model.config.space
        if statements is None and space == phantom.LABEL_SPACE:
            statements = PhantomReader()
        self._space: LabelSpace = space
        self._sections: Mapping[str, str | None] = {
            name: config.section_aspects[name] for name in config.sections
        }  # to the aspect that guides it
        self._statements = statements
        self._read_by_rule = frozenset(statements.read({})) if statements is not None else frozenset()
        class_names = {
            aspect.name: {label: [name] for label in aspect.classes if (name := split_phrase(label))}
            for aspect in space.aspects
        }
        self._class_names = PhraseReader(space, class_names)
        self._label_counts = Counter(label for aspect in space.aspects for label in aspect.classes)
        self._names = {name: _words_of(name) for name in (*space.names, *config.sections)}

    def sections_of(self, text: str) -> tuple[str, ...]:
        """The sections that a text speaks of, in the order of the report; none where nothing tells."""
        aspects, read = self._named(text), set(self._read(text))
        if not read.issuperset(self._space.names):  # what is said of every aspect tells none of them
            aspects |= read | set(self._class_named(text))
        return tuple(
            section for section, aspect in self._sections.items() if section in aspects or aspect in aspects
        )

    def statements_of(self, text: str) -> tuple[Statement, ...]:
        """The classes that a text states, one an aspect; none where it states several of one aspect."""
        by_name = self._class_named(text)
        stated = []
        for aspect, labels in (by_name | self._read(text)).items():
            # A reader that knows no negation takes "not frequent" for frequent.
            stated += [
                Statement(aspect, label)
                for label in labels & set(self._space[aspect].classes)
                if label in by_name.get(aspect, ()) or not _holds(text, label)
            ]
        return tuple(stated) if len({aspect for aspect, _ in stated}) == len(stated) else ()

    def agrees(self, text: str, statement: Statement) -> bool:
        """Whether a text of a section, by what can be read of it, states this class and no other."""
        read = self.statements_of(text)
        return read == (statement,) or (not read and statement.aspect not in self._read_by_rule)

    def _read(self, text: str) -> dict[str, frozenset[str]]:
        """Aspect to the classes that the reader of the data finds in a text."""
        if self._statements is None:
            return {}
        found = self._statements.read({"": text})
        return {name: labels for name, labels in found.items() if labels and name in self._space}

    def _class_named(self, text: str) -> dict[str, frozenset[str]]:
        """Aspect to the classes that are named: beside the aspect's name, or by a name that no other has."""
        named = self._named(text)
        found = {}
        for name, labels in self._class_names.read({"": text}).items():
            own = {label for label in labels or () if name in named or self._label_counts[label] == 1}
            if not own and self._is_denied(name, text):
                own = {self._space[name].reference}
            if own and (not named or name in named):
                found[name] = frozenset(own)
        return found

    def _is_denied(self, aspect: str, text: str) -> bool:
        """Whether a text says "no" to an aspect, and no more: "no mitosis"."""
        reference, words = self._space[aspect].reference, set(split_words(text))
        return (
            reference in _ABSENT
            and bool(words & _NO)
            and words - _NO - _SAYING_NOTHING == self._names[aspect]
        )

    def _named(self, text: str) -> set[str]:
        """The aspects and sections whose name stands in a text."""
        words = set(split_words(text))
        return {name for name, own in self._names.items() if own and own <= words}


def _holds(text: str, phrase: str) -> bool:
    """Whether the words of a phrase stand in a text, one after the other."""
    return f" {' '.join(split_words(phrase))} " in f" {' '.join(split_words(text))} "


def _words_of(name: str) -> frozenset[str]:
    return frozenset(split_words(name.replace("_", " ").replace(".", " ")))
