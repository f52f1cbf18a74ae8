"""The smallest set in the sum is the smallest there is; one in the image is run, and nothing in it spare."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mdnet.data.images import load_image
from mdnet.data.readers import read_studies
from mdnet.errors import ConfigurationError
from mdnet.explain.counterfactual import (
    FILLINGS,
    cell_evidence,
    counterfactuals,
    remove_cells,
    rival_weights,
    smallest_removal,
)

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.mark.parametrize("seed", range(30))
def test_no_smaller_set_of_evidence_changes_the_answer(seed):
    random = np.random.default_rng(seed)
    ranked, margins = random.normal(size=(2, 9)), random.uniform(0, 6, size=2)
    most = int(random.integers(1, 10))
    found = smallest_removal(ranked, margins, most)
    enough = [
        len(cells)
        for size in range(1, most + 1)
        for cells in itertools.combinations(range(9), size)
        if (margins - ranked[:, list(cells)].sum(axis=1)).min() < 0
    ]
    if not enough:
        assert found is None
    else:
        assert found.sum() == min(enough)
        assert (margins - ranked[:, found].sum(axis=1)).min() < 0


@pytest.mark.parametrize("size", [(32, 32), (33, 50), (7, 90)])
def test_cells_and_bias_give_the_logits_at_any_size(small, draw_batch, size):
    model, images = small.model, draw_batch(1, size=size).pixel_values
    for aspect in model.config.space.aspects:
        logits, cells = cell_evidence(model, images, aspect)
        assert cells.shape[1:] == model.encode(images).blocks[-1].shape[-2:]
        bias = model.heads[aspect.name].bias.detach().numpy()
        np.testing.assert_allclose(cells.sum(axis=(1, 2)) + bias, logits, rtol=1e-9)


def test_a_cell_holds_the_evidence_of_the_finer_cells_inside_it(small, draw_batch):
    model, images = small.model, draw_batch(1).pixel_values
    aspect = model.config.space["mitosis"]
    _, cells = cell_evidence(model, images, aspect)
    maps = [each[0].detach().numpy() for each in model.evidence(model.encode(images))["mitosis"]]
    expected = (
        maps[0][:, 4:8, 8:12].sum(axis=(1, 2)) + maps[1][:, 2:4, 4:6].sum(axis=(1, 2)) + maps[2][:, 1, 2]
    )
    np.testing.assert_allclose(cells[:, 1, 2], expected, rtol=1e-9)


def test_rivals_have_positive_margins_while_the_answer_stands(space):
    logits = np.array([1.0, 3.0, -2.0])
    np.testing.assert_array_equal(rival_weights(space["mitosis"], logits, None) @ logits, [2.0, 5.0])
    np.testing.assert_array_equal(rival_weights(space["mitosis"], logits, "frequent") @ logits, [5.0])
    np.testing.assert_array_equal(rival_weights(space["findings"], logits, None) @ logits, [1.0, 3.0, 2.0])
    np.testing.assert_array_equal(rival_weights(space["findings"], logits, "nodule") @ logits, [2.0])
    with pytest.raises(ConfigurationError, match="rare is the model's answer"):
        rival_weights(space["mitosis"], logits, "rare")


@pytest.mark.parametrize("filling", FILLINGS)
def test_only_the_cells_named_are_replaced_each_set_by_itself(small, draw_batch, filling):
    images = draw_batch(1, size=(32, 48)).pixel_values
    cells = torch.zeros(3, 4, 6, dtype=torch.bool)
    cells[1, 1, 2] = cells[2] = True
    found = remove_cells(small.model, images, cells, filling=filling)
    changed = (found != images).any(dim=1)
    assert not changed[0].any()
    expected = torch.zeros(32, 48, dtype=torch.bool)
    expected[8:16, 16:24] = True
    assert torch.equal(changed[1], expected)
    assert changed[2].all()
    assert torch.isfinite(found).all()


def test_surroundings_are_the_mean_of_kept_pixels_weighted_by_nearness(small, draw_batch):
    images = draw_batch(1).pixel_values
    cells = torch.zeros(1, 4, 4, dtype=torch.bool)
    cells[0, 1, 1] = cells[0, 1, 2] = True
    found = remove_cells(small.model, images, cells, filling="surroundings")
    place = torch.arange(32, dtype=torch.float64)
    kept = torch.ones(32, 32, dtype=torch.float64)
    kept[8:16, 8:24] = 0
    for i, j in ((8, 8), (12, 20), (15, 23)):
        near = torch.exp(-((place[:, None] - i) ** 2 + (place[None] - j) ** 2) / (2 * 16.0**2)) * kept
        expected = (images[0] * near).sum(dim=(1, 2)) / near.sum()
        torch.testing.assert_close(found[0, :, i, j], expected, rtol=0.02, atol=0.02)
    flat = torch.full_like(images, 0.7)
    torch.testing.assert_close(remove_cells(small.model, flat, cells, filling="surroundings"), flat)


@pytest.fixture(scope="module")
def tiles():
    studies = [s for s in read_studies(SAMPLE).studies if s.labels.get("mitosis") in ("rare", "frequent")]
    return [study.images[0] for study in studies[:3]]


def test_what_is_taken_from_the_image_changes_the_answer_and_nothing_of_it_is_spare(shipped, tiles):
    for tile, found in zip(tiles, counterfactuals(shipped, tiles, aspect="mitosis"), strict=True):
        removal, before = found.in_image, shipped(tile).aspects["mitosis"]
        assert found.answer == before.label != removal.answer
        assert found.logits == pytest.approx(dict(before.logits), abs=1e-4)
        assert removal.verified
        pixels = shipped.pixel_values([load_image(tile)])
        one_back = np.repeat(removal.cells[None], removal.count, axis=0)
        one_back[(np.arange(removal.count), *np.nonzero(removal.cells))] = False
        sets = torch.from_numpy(np.concatenate([removal.cells[None], one_back]))
        with torch.inference_mode():
            logits = shipped.model(remove_cells(shipped.model, pixels, sets, filling="surroundings")).logits[
                "mitosis"
            ]
        classes = list(before.logits)
        answers = [classes[int(row.argmax())] for row in logits]
        assert answers == [removal.answer] + [found.answer] * removal.count
        assert logits[0].tolist() == pytest.approx(list(removal.logits.values()), abs=1e-4)
        assert 0 < removal.share < 0.1


def test_what_is_taken_from_the_sum_is_arithmetic_and_says_so(shipped, tiles):
    (found,) = counterfactuals(shipped, tiles[:1], aspect="mitosis")
    evidence = shipped(tiles[0])
    for label, logit in found.in_sum.logits.items():
        _, cells = cell_evidence(
            shipped.model, shipped.pixel_values([load_image(tiles[0])]), evidence.label_space["mitosis"]
        )
        index = evidence.label_space["mitosis"].index(label)
        assert logit == pytest.approx(found.logits[label] - cells[index][found.in_sum.cells].sum(), abs=1e-4)
    assert found.in_sum.answer != found.answer
    assert found.in_sum.verified is False


def test_no_set_within_the_limit_is_said_honestly(shipped, tiles):
    for limit in (0.001, 0.004):  # no cell, one cell of 256
        (found,) = counterfactuals(shipped, tiles[:1], aspect="mitosis", against="absent", limit=limit)
        assert found.in_sum is None
        if limit == 0.001:
            assert found.in_image is None
    record = json.loads(json.dumps(found.to_dict()))
    assert record["in_sum"] is None
    assert record["answer"] in ("rare", "frequent")


def test_any_aspect_of_any_model_can_be_asked(small, pictures):
    for aspect in small.model.config.space.names:
        found = counterfactuals(small, pictures[:2], aspect=aspect, limit=1.0)
        for picture, each in zip(pictures, found, strict=False):
            assert each.answer == small(picture).aspects[aspect].label
            if each.in_image is not None:
                assert each.in_image.verified
                assert each.in_image.answer != each.answer
                assert each.in_image.cells.shape == (4, 4)
    assert counterfactuals(small, pictures[:1])[0].aspect == "conclusion"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filling": "grey"}, "no filling 'grey'; there are surroundings, mean"),
        ({"limit": 0.0}, "limit 0.0 must lie above 0"),
        ({"aspect": "polarity"}, "no aspect 'polarity'"),
        ({"against": "lost"}, "no class 'lost'"),
    ],
)
def test_wrong_calls_are_refused(small, pictures, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        counterfactuals(small, pictures[:1], **settings)
