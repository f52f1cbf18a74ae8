"""Log p(query | image), against the formula written out a word at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mdnet.errors import ConfigurationError
from mdnet.inference.retrieval import exact
from mdnet.inference.retrieval.exact import score_exactly
from mdnet.inference.retrieval.query import Query, QueryPart
from mdnet.inference.retrieval.store import FeatureStore, card_of, rows_of_features
from mdnet.inference.retrieval.store_files import Kept, StoreFiles
from mdnet.models.mdnet import MDNet

FREQUENT = QueryPart("mitotic figures are frequent .", ("mitosis",))
SMALL = QueryPart("the nuclei are small", ("mitosis", "remarks", "conclusion"))
TUMOR = QueryPart("tumor", ("conclusion",))
QUERIES = [Query((FREQUENT,)), Query((SMALL, TUMOR)), Query((TUMOR, FREQUENT)), Query((SMALL,))]


def store_of(folder: Path, model: MDNet, pixels: torch.Tensor, present=None) -> FeatureStore:
    """A store of images given as pixels."""
    with torch.inference_mode():
        features = model.encode(pixels, present)
        logits = model.heads(features)[0] if model.heads is not None else {}
    there = np.ones(len(pixels), int) if present is None else present.sum(dim=1).tolist()
    kept = [Kept(f"{n}", (("", 0, 0),) * there[n]) for n in range(len(pixels))]
    files = StoreFiles.create(folder, card_of(model, features, name=""))
    files.append(kept, rows_of_features(features, logits))
    return FeatureStore(files, model)


@torch.inference_mode()
def naive_score(model: MDNet, store: FeatureStore, part: QueryPart, row: int) -> float:
    """log( mean over sections of prod over words of p(word | image, words before) )."""
    rows = np.array([row])
    prepared = model.prepare(store.features(rows), model.guides(store.logits(rows)))
    total = 0.0
    for section in part.sections:
        place = model.config.sections.index(section)
        words, product = [model.config.begin_ids[place]], 1.0
        for word in model.tokenizer.encode(part.text):
            tokens = torch.full((1, len(model.config.sections), len(words)), model.config.pad_id)
            tokens[0, place] = torch.tensor(words)
            logits = model.report(tokens, store.features(rows).grid, prepared).logits
            product *= float(logits[0, place, -1].softmax(dim=0)[word])
            words.append(word)
        total += product
    return math.log(total / len(part.sections))


@pytest.mark.parametrize(
    "options", [{}, {"attention": "mdnet"}, {"attention": "additive"}, {"views": 2}], ids=str
)
def test_scores_are_the_formula(tmp_path, build_model, draw_batch, options, monkeypatch):
    monkeypatch.setattr(exact, "_LOGIT_BYTES", 1 << 14)  # several passes
    model = build_model(**options)
    views = options.get("views", 1)
    pixels = draw_batch(5, size=(32, 32 * views), seed=2).pixel_values
    present = torch.tensor([[True, n != 3] for n in range(5)]) if views == 2 else None
    store = store_of(tmp_path / "store", model, pixels, present)
    expected = np.array(
        [
            [sum(naive_score(model, store, part, row) for part in query.parts) for row in range(5)]
            for query in QUERIES
        ]
    )
    np.testing.assert_allclose(score_exactly(model, store, QUERIES), expected, rtol=1e-9)
    rows = np.array([4, 0, 4])
    np.testing.assert_allclose(score_exactly(model, store, QUERIES, rows=rows), expected[:, rows], rtol=1e-9)
    assert np.ptp(expected, axis=1).min() > 1e-3  # the images matter


def test_queries_that_have_no_likelihood_are_refused(tmp_path, build_model, draw_batch):
    model = build_model()
    store = store_of(tmp_path / "store", model, draw_batch(2).pixel_values)
    with pytest.raises(ConfigurationError, match="no section impression"):
        score_exactly(model, store, [Query((QueryPart("tumor", ("impression",)),))])
    with pytest.raises(ConfigurationError, match="no word"):
        score_exactly(model, store, [Query((QueryPart(" ", ("mitosis",)),))])
    assert score_exactly(model, store, []).shape == (0, 2)
    assert score_exactly(model, store, QUERIES, rows=np.array([], np.int64)).shape == (4, 0)
    mute = build_model(sections=())
    silent = store_of(tmp_path / "silent", mute, draw_batch(2).pixel_values)
    with pytest.raises(ConfigurationError, match="writes no report"):
        score_exactly(mute, silent, QUERIES)
