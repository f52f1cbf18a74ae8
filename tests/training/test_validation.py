"""Which epoch is best, and when enough is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdnet.data.readers import read_studies
from mdnet.errors import ConfigurationError
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.inference.predictor import Predictor
from mdnet.training.validation import best_epoch, should_stop, validation_row


def rows(*scores: float) -> list[dict[str, float]]:
    return [{"epoch": number, "val_score": score} for number, score in enumerate(scores, start=1)]


def test_best_epoch_is_the_highest_score_and_the_later_of_two():
    assert best_epoch(rows(0.2, 0.5, 0.1)) == 1
    assert best_epoch(rows(0.5, 0.5)) == 1
    assert best_epoch(rows(float("nan"), 0.1, float("nan"))) == 1
    assert best_epoch([{"epoch": 1}, *rows(0.2, 0.1)]) == 1


def test_best_epoch_follows_the_metric_that_is_named():
    history = [{"val_score": 0.9, "val_cider": 1.0}, {"val_score": 0.1, "val_cider": 2.0}]
    assert best_epoch(history, "val_score") == 0
    assert best_epoch(history, "val_cider") == 1


def test_without_validation_the_last_epoch_is_best_and_patience_is_refused():
    history = [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    assert best_epoch(history) == 2
    assert not should_stop(history, "val_score", 0)
    with pytest.raises(ConfigurationError, match="patience is 1, but nothing was validated"):
        should_stop(history, "val_score", 1)
    with pytest.raises(ConfigurationError, match=r"'val_cider' is no column .*: none, as nothing was"):
        best_epoch(history, "val_cider")


@pytest.mark.parametrize("choose", [best_epoch, lambda history, metric: should_stop(history, metric, 2)])
@pytest.mark.parametrize("metric", ["val_accuracy", "train_language_loss", "epoch"])
def test_a_metric_that_validation_does_not_have_names_those_there_are(choose, metric):
    history = [{"epoch": 1, "train_language_loss": 2.0, "val_score": 0.3, "val_cider": 1.0}]
    with pytest.raises(
        ConfigurationError, match=f"'{metric}' is no .*; those there are: val_cider, val_score"
    ):
        choose(history, metric)


@pytest.mark.parametrize(
    ("scores", "patience", "stops"),
    [
        ((0.1, 0.2, 0.3), 1, False),
        ((0.3, 0.2), 1, True),
        ((0.3, 0.2), 2, False),
        ((0.3, 0.2, 0.1), 2, True),
        ((0.3, 0.3, 0.3), 2, True),  # as good is not better
        ((0.3, 0.2, 0.4, 0.1), 2, False),
        ((0.3, float("nan"), float("nan")), 2, True),
        ((0.3, 0.2, 0.1, 0.0), 0, False),
        ((), 3, False),
    ],
)
def test_training_stops_after_so_many_epochs_without_a_better_one(scores, patience, stops):
    assert should_stop(rows(*scores), "val_score", patience) == stops


def test_a_validation_row_is_the_evaluation_s_numbers():
    data = read_studies(Path(__file__).parents[2] / "data" / "sample")
    studies = data.studies[:8]
    predictor = Predictor.from_pretrained("mdnet_tiny/phantom")
    row = validation_row(predictor, studies, data)
    metrics = evaluate_studies(predictor, studies, data, baselines=False, progress=False).metrics
    assert row["val_diagnosis_accuracy"] == metrics["diagnosis"]["accuracy"]
    assert row["val_cider"] == metrics["text"]["cider"]
    assert row["val_distinct_share"] == metrics["text"]["distinct_share"]
    expected = (metrics["diagnosis"]["accuracy"] + metrics["text"]["cider"] / 10) / 2
    assert row["val_score"] == pytest.approx(expected)
    assert all(name.startswith("val_") and isinstance(value, float) for name, value in row.items())
