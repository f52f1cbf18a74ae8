"""What an image is embedded by: what the report module says of it while it reads sentences of its own.

A text's score is a sum over its words of log p(word | image, words before). The embedding holds such terms of
the sentence of each section that the module writes most: log p at every position of the words that it may
well write there (a large mean p) and is in two minds about from image to image (a large variance of log p).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.inference.decoding import decode_greedily
from mdnet.inference.likelihood import Texts
from mdnet.inference.retrieval.exact import images_at_once
from mdnet.inference.retrieval.store import FeatureStore, Rows
from mdnet.models.mdnet import MDNet

__all__ = ["Probes", "choose_sentences", "choose_words"]

LONGEST = 16  # words of a sentence that are read
_SENTENCES = 1  # a section; with two of them recall is no better (12,000 images, 9 queries)
WORDS = 128  # log-probabilities kept a section


class Probes:
    """Reads sentences on images.

    Args:
        model: In evaluation mode.
        sentences: Of every section the words of its sentences, one at least.
    """

    def __init__(self, model: MDNet, sentences: Sequence[Sequence[Sequence[int]]]) -> None:
        self._model = model
        self._sizes = [len(texts) for texts in sentences]
        end = model.config.end_id
        self.texts = Texts.of_words(
            model,
            [[*words, end] for texts in sentences for words in texts],  # what comes last is asked for too
            [section for section, texts in enumerate(sentences) for _ in texts],
        )

    @torch.inference_mode()
    def said(self, store: FeatureStore, rows: Rows) -> list[Tensor]:
        """Section by section log p of every word at every position of its sentences: (B, n T V).

        Positions behind the end of a sentence say nothing: 0.
        """
        model, texts = self._model, self.texts
        assert model.report is not None
        features = store.features(rows)
        studies = len(features.grid)
        prepared = model.prepare(features, model.guides(store.logits(rows)))
        prepared = prepared.of_sections(texts.sections.expand(studies, -1))
        logits = model.report(texts.inputs.expand(studies, -1, -1), features.grid, prepared).logits
        read = (texts.targets != model.config.pad_id)[..., None]  # (N, T, 1)
        log_p = logits.float().log_softmax(dim=-1) * read  # (B, N, T, V)
        return [each.flatten(1) for each in log_p.split(self._sizes, dim=1)]

    def images_at_once(self, store: FeatureStore) -> int:
        return images_at_once(self._model, store, self.texts)


@torch.inference_mode()
def choose_sentences(model: MDNet, store: FeatureStore, rows: npt.NDArray[np.int64]) -> list[list[list[int]]]:
    """Of every section the sentences that the model writes most on some images, greedily."""
    written: list[Counter[tuple[int, ...]]] = [Counter() for _ in model.config.sections]
    none = {model.config.pad_id, model.config.end_id}
    for start in range(0, len(rows), 32):
        place = rows[start : start + 32]
        features = store.features(place)
        prepared = model.prepare(features, model.guides(store.logits(place)))
        tokens = decode_greedily(model, features, prepared, maximum_words=LONGEST).tokens  # (B, S, T)
        for study in tokens.tolist():
            for section, words in enumerate(study):
                written[section][tuple(word for word in words if word not in none)] += 1
    return [[list(words) for words, _ in counts.most_common(_SENTENCES)] for counts in written]


def choose_words(said: Sequence[Tensor]) -> list[Tensor]:
    """Of every section the places, in what `Probes.said` gives of some images, that are kept: (words,)."""
    telling = [each.exp().mean(dim=0) * each.var(dim=0, correction=0) for each in said]
    return [each.topk(min(WORDS, len(each))).indices for each in telling]
