"""Ranks and recalls by hand, by random order, and by enumeration of chance."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from mdnet.errors import DataError
from mdnet.metrics.retrieval import first_ranks, retrieval_metrics


def test_recall_median_and_reciprocal_rank_by_hand():
    scores = [[0.9, 0.1, 0.2], [0.5, 0.4, 0.3], [0.3, 0.2, 0.1]]  # ranks 1, 2, 3
    metrics = retrieval_metrics(scores, np.eye(3))
    assert (metrics["texts"], metrics["images"]) == (3, 3)
    assert metrics["recall_at_1"] == pytest.approx(1 / 3)
    assert metrics["recall_at_5"] == 1.0
    assert metrics["median_rank"] == 2.0
    assert metrics["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_images_with_the_same_report_are_all_right_answers():
    scores = [[0.1, 0.9, 0.5]]
    assert first_ranks(scores, [[True, False, False]]).tolist() == [3]
    assert first_ranks(scores, [[True, True, False]]).tolist() == [1]


def test_equal_scores_rank_as_their_random_orders_do_on_average():
    scores = np.array([3.0, 2.0, 2.0, 2.0, 2.0, 1.0])
    for relevant in ([0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]):
        ranks = []
        for order in permutations(range(6)):
            ranking = sorted(order, key=lambda image: -scores[image])  # stable: ties stay in this order
            ranks.append(next(place for place, image in enumerate(ranking, 1) if relevant[image]))
        assert first_ranks(scores[None], [relevant])[0] == pytest.approx(np.mean(ranks))


def test_chance_is_the_mean_over_all_rankings():
    relevant = np.array([[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]], bool)
    chance = retrieval_metrics(np.random.default_rng(0).random((3, 6)), relevant)["chance"]
    ranks = np.array(
        [
            [next(place for place, image in enumerate(order, 1) if row[image]) for row in relevant]
            for order in permutations(range(6))
        ]
    )
    assert chance["recall_at_1"] == pytest.approx((ranks == 1).mean())
    assert chance["recall_at_5"] == pytest.approx((ranks <= 5).mean())
    assert chance["recall_at_10"] == pytest.approx(1.0)
    assert chance["mean_reciprocal_rank"] == pytest.approx((1 / ranks).mean())
    assert chance["median_rank"] == np.sort(ranks.ravel())[(ranks.size - 1) // 2]


def test_a_model_that_scores_all_images_alike_is_at_the_middle():
    metrics = retrieval_metrics(np.zeros((9, 9)), np.eye(9))
    assert metrics["median_rank"] == 5.0
    assert metrics["recall_at_1"] == 0.0


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        ([[1.0, 2.0]], [[True]], "give .texts, images. of each"),
        ([[1.0, np.nan]], [[True, False]], "1 not finite"),
        ([[1.0, 2.0]], [[False, False]], "1 texts without an image"),
    ],
)
def test_what_cannot_be_ranked_is_said(scores, relevant, message):
    with pytest.raises(DataError, match=message):
        retrieval_metrics(scores, relevant)
