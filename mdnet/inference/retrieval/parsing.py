"""From a line of symptom text to the texts that are looked for.

"frequent mitosis, polarity lost" has two parts. A part ends at a semicolon or a full stop, at a comma, and
at an "and" between two texts of different sections. A sentence with a full stop that speaks of one section
stays whole: "Nuclear axes are random to the membrane, and polarity is gone." is what a report would say.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache

from mdnet.data.statements import StatementReader
from mdnet.data.text import ReportTokenizer, join_words, split_words
from mdnet.errors import ConfigurationError
from mdnet.inference.retrieval.meaning import Meanings
from mdnet.inference.retrieval.query import Query, QueryPart
from mdnet.models.mdnet import MDNet

__all__ = ["parse_query"]

_log = logging.getLogger(__name__)

_FULL_STOPS = frozenset(".!?。！？")
_SEMICOLONS = frozenset(";；")
_COMMAS = frozenset(",，、")
_AND = "and"
_SHORTEST = 4  # letters of a word whose other forms are looked for
_MOST_NAMED = 10  # unknown words, in an error
_EXAMPLE = "as in 'frequent mitosis, polarity lost'"


def parse_query(text: str, model: MDNet, *, statements: StatementReader | None = None) -> Query:
    """The parts of a query, each with the sections that may have said it.

    A part names its sections (by the names of sections, aspects and classes, or by what `statements` reads
    in it); one that names none may be of any. A word that the vocabulary lacks is read as the form that it
    has ("crowd" as "crowding", "low-grade" as "low grade"), and a sign that it lacks is left out; both are
    logged.

    Args:
        text: In words of the model.
        model: With its vocabulary.
        statements: As in `Meanings`.

    Raises:
        ConfigurationError: The model writes no report, the query has no word, or words that the model does
            not know.
    """
    if model.report is None or model.tokenizer is None:
        raise ConfigurationError("the model writes no report, so no text finds an image; take one that does")
    words = _known_words(split_words(text), model.tokenizer)
    meanings = Meanings(model, statements)
    parts = []
    for sentence in _sentences(words):
        for part in _parts(sentence, meanings):
            written = join_words(_without_unknown_signs(part, model.tokenizer))
            parts.append(QueryPart(written, meanings.sections_of(written) or tuple(model.config.sections)))
    if not parts:
        raise ConfigurationError(f"the query {text!r} has no word: say what to look for, {_EXAMPLE}")
    return Query(tuple(parts))


def _sentences(words: Sequence[str]) -> Iterator[list[str]]:
    """Stretches of words; a full stop belongs to the one that it ends, a semicolon to none."""
    sentence: list[str] = []
    for word in words:
        if word not in _SEMICOLONS:
            sentence.append(word)
        if word in _SEMICOLONS or word in _FULL_STOPS:
            if any(map(_is_word, sentence)):
                yield sentence
            sentence = []
    if any(map(_is_word, sentence)):
        yield sentence


def _parts(sentence: list[str], meanings: Meanings) -> list[list[str]]:
    """The parts of a sentence."""
    clauses = _clauses(sentence)
    spoken_of = [set(meanings.sections_of(join_words(words))) for _, words in clauses]
    if sentence[-1] in _FULL_STOPS and len(set().union(*spoken_of)) <= 1:
        return [sentence]
    parts: list[list[str]] = []
    sections: set[str] = set()  # of the part that grows
    for (sign, words), own in zip(clauses, spoken_of, strict=True):
        if parts and sign == _AND and not (own and sections and own.isdisjoint(sections)):
            parts[-1] += [_AND, *words]
            sections |= own
        else:
            parts.append(list(words))
            sections = own
    return parts


def _clauses(sentence: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(the sign before it, words) of what stands between commas and "and"; ", and" counts as a comma."""
    clauses: list[tuple[str, list[str]]] = []
    sign, words = "", list[str]()
    for word in [*sentence, ","]:
        if word not in _COMMAS and word != _AND:
            words.append(word)
            continue
        if any(map(_is_word, words)):
            clauses.append((sign, words))
            sign, words = "", []
        sign = "," if word in _COMMAS else sign or word
    return clauses


def _known_words(words: Sequence[str], tokenizer: ReportTokenizer) -> list[str]:
    """The words, those that the vocabulary lacks in a form that it has.

    Raises:
        ConfigurationError: It has no form of some of them.
    """
    known, unknown = [], dict[str, None]()
    for word in words:
        if not _is_word(word) or _is_known(word, tokenizer):
            known.append(word)
        elif forms := _forms_of(word, tokenizer):
            _log.warning("%r is read as %r, which the model knows", word, " ".join(forms))
            known += forms
        else:
            unknown[word] = None
    if unknown:
        named = [f"{word!r}{_near(word, tokenizer)}" for word in list(unknown)[:_MOST_NAMED]]
        if len(unknown) > len(named):
            named.append(f"and {len(unknown) - len(named)} more")
        raise ConfigurationError(
            f"words that the model does not know: {'; '.join(named)}; use words of its reports"
        )
    return known


def _without_unknown_signs(words: Sequence[str], tokenizer: ReportTokenizer) -> Iterator[str]:
    """What is left would else be scored by how likely the model writes an unknown word."""
    for word in words:
        if _is_word(word) or _is_known(word, tokenizer):
            yield word
        else:
            _log.warning("%r is left out: the model does not know it", word)


def _forms_of(word: str, tokenizer: ReportTokenizer) -> list[str]:
    """What a word is read as: its parts between hyphens, else the commonest word of the same stem."""
    pieces = word.split("-")
    if len(pieces) > 1 and all(piece in tokenizer for piece in pieces):
        return pieces
    if len(word) < _SHORTEST or not word.isascii() or not word.isalpha():
        return []
    alike = [known for known in _vocabulary(tokenizer) if _stem(known) == _stem(word)]
    return sorted(alike, key=tokenizer.id_of)[:1]  # the numbers of a vocabulary of words go by their counts


@lru_cache(maxsize=1 << 16)  # a long query asks for those of the whole vocabulary again and again
def _stem(word: str) -> str:
    from nltk.stem.snowball import SnowballStemmer  # Porter's second stemmer of English

    stem: str = SnowballStemmer("english").stem(word)
    return stem


def _near(word: str, tokenizer: ReportTokenizer) -> str:
    """` (did you mean 'x' or 'y'?)`, or nothing."""
    near = difflib.get_close_matches(word, _vocabulary(tokenizer), 2, 0.7)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def _vocabulary(tokenizer: ReportTokenizer) -> list[str]:
    """The words of the vocabulary, without its marks."""
    return sorted(word for word in tokenizer.fast.get_vocab() if word.isalpha())


def _is_word(word: str) -> bool:
    return any(character.isalnum() for character in word)


def _is_known(word: str, tokenizer: ReportTokenizer) -> bool:
    return tokenizer.unknown_id not in tokenizer.encode(word)
