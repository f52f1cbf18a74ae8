"""The vocabulary of reports: words to numbers and back.

A tokenizer over the `tokenizers` library, kept as a transformers fast tokenizer, so that a model
folder holds the ecosystem's own `tokenizer.json` and `tokenizer_config.json`. The same words serve
training, decoding and the text metrics. A vocabulary is built once, from the training reports, and
travels with the weights; loading reads those two JSON files and nothing else, so a data set that
changes later cannot change a model. Its tokens are words, or by choice pieces of words
(`mdnet.data.byte_pairs`).

What a word is (`WORD_PATTERN`, after NFC normalisation and lower-casing):

- letters, with inner hyphens and apostrophes: `low-grade`, `patient's`, `l4-l5`;
- a number with its decimals and the unit written onto it: `2.5`, `40x`, `3-vessel`;
- a de-identification mark: `XXXX`, `___`, also inside a compound (`XXXX-year-old` is
  `XXXX`, `-`, `year-old`);
- one Han, Hiragana or Katakana character, since Chinese and Japanese write no spaces;
- any other visible character by itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel

from mdnet.data.byte_pairs import build_byte_pairs, whole_words
from mdnet.errors import ConfigurationError, WeightsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "BEGIN", "END", "PAD", "TOKENIZERS", "UNKNOWN", "WORD_PATTERN", "ReportTokenizer", "join_words",
    "split_words", "warning_of_length",
]  # fmt: skip

TOKENIZERS = ("words", "bpe")
"""Kinds of vocabulary."""

PAD, UNKNOWN, END = "<pad>", "<unk>", "<end>"
BEGIN = "<begin:{section}>"

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}"
_LETTER = rf"[\p{{L}}&&[^{_CJK}]]"
_TAIL = rf"(?:{_LETTER}|[\p{{M}}\p{{N}}])*"
_REDACTED = rf"x{{3,}}(?!{_LETTER}|[\p{{M}}\p{{N}}])"
WORD_PATTERN = "|".join(
    (
        r"_{2,}",
        _REDACTED,
        # a word or a number with its unit, then parts that begin with a letter
        rf"(?:{_LETTER}{_TAIL}|\d+(?:[.,]\d+)*(?:{_LETTER}|\p{{M}})*)(?:[-'’](?!{_REDACTED}){_LETTER}{_TAIL})*",
        r"[^\s]",
    )
)

_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%。，、；：！？）」』】》")
_NO_SPACE_AFTER = frozenset("([{（「『【《")
_NO_SPACE_AROUND = frozenset("/")
_SENTENCE_ENDS = frozenset(".!?。！？")
_MARK = re.compile(r"x{3,}")
_WIDE = re.compile(r"[\u3001-\u303f\u3041-\u3096\u309d-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff60]")


@cache
def _normalizer() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.NFC(),  # lower-casing can leave a pair that composes
            normalizers.Replace(Regex(r"\p{Cf}"), ""),  # soft hyphens, zero-width joiners, byte order marks
            normalizers.Replace(Regex(r"\p{Cc}"), " "),
        ]
    )


@cache
def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)


def split_words(text: str) -> list[str]:
    """The words of `text` as every part of mdnet counts them: lower case, punctuation by itself.

    It needs no vocabulary, so it also serves metrics and statistics.
    """
    clean = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be passed on
    return [word for word, _ in _pre_tokenizer().pre_tokenize_str(_normalizer().normalize_str(clean))]


def join_words(words: Iterable[str]) -> str:
    """Text of `words`: spaces where they belong, sentences begun with a capital.

    `split_words(join_words(words))` gives `words` again for any words that `split_words` gave. Pieces of
    words, as a `bpe` vocabulary has them, are put together first.
    """
    words = list(whole_words(words))
    parts: list[str] = []
    sentence_begins = True
    for position, word in enumerate(words):
        if position and not _attached(words, position):
            parts.append(" ")
        if _MARK.fullmatch(word):
            parts.append(word.upper())
        else:
            parts.append(_capitalised(word) if sentence_begins else word)
        if word in _SENTENCE_ENDS:
            sentence_begins = True
        elif word[0].isalnum():
            sentence_begins = False
    return "".join(parts)


def _attached(words: list[str], position: int) -> bool:
    """Whether `words[position]` follows the word before it without a space."""
    before, word = words[position - 1], words[position]
    if word in _NO_SPACE_BEFORE or before in _NO_SPACE_AFTER:
        return True
    if word in _NO_SPACE_AROUND or before in _NO_SPACE_AROUND:
        return True
    if word == "-" and position + 1 < len(words):
        return _hyphenated(before, words[position + 1])
    if before == "-" and position > 1:
        return _hyphenated(words[position - 2], word)
    return bool(_WIDE.fullmatch(before) and _WIDE.fullmatch(word))


def _hyphenated(left: str, right: str) -> bool:
    """Whether a lone hyphen joins these: a range (`2-3`), or a compound with a mark (`XXXX-year-old`)."""
    if _MARK.fullmatch(left):
        return True
    return left[0].isdigit() and (right[0].isdigit() or _MARK.fullmatch(right) is not None)


def _capitalised(word: str) -> str:
    first = word[0].upper()
    # "ß" and its like do not come back from upper case as they were
    return first + word[1:] if len(first) == 1 and first.lower() == word[0] else word


class ReportTokenizer:
    """Words of reports to token numbers and back.

    Args:
        fast: The tokenizer as transformers keeps it, for example from `MDNet.from_pretrained`.
            It must know the special tokens `<pad>`, `<unk>` and `<end>`.
    """

    def __init__(self, fast: PreTrainedTokenizerFast) -> None:
        self.fast = fast
        self._tokenizer: Tokenizer = fast.backend_tokenizer
        # a report that says "<end>" means these letters, not the token
        self._tokenizer.encode_special_tokens = True
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        missing = [token for token in (PAD, UNKNOWN, END) if token not in vocabulary]
        if missing:
            raise WeightsError(
                f"the tokenizer lacks {', '.join(missing)}: it was not made by mdnet; take the one that was "
                "saved with the model"
            )
        self.pad_id: int = vocabulary[PAD]
        self.unknown_id: int = vocabulary[UNKNOWN]
        self.end_id: int = vocabulary[END]
        self._words = {number: word for word, number in vocabulary.items()}
        prefix, suffix = BEGIN.split("{section}")
        self._begin = {
            word.removeprefix(prefix).removesuffix(suffix): number
            for word, number in sorted(vocabulary.items(), key=lambda entry: entry[1])
            if word.startswith(prefix) and word.endswith(suffix)
        }
        self._not_words = {self.pad_id, *self._begin.values()}

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        sections: Sequence[str],
        *,
        kind: str = "words",
        minimum_count: int = 1,
        vocabulary_size: int = 8000,
    ) -> ReportTokenizer:
        """The tokenizer of a training set.

        Args:
            texts: Every training text; test texts have no place here.
            sections: Section names in the order of the report; each gets a begin token.
            kind: `words`, or `bpe`: pieces of words, by which any text can be written.
            minimum_count: A word that stands fewer times than this becomes `<unk>`; of `bpe`, a pair of
                pieces that does is not merged.
            vocabulary_size: Most tokens of a `bpe` vocabulary.
        """
        if kind not in TOKENIZERS:
            raise ConfigurationError(f"tokenizer {kind!r} is none of {', '.join(TOKENIZERS)}")
        if minimum_count < 1:
            raise ConfigurationError(f"minimum_count is {minimum_count}: it must be at least 1")
        if len(set(sections)) != len(sections):
            raise ConfigurationError(f"sections {list(sections)}: a name stands twice")
        from transformers import PreTrainedTokenizerFast

        begins = [BEGIN.format(section=section) for section in sections]
        specials = [PAD, UNKNOWN, END, *begins]
        if kind == "bpe":
            tokenizer = build_byte_pairs(
                texts,
                specials,
                vocabulary_size=vocabulary_size,
                minimum_count=minimum_count,
                unknown=UNKNOWN,
                normalizer=_normalizer(),
                pre_tokenizer=_pre_tokenizer(),
            )
        else:
            counts = Counter(word for text in texts for word in split_words(text))
            kept = sorted(
                (word for word, count in counts.items() if count >= minimum_count),
                key=lambda word: (-counts[word], word),
            )
            vocabulary = {word: number for number, word in enumerate([*specials, *kept])}
            tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
            tokenizer.normalizer, tokenizer.pre_tokenizer = _normalizer(), _pre_tokenizer()
        return cls(
            PreTrainedTokenizerFast(
                tokenizer_object=tokenizer,
                pad_token=PAD,
                unk_token=UNKNOWN,
                eos_token=END,
                additional_special_tokens=begins,
                split_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
        )

    @property
    def sections(self) -> tuple[str, ...]:
        """Sections that have a begin token, in the order of the report."""
        return tuple(self._begin)

    def begin_id(self, section: str) -> int:
        """The token that asks the report LSTM for this section."""
        if section not in self._begin:
            raise ConfigurationError(
                f"no section {section!r}; the vocabulary's sections: {', '.join(self._begin) or 'none'}"
            )
        return self._begin[section]

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: str) -> bool:
        return self._tokenizer.token_to_id(word) is not None

    def id_of(self, word: str) -> int:
        """Token number of one word as `words` gives it, `<unk>` included.

        Raises:
            ConfigurationError: The vocabulary lacks it.
        """
        number = self._tokenizer.token_to_id(word)
        if number is None or number in self._not_words:
            raise ConfigurationError(f"the model's vocabulary has no word {word!r}")
        return int(number)

    def tokenize(self, text: str) -> list[str]:
        """Words of `text`, known or not."""
        return split_words(text)

    def encode(self, text: str) -> list[int]:
        """Token numbers of `text`, without begin or end token."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return list(self._tokenizer.encode(clean, add_special_tokens=False).ids)

    def words(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The words up to the end token, one a token; begin tokens and padding are left out.

        Of a `bpe` vocabulary they are the pieces; one that continues a word begins with `##`.
        """
        words = []
        for number in map(int, ids):
            if number == self.end_id:
                break
            if number not in self._not_words:
                words.append(self._words[number])
        return tuple(words)

    def decode(self, ids: Iterable[int]) -> str:
        """Text up to the end token; special tokens, `<unk>` among them, are left out."""
        return join_words(word for word in self.words(ids) if word != UNKNOWN)

    def unknown_share(self, texts: Iterable[str]) -> float:
        """Share of the words of `texts` that the vocabulary does not hold, in 0..1 (0 of no words)."""
        ids = [number for text in texts for number in self.encode(text)]
        return ids.count(self.unknown_id) / len(ids) if ids else 0.0

    def save(self, folder: str | PathLike[str]) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json` into `folder`."""
        self.fast.save_pretrained(str(folder))

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> ReportTokenizer:
        """Reads what `save` wrote; `WeightsError` where a file is missing or damaged."""
        file = Path(folder) / "tokenizer.json"
        if not file.is_file():
            raise WeightsError(f"{file}: no such file; a model folder holds its vocabulary, so copy it whole")
        from transformers import PreTrainedTokenizerFast

        try:
            fast = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{file}: cannot be read ({error}); copy the model folder again") from error
        return cls(fast)


def warning_of_length(texts: Iterable[str], tokenizer: ReportTokenizer, maximum_words: int) -> str | None:
    """One line if some texts are longer than what a model writes at most; else None.

    Args:
        texts: Of training, one a section and writer. Nothing is cut off them: the model learns from
            all of each, but could never write those whole.
        tokenizer: Its tokens are counted.
        maximum_words: The model's own.
    """
    lengths = [len(tokenizer.encode(text)) for text in texts]
    beyond = sum(length > maximum_words for length in lengths)
    if not beyond:
        return None
    return (
        f"{beyond} of {len(lengths)} training texts are longer than the {maximum_words} tokens that the "
        f"model writes at most (the longest has {max(lengths)}): it learns from them whole, but cannot write "
        f"them whole; for that, set model_options: {{maximum_words: {max(lengths)}}}"
    )
