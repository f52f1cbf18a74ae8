"""What stands for a part of a query: the sentences in which the model itself says it.

p("frequent mitosis" | image) says little of mitoses, for no report is worded so. Where a part states a class,
the sentences that the model writes on the images that it predicts that class for stand for the part:

    p(part | image) = sum over these sentences of p(sentence | image),

the probability that the model, writing that section, begins with one of them; exact, as they exclude each
other: none is the beginning of another. A part that states no class is scored as it
stands. benchmarks/retrieval_quality.py measures both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mdnet.data.statements import StatementReader
from mdnet.inference.decoding import decode
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.retrieval.exact import score_query_parts
from mdnet.inference.retrieval.meaning import Meanings, Statement
from mdnet.inference.retrieval.query import Query, QueryPart
from mdnet.inference.retrieval.store import FeatureStore
from mdnet.models.mdnet import MDNet

__all__ = ["PhrasedPart", "as_it_stands", "phrase_query", "score_parts"]

_log = logging.getLogger(__name__)

_IMAGES = 8  # whose sentences are taken
_DECODING = DecodingConfig(method="beam", beams=8, best=8)


@dataclass(frozen=True)
class PhrasedPart:
    """A part of a query, and what is scored for it.

    Attributes:
        asked: The text as the query has it.
        statement: The class that it states; None where it is scored as it stands.
        texts: What is scored; their probabilities add up.
    """

    asked: str
    statement: Statement | None
    texts: tuple[QueryPart, ...]

    def __str__(self) -> str:
        """How it is read."""
        if self.statement is None:
            return f"{self.asked!r} is scored as it stands"
        return f"{self.asked!r} is read as {self.statement}, in {len(self.texts)} sentences of the model's"


def as_it_stands(query: Query) -> list[PhrasedPart]:
    """The parts of a query, their own words to be scored."""
    return [PhrasedPart(part.text, None, (part,)) for part in query.parts]


def phrase_query(
    model: MDNet, store: FeatureStore, query: Query, *, statements: StatementReader | None = None
) -> list[PhrasedPart]:
    """What is scored for each part of a query; a part that states two classes becomes two.

    Args:
        model: In evaluation mode.
        store: The images that are searched; sentences are written on some of them.
        query: As `parse_query` gives it.
        statements: As in `Meanings`.
    """
    meanings = Meanings(model, statements)
    phrased = []
    for part in query.parts:
        stated = [each for each in meanings.statements_of(part.text) if _is_said(model, each)]
        found = {each: _sentences(model, store, each, meanings) for each in stated}
        for each in stated:
            if not found[each]:
                _log.warning("no image here is %s, as the model sees it", each)
        if stated and all(found.values()):
            asked = [part.text] if len(stated) == 1 else [f"{each.label} {each.aspect}" for each in stated]
            phrased += [PhrasedPart(text, *each) for text, each in zip(asked, found.items(), strict=True)]
        else:
            phrased.append(PhrasedPart(part.text, None, (part,)))
    return phrased


def score_parts(
    model: MDNet,
    store: FeatureStore,
    parts: Sequence[PhrasedPart],
    *,
    rows: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """Log p of every part on every image: (parts, images).

    Args:
        model: In evaluation mode.
        store: The images.
        parts: As `phrase_query` gives them.
        rows: Of the images; all unless given.
    """
    scores = score_query_parts(model, store, [text for part in parts for text in part.texts], rows=rows)
    ends = np.cumsum([len(part.texts) for part in parts])[:-1]
    return np.stack([np.logaddexp.reduce(each, axis=0) for each in np.split(scores, ends)])


def _is_said(model: MDNet, statement: Statement) -> bool:
    """Whether a section is about this aspect alone, so that its text states a class and nothing else."""
    config = model.config
    own_section = (config.section_aspects or {}).get(statement.aspect) == statement.aspect
    return own_section and not config.space[statement.aspect].multi_label


@torch.inference_mode()
def _sentences(
    model: MDNet, store: FeatureStore, statement: Statement, meanings: Meanings
) -> tuple[QueryPart, ...]:
    """The sentences that the model writes where it is surest of a class, and that state it."""
    aspect = model.config.space[statement.aspect]
    log_p = store.logits(slice(None))[aspect.name].double().log_softmax(dim=-1)  # (images, classes)
    label = aspect.index(statement.label)
    of_class = (log_p.argmax(dim=-1) == label).nonzero()[:, 0]
    rows = of_class[log_p[of_class, label].argsort(descending=True, stable=True)[:_IMAGES]].cpu().numpy()
    if not len(rows):
        return ()
    features = store.features(rows)
    guides = model.guides(store.logits(rows))
    written = decode(model, features, model.prepare(features, guides), _DECODING)
    assert model.tokenizer is not None
    assert written.others is not None
    section = model.config.sections.index(aspect.name)
    texts = written.tokens[:, section].tolist()
    for tokens, scores in zip(
        written.others.tokens[:, section], written.others.scores[:, section], strict=True
    ):
        texts += tokens[scores.isfinite()].tolist()
    decoded = dict.fromkeys(map(model.tokenizer.decode, texts))
    stating = [text for text in decoded if text and meanings.agrees(text, statement)]
    return tuple(QueryPart(text, (aspect.name,)) for text in _exclusive(stating, model.tokenizer.encode))


def _exclusive(texts: Sequence[str], encode: Callable[[str], list[int]]) -> list[str]:
    """Those of the texts that do not begin with another of them: a report begins with one of them at most.

    Args:
        texts: All different.
        encode: Of the model: of pieces of words, "normally" begins with "normal".
    """
    words = [encode(text) for text in texts]
    return [
        text
        for text, own in zip(texts, words, strict=True)
        if not any(own != other and own[: len(other)] == other for other in words)
    ]
