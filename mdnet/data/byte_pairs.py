"""A vocabulary of pieces of words, by byte-pair encoding.

Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016,
arXiv 1508.07909: from single characters, the pair that stands most often is merged, again and again.
Pairs are merged within the words of `mdnet.data.text.split_words` and never across them.

A piece that continues a word is marked by `##` (`nucleol`, `##us`): no word begins so, for `#` is a
word by itself. A character that no training text has is written as its UTF-8 bytes (`<0xE2>`), so
nothing is ever unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer
from tokenizers.trainers import BpeTrainer

from mdnet.errors import ConfigurationError

__all__ = ["CONTINUES", "build_byte_pairs", "whole_words"]

CONTINUES = "##"

_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_BYTE_OF = {piece: byte for byte, piece in enumerate(_BYTES)}
_SPELLED = re.compile(rf"{CONTINUES}.|.", re.DOTALL)


def build_byte_pairs(
    texts: Iterable[str],
    specials: Sequence[str],
    *,
    vocabulary_size: int,
    minimum_count: int,
    unknown: str,
    normalizer: Normalizer,
    pre_tokenizer: PreTokenizer,
) -> Tokenizer:
    """The tokenizer of training texts; equal texts, in any order, give equal vocabularies.

    Args:
        texts: Every training text.
        specials: Tokens that are no words; they get the first numbers.
        vocabulary_size: Most tokens.
        minimum_count: A pair that stands fewer times is not merged.
        unknown: The special token that the library asks for; it never occurs.
        normalizer: Of texts.
        pre_tokenizer: Splits a text into words.

    Raises:
        ConfigurationError: The characters of the texts alone are more than `vocabulary_size`.
    """
    texts = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    characters = {
        character
        for text in texts
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
        for character in word
    }
    # "#" is always among them, so that in a spelled-out character it can only be the mark
    single = sorted(characters | {"#"})
    # All are handed to the trainer as special tokens, which fixes their numbers: the trainer breaks ties
    # by number, and would number continuing characters in the order of a hash table.
    first = [*specials, *_BYTES, *single, *(CONTINUES + character for character in single)]
    if vocabulary_size < len(first):
        raise ConfigurationError(
            f"vocabulary_size is {vocabulary_size}: special tokens, bytes and the characters of the training "
            f"reports are {len(first)} already; give more, or take words"
        )

    def tokenizer_of(model: BPE) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
        return tokenizer

    learner = tokenizer_of(BPE(unk_token=unknown, continuing_subword_prefix=CONTINUES))
    trainer = BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=minimum_count,
        special_tokens=first,
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    # made anew, for in the learner the characters are special tokens, which it would cut out of any text
    learnt = json.loads(learner.to_str())["model"]
    merges = [(left, right) for left, right in learnt["merges"]]
    return tokenizer_of(
        BPE(
            learnt["vocab"],
            merges,
            unk_token=unknown,
            continuing_subword_prefix=CONTINUES,
            byte_fallback=True,
        )
    )


def whole_words(pieces: Iterable[str]) -> Iterator[str]:
    """Words of their pieces; words that are whole already pass as they are."""
    word = ""
    for piece in _spelled(pieces):
        if len(piece) > len(CONTINUES) and piece.startswith(CONTINUES):
            word += piece.removeprefix(CONTINUES)
        else:
            if word:
                yield word
            word = piece
    if word:
        yield word


def _spelled(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces, runs of bytes replaced by the characters that they spell."""
    run = bytearray()
    for piece in pieces:
        if piece in _BYTE_OF:
            run.append(_BYTE_OF[piece])
            continue
        if run:
            yield from _SPELLED.findall(run.decode("utf-8", "replace"))
            run.clear()
        yield piece
    yield from _SPELLED.findall(run.decode("utf-8", "replace"))
