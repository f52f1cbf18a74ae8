"""Candidates and their exact scores, against the ranking of all images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mdnet.errors import ConfigurationError
from mdnet.inference.retrieval import candidates, embeddings, two_stage
from mdnet.inference.retrieval.candidates import CandidateIndex, fit_scores
from mdnet.inference.retrieval.embeddings import Embeddings
from mdnet.inference.retrieval.exact import score_exactly
from mdnet.inference.retrieval.probes import Probes
from mdnet.inference.retrieval.query import Query, QueryPart
from mdnet.inference.retrieval.store import FeatureStore, card_of, rows_of_features
from mdnet.inference.retrieval.store_files import Kept, StoreFiles
from mdnet.inference.retrieval.two_stage import search, similar_images
from mdnet.models.image_module import ImageFeatures

IMAGES = 400
QUERIES = [
    Query((QueryPart("mitotic figures are frequent .", ("mitosis",)),)),
    Query((QueryPart("a high grade", ("conclusion", "remarks")), QueryPart("oedema", ("findings",)))),
]


@pytest.fixture(scope="module")
def model(build_model):
    return build_model(dtype=torch.float32)


def fill(files: StoreFiles, model, images: int, *, seed: int) -> StoreFiles:
    """Adds images of random features to a store."""
    random = torch.Generator().manual_seed(seed)
    card = files.card
    grid = torch.rand(images, card.rows * card.columns, card.channels, generator=random)
    grid *= torch.rand(images, 1, card.channels, generator=random)  # so that images differ in the mean too
    features = ImageFeatures((), grid, card.rows, card.columns)
    logits = {
        a.name: torch.randn(images, len(a.classes), generator=random) for a in model.config.space.aspects
    }
    first = len(files.kept)
    kept = [Kept(f"image {first + n}", (("", 0, 0),)) for n in range(images)]
    files.append(kept, rows_of_features(features, logits))
    return files


@pytest.fixture
def store(tmp_path, model, draw_batch) -> FeatureStore:
    with torch.inference_mode():
        features = model.encode(draw_batch(1).pixel_values.float())
    files = StoreFiles.create(tmp_path / "store", card_of(model, features, name=""))
    return FeatureStore(fill(files, model, IMAGES, seed=0), model)


@pytest.fixture
def few(monkeypatch) -> None:
    """Little is scored: 40 anchors, and 5 rounds of 12 images."""
    monkeypatch.setattr(embeddings, "ANCHORS", 40)
    monkeypatch.setattr(candidates, "ROUNDS", 5)
    monkeypatch.setattr(candidates, "PER_ROUND", 12)


@pytest.mark.parametrize("query", QUERIES)
def test_the_best_images_are_found_though_a_quarter_is_scored(model, store, few, query, monkeypatch):
    scored: list[np.ndarray] = []
    score = two_stage.score_query_parts

    def watched(*arguments, rows):
        scored.append(rows)
        return score(*arguments, rows=rows)

    monkeypatch.setattr(two_stage, "score_query_parts", watched)
    hits = search(model, store, query, top=10, two_stage=True)
    looked_at = np.concatenate(scored)
    assert len(looked_at) == len(set(looked_at.tolist())) == 40 + 5 * 12
    truth = score_exactly(model, store, [query])[0]
    np.testing.assert_allclose([hit.score for hit in hits], truth[[hit.row for hit in hits]], rtol=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({hit.row for hit in hits} & set(np.argsort(-truth)[:10].tolist())) >= 9


def test_where_all_images_are_scored_both_ways_are_one(model, store):
    for query in QUERIES:
        exact = search(model, store, query, top=20, two_stage=False)
        two = search(model, store, query, top=20, two_stage=True)
        assert [hit.source for hit in two] == [hit.source for hit in exact]
        truth = score_exactly(model, store, [query])[0]
        assert [hit.row for hit in exact] == np.argsort(-truth)[:20].tolist()
    assert len(search(model, store, QUERIES[0], top=IMAGES + 5)) == IMAGES
    with pytest.raises(ConfigurationError, match="top is 0"):
        search(model, store, QUERIES[0], top=0)


def test_a_store_that_is_large_is_searched_in_two_stages(model, store, monkeypatch):
    search(model, store, QUERIES[0])
    assert not (store.rows_folder / "candidates").exists()
    monkeypatch.setattr(two_stage, "EXACT_BELOW", IMAGES)
    search(model, store, QUERIES[0])
    assert (store.rows_folder / "candidates").is_dir()


def test_images_unlike_all_anchors_are_found(model, tmp_path, draw_batch, few, monkeypatch):
    monkeypatch.setattr(embeddings, "_LEAST_SPREAD", 1e-9)  # what they are is beyond half precision
    with torch.inference_mode():
        features = model.encode(draw_batch(1).pixel_values.float())
    files = StoreFiles.create(tmp_path / "store", card_of(model, features, name=""))
    anchors = embeddings._draw_anchors(200).tolist()
    unlike = [row for row in range(200) if row not in anchors][::20]
    random = torch.Generator().manual_seed(0)
    grid = torch.ones(200, files.card.rows * files.card.columns, files.card.channels)
    grid[unlike] = torch.rand(len(unlike), *grid.shape[1:], generator=random) * 3
    features = ImageFeatures((), grid, files.card.rows, files.card.columns)
    logits = {a.name: torch.zeros(200, len(a.classes)) for a in model.config.space.aspects}
    files.append(
        [Kept(f"image {row}", (("", 0, 0),)) for row in range(200)], rows_of_features(features, logits)
    )
    store = FeatureStore(files, model)
    assert all(values.isfinite().all() for values in Embeddings.of_store(store).sections)
    exact, two = (search(model, store, QUERIES[0], top=3, two_stage=way) for way in (False, True))
    assert [hit.row for hit in two] == [hit.row for hit in exact]


def test_embeddings_hold_what_is_said_of_the_image(model, store, few):
    found = Embeddings.of_store(store)
    card = json.loads((store.rows_folder / "candidates" / "card.json").read_text())
    said = Probes(model, card["sentences"]).said(store, slice(7, 9))
    for section, name in enumerate(model.config.sections):
        words = torch.tensor(card["words"][section])
        expected = (said[section][:, words] - torch.tensor(card["mean"][section])) / torch.tensor(
            card["scale"][section]
        )
        torch.testing.assert_close(found.sections[section][7:9].float(), expected, rtol=2e-3, atol=2e-3)
        # The words of the sentence itself, added up, are its exact score.
        sentence = card["sentences"][section][0]
        if not sentence:
            continue
        places = torch.arange(len(sentence)) * len(model.tokenizer) + torch.tensor(sentence)
        query = Query((QueryPart(model.tokenizer.decode(sentence), (name,)),))
        exact = score_exactly(model, store, [query], rows=np.array([7, 8]))[0]
        np.testing.assert_allclose(said[section][:, places].sum(dim=1), exact, rtol=1e-5)


def test_embeddings_go_on_after_a_kill_and_where_the_store_has_grown(model, store, few, monkeypatch):
    write, calls = embeddings.write_text, []

    def killed(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return write(*arguments)

    monkeypatch.setattr(embeddings, "_BATCHES", 2)
    monkeypatch.setattr(Probes, "images_at_once", lambda *_: 64)
    monkeypatch.setattr(embeddings, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        Embeddings.of_store(store)
    monkeypatch.setattr(embeddings, "write_text", write)
    first = [each.clone() for each in Embeddings.of_store(store).sections]
    grown = FeatureStore(fill(StoreFiles(store.folder), model, 50, seed=1), model)
    both = Embeddings.of_store(grown)
    for before, after in zip(first, both.sections, strict=True):
        assert len(after) == IMAGES + 50
        torch.testing.assert_close(after[:IMAGES], before, rtol=0, atol=0)
        assert after[IMAGES:].float().std() > 0.1
    doubled = FeatureStore(fill(StoreFiles(store.folder), model, IMAGES, seed=2), model)
    assert max(Embeddings.of_store(doubled).anchors) >= IMAGES + 50  # drawn anew from all


def test_another_report_module_has_other_embeddings_and_those_in_use_stay(
    model, store, few, build_model, monkeypatch
):
    mapped = Embeddings.of_store(store).sections[0]
    first = mapped.clone()
    other = build_model(dtype=torch.float32)
    with torch.no_grad():
        other.report.output.weight.mul_(0.5)
    others = FeatureStore.open(store.folder, model=other)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            Embeddings.of_store(others)
    torch.testing.assert_close(Embeddings.of_store(store).sections[0], first, rtol=0, atol=0)
    assert not torch.equal(first, Embeddings.of_store(others).sections[0])
    torch.testing.assert_close(mapped, first, rtol=0, atol=0)


def test_who_knows_of_fewer_rows_takes_the_embeddings_that_are_there(model, store, few):
    mapped = Embeddings.of_store(FeatureStore(fill(StoreFiles(store.folder), model, 50, seed=1), model))
    before = [each.clone() for each in mapped.sections]
    fewer = Embeddings.of_store(store)
    assert fewer.anchors.max() < IMAGES
    assert len(set(fewer.anchors.tolist())) == 40
    for own, all_rows, kept in zip(fewer.sections, mapped.sections, before, strict=True):
        torch.testing.assert_close(all_rows, kept, rtol=0, atol=0)
        torch.testing.assert_close(own, kept[:IMAGES], rtol=0, atol=0)
    assert len(search(model, store, QUERIES[0], top=IMAGES, two_stage=True)) == IMAGES


def test_the_fit_is_weighted_ridge_regression():
    random = np.random.default_rng(0)
    inputs, scores = random.normal(size=(60, 9)).astype(np.float32), random.normal(size=60)
    total = scores + random.normal(size=60)
    spread = 0.5 * (total.max() - np.median(total))
    weights = np.maximum(np.exp((total - total.max()) / spread), 1e-4)
    reference = Ridge(alpha=1e-4).fit(inputs.astype(float), scores, sample_weight=weights / weights.sum())
    np.testing.assert_allclose(fit_scores(inputs, scores, total), reference.coef_, rtol=1e-4, atol=1e-5)


def test_images_alike_have_the_greatest_cosine(store):
    pooled = np.array(store.pooled, np.float64)
    standard = (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)
    standard /= np.linalg.norm(standard, axis=1, keepdims=True)
    cosines = standard @ standard[3]
    hits = similar_images(store, 3, top=5)
    assert [hit.row for hit in hits] == np.argsort(-cosines)[1:6].tolist()
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(-cosines)[1:6] * -1, rtol=1e-5)
    itself = similar_images(store, np.array(store.pooled[3]), top=2)
    assert itself[0].row == 3
    assert itself[0].score == pytest.approx(1.0)
    assert len(similar_images(store, 0, top=10 * IMAGES)) == IMAGES - 1


def test_an_index_serves_any_exact_score(store, few):
    """What `find_best` is given need not be a sum of texts' likelihoods."""
    index = CandidateIndex.of_store(store)
    linear = Embeddings.of_store(store).sections[0].float().numpy()[:, 0].astype(np.float64)
    rows, scores = index.find_best(lambda rows: linear[rows][None], [("mitosis",)], top=5)
    assert rows.tolist() == np.lexsort((np.arange(IMAGES), -linear))[:5].tolist()
    np.testing.assert_array_equal(scores, linear[rows][None])
