"""What a report says of each aspect, read by rule: text and diagnosis become comparable.

Synthetic reports are read exactly (`PhantomReader`); those of a user's data with the phrases of a YAML
file that lies beside the data (`PhraseReader`, docs/data.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import yaml

from mdnet.data import phantom
from mdnet.data.negation import Negation, Phrase, split_clauses, split_phrase
from mdnet.data.phantom.specification import INSUFFICIENT
from mdnet.data.phantom.statements import stated_classes
from mdnet.data.readers.labels import did_you_mean
from mdnet.data.study import Aspect, LabelSpace, StudySet
from mdnet.errors import DataError

__all__ = ["PHRASES_FILE", "PhantomReader", "PhraseReader", "StatementReader", "statement_reader"]

PHRASES_FILE = "phrases.yaml"

Stated = dict[str, frozenset[str] | None]
_KEYS = ("phrases", "sections", "negations")


class StatementReader(Protocol):
    """Reads back what a report says."""

    def read(self, report: Mapping[str, str]) -> Stated:
        """What the report says of every aspect that the reader knows.

        Args:
            report: Section name to text; an undivided report is one section of any name. An aspect is
                read in its own section, where there is none in all of them.

        Returns:
            Aspect name to the classes stated: None where the text is silent, several for an aspect of
            exclusive classes where it contradicts itself, none for a multi-label aspect where it only
            denies.
        """

    def due(self, labels: Mapping[str, str | tuple[str, ...]]) -> Mapping[str, str | tuple[str, ...]]:
        """What a report should say of a study with these labels, aspect by aspect."""


def statement_reader(data: StudySet) -> StatementReader | None:
    """The reader of a data set: of its `phrases.yaml`, else the exact one if it is synthetic, else none."""
    file = data.root / PHRASES_FILE
    if file.is_file():
        return PhraseReader.from_yaml(file, data.label_space, sections=data.sections)
    return PhantomReader() if data.label_space == phantom.LABEL_SPACE else None


class PhantomReader:
    """Reads reports on synthetic tissue: the inverse of their writers."""

    def read(self, report: Mapping[str, str]) -> Stated:
        return {
            name: stated_classes(name, " ".join(_texts(report, (name,)))) or None for name in phantom.SECTIONS
        }

    def due(self, labels: Mapping[str, str | tuple[str, ...]]) -> Mapping[str, str | tuple[str, ...]]:
        """The labels; a tile of insufficient information has no other, and every section must say so."""
        if labels.get(phantom.LABEL_SPACE.diagnosis or "") == INSUFFICIENT:
            return dict.fromkeys(phantom.SECTIONS, INSUFFICIENT)
        return labels


class PhraseReader:
    """Reads reports by phrases: a class is stated where one of its phrases stands and is not negated.

    Of phrases that begin at one word the longest counts, and no word belongs to two phrases; so "not
    completely lost" is no "completely lost". Upper and lower case, punctuation inside a clause and line
    breaks do not matter; a phrase matches whole words. What negates is in `mdnet.data.negation`. Where an
    aspect has two exclusive classes, to deny one is to state the other.

    Args:
        space: The label space.
        phrases: Aspect to class to phrases.
        sections: Aspect to the sections it is read in; by default that of its own name.
        negations: Words that negate what follows, beside the English ones.
    """

    def __init__(
        self,
        space: LabelSpace,
        phrases: Mapping[str, Mapping[str, Sequence[Phrase]]],
        *,
        sections: Mapping[str, Sequence[str]] | None = None,
        negations: Sequence[Phrase] = (),
    ) -> None:
        self._aspects = [space[name] for name in phrases]
        self._sections = {name: tuple((sections or {}).get(name, (name,))) for name in phrases}
        self._negation = Negation(negations)
        self._classes: dict[str, dict[Phrase, str]] = {
            name: {phrase: label for label, listed in classes.items() for phrase in listed}
            for name, classes in phrases.items()
        }
        self._lengths = {name: _lengths_by_first_word(classes) for name, classes in self._classes.items()}

    @classmethod
    def from_yaml(cls, path: Path, space: LabelSpace, *, sections: Sequence[str]) -> PhraseReader:
        """Reads the phrases in a file.

        Args:
            path: YAML with `phrases` (aspect to class to a list of phrases) and maybe `sections` (aspect
                to the section, or sections, it is read in) and `negations` (a list of words).
            space: The aspects and classes that may be named.
            sections: The sections that may be named.

        Raises:
            DataError: The file cannot be read, or names what is not there; with the line.
        """
        phrases: dict[str, dict[str, list[Phrase]]] = {}
        where: dict[str, Sequence[str]] = {}
        negations: list[Phrase] = []
        for key, value, line in _entries(_compose(path), path):
            _check_name(key, _KEYS, "key", f"{path}:{line}")
            if key == "negations":
                negations = _phrases(value, path)
                continue
            for name, content, line in _entries(value, path):
                _check_name(name, space.names, "aspect", f"{path}:{line}")
                if key == "phrases":
                    phrases[name] = _class_phrases(space[name], content, path)
                    continue
                where[name] = [text for text, _ in _scalars(content, path)]
                for section in where[name]:
                    _check_name(section, sections, "section", f"{path}:{line}")
        if not phrases:
            raise DataError(path, "no phrases", "write `phrases: {aspect: {class: [a phrase, ...]}}`")
        return cls(space, phrases, sections=where, negations=negations)

    def read(self, report: Mapping[str, str]) -> Stated:
        stated: Stated = {}
        clauses: dict[str, list[list[str]]] = {}  # a text is split once, however many aspects read it
        for aspect in self._aspects:
            affirmed: set[str] = set()
            denied: set[str] = set()
            for text in _texts(report, self._sections[aspect.name]):
                if text not in clauses:
                    clauses[text] = split_clauses(text)
                for clause in clauses[text]:
                    for label, negated in self._statements(aspect.name, clause):
                        (denied if negated else affirmed).add(label)
            if len(aspect.classes) == 2 and not aspect.multi_label:
                affirmed |= {label for label in aspect.classes if denied - {label}}
            silent = not affirmed and not (aspect.multi_label and denied)
            stated[aspect.name] = None if silent else frozenset(affirmed)
        return stated

    def due(self, labels: Mapping[str, str | tuple[str, ...]]) -> Mapping[str, str | tuple[str, ...]]:
        """The labels as they are."""
        return labels

    def _statements(self, aspect: str, clause: Sequence[str]) -> Iterator[tuple[str, bool]]:
        """(class, whether negated) of every phrase in a clause."""
        classes, lengths = self._classes[aspect], self._lengths[aspect]
        spans, labels, place = [], [], 0
        while place < len(clause):
            stop = place + 1
            for length in lengths.get(clause[place], ()):
                label = classes.get(tuple(clause[place : place + length]))
                if label is not None:
                    stop = place + length
                    spans.append((place, stop))
                    labels.append(label)
                    break
            place = stop
        if spans:
            yield from zip(labels, self._negation.negated(clause, spans), strict=True)


def _texts(report: Mapping[str, str], sections: Sequence[str]) -> list[str]:
    """The texts of the sections that the report has; all its texts where it has none of them."""
    return [report[name] for name in sections if name in report] or list(report.values())


def _lengths_by_first_word(phrases: Mapping[Phrase, str]) -> dict[str, list[int]]:
    """First word to the lengths of the phrases that begin with it, longest first."""
    lengths: dict[str, set[int]] = {}
    for phrase in phrases:
        lengths.setdefault(phrase[0], set()).add(len(phrase))
    return {word: sorted(found, reverse=True) for word, found in lengths.items()}


def _class_phrases(aspect: Aspect, node: yaml.Node, path: Path) -> dict[str, list[Phrase]]:
    """Class to phrases, each phrase of one class only."""
    classes: dict[str, list[Phrase]] = {}
    owner: dict[Phrase, str] = {}
    for label, content, line in _entries(node, path):
        _check_name(label, aspect.classes, f"class of aspect {aspect.name!r}:", f"{path}:{line}")
        classes[label] = _phrases(content, path)
        for phrase in classes[label]:
            if owner.setdefault(phrase, label) != label:
                problem = f"{' '.join(phrase)!r} stands for {owner[phrase]!r} and for {label!r}"
                raise DataError(f"{path}:{line}", problem, "write longer phrases that tell the two apart")
    return classes


def _phrases(node: yaml.Node, path: Path) -> list[Phrase]:
    phrases = []
    for text, line in _scalars(node, path):
        phrase = split_phrase(text)
        if phrase is None:
            raise DataError(f"{path}:{line}", f"{text!r} is no phrase", "write words of one sentence")
        phrases.append(phrase)
    return phrases


def _compose(path: Path) -> yaml.Node | None:
    """The YAML as nodes: they know their lines, and `no` and `1` in them stay text."""
    try:
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "check path and permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(path, f"byte {error.start} is not UTF-8", "save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise DataError(path, f"broken YAML ({' '.join(str(error).split())})", "mend it there") from error


def _entries(node: yaml.Node | None, path: Path) -> Iterator[tuple[str, yaml.Node, int]]:
    """(key, value, line) of a mapping whose keys are names, each once."""
    if not isinstance(node, yaml.MappingNode):
        line = "" if node is None else f":{node.start_mark.line + 1}"
        raise DataError(f"{path}{line}", "a name with a colon is due here", "write `name: ...` lines")
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise DataError(f"{path}:{line}", "a key that is no text", "write `name: ...` lines")
        if key.value in seen:
            raise DataError(f"{path}:{line}", f"key {key.value!r} stands twice", "write every name once")
        seen.add(key.value)
        yield key.value, value, line


def _scalars(node: yaml.Node, path: Path) -> list[tuple[str, int]]:
    """(text, line) of a list of texts, or of one text."""
    members = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for member in members:
        if not isinstance(member, yaml.ScalarNode) or not member.value:
            line = member.start_mark.line + 1
            raise DataError(f"{path}:{line}", "a text or a list of texts is due here", "write [one, another]")
    return [(member.value, member.start_mark.line + 1) for member in members]


def _check_name(name: str, allowed: Sequence[str], kind: str, where: str) -> None:
    if name not in allowed:
        known = ", ".join(allowed) or "none"
        raise DataError(where, f"unknown {kind} {name!r}{did_you_mean(name, allowed)}", f"there are: {known}")
