"""Log p(query | image) of every image, teacher-forced: what ranks images exactly.

Formula 4 of docs/method.md, for a batch of images and all texts of all queries in one pass of the LSTM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from mdnet.errors import ConfigurationError
from mdnet.inference.likelihood import Texts, text_log_likelihoods
from mdnet.inference.retrieval.query import Query, QueryPart
from mdnet.inference.retrieval.store import FeatureStore
from mdnet.models.mdnet import MDNet

__all__ = ["score_exactly", "score_query_parts"]

_GRID_BYTES = 4 << 20  # of the images in a pass, read once a word: what a CPU's cache holds
_DEVICE_GRID_BYTES = 256 << 20  # on any other device
_LOGIT_BYTES = 64 << 20  # of the logits in a pass
_BAR_AFTER = 2.0  # seconds


def score_exactly(
    model: MDNet, store: FeatureStore, queries: Sequence[Query], *, rows: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.float64]:
    """Log p(query | image), the sum over the query's parts: (queries, images) float64.

    Args:
        model: In evaluation mode, with a language module.
        store: The images.
        queries: However many: a text that several of them have is scored once.
        rows: Of the images; all of them, in order, unless given.

    Raises:
        ConfigurationError: The model writes no report, a section is none of its own, or a text has no word.
    """
    parts = list(dict.fromkeys(part for query in queries for part in query.parts))
    scores = score_query_parts(model, store, parts, rows=rows)
    place = {part: row for row, part in enumerate(parts)}
    totals = [scores[[place[part] for part in query.parts]].sum(axis=0) for query in queries]
    return np.stack(totals) if totals else scores


@torch.inference_mode()
def score_query_parts(
    model: MDNet,
    store: FeatureStore,
    parts: Sequence[QueryPart],
    *,
    rows: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """Log p(part | image): (parts, images) float64. Arguments and errors: `score_exactly`."""
    row_of: dict[tuple[str, str], int] = {}
    members = [[row_of.setdefault((s, part.text), len(row_of)) for s in part.sections] for part in parts]
    texts = _encoded(model, list(row_of)) if row_of else None
    images = len(store) if rows is None else len(rows)
    result = np.zeros((len(parts), images))
    if texts is None or not images:
        return result
    step = images_at_once(model, store, texts)
    with tqdm(total=images, unit="image", delay=_BAR_AFTER, disable=None) as bar:
        for start in range(0, images, step):
            here = slice(start, min(start + step, images))
            place = here if rows is None else rows[here]
            guides = model.guides(store.logits(place))
            scores = text_log_likelihoods(model, store.features(place), guides, texts)  # (B, texts)
            means = [scores[:, own].logsumexp(dim=1) - math.log(len(own)) for own in members]
            result[:, here] = torch.stack(means).cpu().numpy()
            bar.update(here.stop - start)
    return result


def images_at_once(model: MDNet, store: FeatureStore, texts: Texts) -> int:
    """How many images a pass has: on a CPU as many as its cache holds, if that makes a batch."""
    at_once = _GRID_BYTES if model.device.type == "cpu" else _DEVICE_GRID_BYTES
    bytes_a_number = torch.finfo(model.dtype).bits // 8
    grid = store.card.rows * store.card.columns * store.card.channels * bytes_a_number
    logits = texts.inputs.numel() * model.config.vocabulary_size * bytes_a_number
    return max(1, min(max(16, at_once // grid), _LOGIT_BYTES // logits))


def _encoded(model: MDNet, texts: Sequence[tuple[str, str]]) -> Texts:
    """Texts of sections, without the end token (see `mdnet.inference.retrieval.query`)."""
    tokenizer, sections = model.tokenizer, model.config.sections
    if model.report is None or tokenizer is None:
        raise ConfigurationError("the model writes no report, so no text has a likelihood")
    if unknown := sorted({section for section, _ in texts} - set(sections)):
        raise ConfigurationError(
            f"no section {', '.join(unknown)}; the model's sections: {', '.join(sections)}"
        )
    ids = [tokenizer.encode(text) for _, text in texts]
    if not all(ids):
        raise ConfigurationError("a text of a query has no word: write at least one")
    return Texts.of_words(model, ids, [sections.index(section) for section, _ in texts])
