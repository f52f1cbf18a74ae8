"""Text metrics of generated reports: BLEU, METEOR, ROUGE-L, CIDEr.

BLEU, ROUGE-L and CIDEr are those of pycocoevalcap on the same tokens. METEOR by default is not: it is
nltk's, without WordNet, and not comparable with the Java METEOR of published tables. On 945 real bladder
studies, first reference against the other four, it gives 0.711 and Java 0.392 (`mdnet.metrics.meteor`). Each
of the three METEORs has a key of its own, so that no table mixes them.

Read any of them against `constant_report`: where reports resemble each other, one report for every study
scores almost as high as a model.

| key | what |
|---|---|
| `bleu_1` ... `bleu_4` | corpus BLEU, closest reference length |
| `meteor` | nltk's METEOR, words and stems; not the Java METEOR of published tables |
| `meteor_wordnet` | the same with WordNet's synonyms, in place of `meteor` where asked for |
| `meteor_java` | METEOR 1.5 of published tables, in place of `meteor` where asked for; needs Java |
| `rouge_l` | ROUGE-L, beta 1.2 |
| `cider` | what pycocoevalcap and papers call CIDEr: CIDEr-D, idf from the references given |
| `cider_d` | the same number under the name of its inventors |
| `cider_plain` | CIDEr as first defined, without clipping and length penalty, times 10 |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mdnet.errors import ConfigurationError
from mdnet.metrics.bleu import bleu_counts, bleu_of_counts, constant_bleu
from mdnet.metrics.cider import cider
from mdnet.metrics.corpus import Corpus
from mdnet.metrics.diversity import diversity
from mdnet.metrics.meteor import meteor as nltk_meteor
from mdnet.metrics.meteor import wordnet_synonyms
from mdnet.metrics.meteor_java import meteor_java
from mdnet.metrics.ptb_tokenization import tokenize
from mdnet.metrics.rouge import rouge_l

__all__ = ["LanguageScores", "constant_report", "diversity", "language_metrics", "language_scores"]

Scores = NDArray[np.float64]

Meteor = Literal["nltk", "wordnet", "java"]

_BLEU_NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
_METEOR_NAMES: dict[Meteor, str] = {"nltk": "meteor", "wordnet": "meteor_wordnet", "java": "meteor_java"}


@dataclass(frozen=True)
class LanguageScores:
    """Every text metric, of the corpus and of every study.

    The corpus value of BLEU and of Java's METEOR comes from summed counts; of the other metrics it is the
    studies' mean.
    """

    corpus: dict[str, float]
    studies: dict[str, Scores]  # (studies,) each, in the order given
    bleu_counts: NDArray[np.int64]  # (studies, 10), `mdnet.metrics.bleu.bleu_counts`


def language_metrics(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenized: bool = False,
    meteor: Meteor | None = "nltk",
) -> dict[str, float]:
    """Score reports against references: the corpus values of `language_scores`.

    "meteor" is not comparable with the Java METEOR of published tables, "meteor_java".
    """
    return language_scores(hypotheses, references, tokenized=tokenized, meteor=meteor).corpus


def language_scores(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenized: bool = False,
    meteor: Meteor | None = "nltk",
) -> LanguageScores:
    """Score reports against references.

    Args:
        hypotheses: One report a study; an empty one is scored, not left out.
        references: One or more reports a study. None is cut.
        tokenized: The texts are tokens with spaces between them; by default they are tokenised much
            as pycocoevalcap does, punctuation removed (`mdnet.metrics.ptb_tokenization`).
        meteor: Which METEOR, each under its own key: "nltk", "wordnet" (nltk must find its data), "java"
            (needs pycocoevalcap and a Java runtime), or None.

    Returns:
        The keys in the table at the head of this module, of the corpus and by study.

    Raises:
        DataError: There is no study, the lengths differ, or a study has no reference.
        ConfigurationError: The METEOR is unknown, or what it needs is not there.
        MissingExtraError: Java's METEOR was asked for without pycocoevalcap.
    """
    if meteor is not None and meteor not in _METEOR_NAMES:
        raise ConfigurationError(
            f"meteor {meteor!r} is unknown: choose one of {', '.join(_METEOR_NAMES)}, or None"
        )
    corpus = Corpus.from_texts(hypotheses, references, tokenize=str.split if tokenized else tokenize)
    values: dict[str, float] = {}
    studies: dict[str, Scores] = {}
    counts = bleu_counts(corpus)
    bleus, bleus_by_study = bleu_of_counts(counts.sum(axis=0, keepdims=True)), bleu_of_counts(counts)
    for order, name in enumerate(_BLEU_NAMES):
        values[name] = float(bleus[0, order])
        studies[name] = bleus_by_study[:, order]
    if meteor == "java":
        values["meteor_java"], studies["meteor_java"] = meteor_java(corpus)
    elif meteor is not None:
        synonyms = wordnet_synonyms() if meteor == "wordnet" else None
        studies[_METEOR_NAMES[meteor]] = nltk_meteor(corpus, synonyms=synonyms)
    studies["rouge_l"] = rouge_l(corpus)
    studies["cider"], studies["cider_plain"] = cider(corpus)
    studies["cider_d"] = studies["cider"]
    values |= {name: float(scores.mean()) for name, scores in studies.items() if name not in values}
    return LanguageScores(values, studies, counts)


_MEAN_SCORES: dict[str, Callable[[Corpus], Scores]] = {
    "meteor": nltk_meteor,
    "rouge_l": rouge_l,
    "cider": lambda corpus: cider(corpus)[0],
}


def constant_report(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metric: str = "bleu_4",
    limit: int = 5000,
    tokenized: bool = False,
) -> str:
    """Find the one report that scores best when it is given to every study.

    Take the candidates from train and the references from val, then score the result on test: what a
    model must beat there to have read the image. Milliseconds a candidate for BLEU, about ten times as
    long for the other metrics.

    Args:
        candidates: Reports to choose from, such as all of train.
        references: The references of every study to choose on.
        metric: The metric that decides: "bleu_1" ... "bleu_4", "meteor", "rouge_l" or "cider".
        limit: Only the most frequent candidates are tried, at most this many; the earlier goes first
            among equally frequent ones, and wins among equally good ones.
        tokenized: As in `language_scores`.

    Raises:
        ConfigurationError: The metric is unknown, or there is no candidate.
        DataError: As in `language_scores`.
    """
    if metric not in (*_BLEU_NAMES, *_MEAN_SCORES):
        allowed = ", ".join((*_BLEU_NAMES, *_MEAN_SCORES))
        raise ConfigurationError(f"metric {metric!r} is unknown: choose one of {allowed}")
    tried = [text for text, _ in Counter(candidates).most_common(limit)]
    if not tried:
        raise ConfigurationError("no candidate for the constant report: give at least one text")
    corpus = Corpus.from_texts(
        [tried[0]] * len(references),
        references,
        tokenize=str.split if tokenized else tokenize,
        others=tried,
    )
    sentences = np.array([corpus.sentences[text] for text in tried], np.int64)
    if metric in _BLEU_NAMES:
        scores = constant_bleu(corpus, sentences)[:, _BLEU_NAMES.index(metric)]
    else:
        score = _MEAN_SCORES[metric]
        same = np.ones(corpus.studies, np.int64)
        scores = np.array([score(corpus.with_hypotheses(same * one)).mean() for one in sentences])
    return tried[int(scores.argmax())]
