"""Which epoch is best, and when enough is enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mdnet.data.readers import read_studies
from mdnet.data.study import LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.inference.predictor import Predictor
from mdnet.models.registry import create_model
from mdnet.training.validation import best_epoch, check_metric, should_stop, validation_row


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


@pytest.fixture(scope="module")
def sample():
    return read_studies(Path(__file__).parents[2] / "data" / "sample")


@pytest.fixture(scope="module")
def model():
    return Predictor.from_pretrained("mdnet_tiny/phantom").model


def test_every_column_that_a_validation_has_can_be_its_metric(sample, model):
    studies = sample.studies[:16]
    row = validation_row(Predictor(model), studies, sample)
    assert len(row) > 10
    for name in row:
        check_metric(name, 3, studies, sample, model)
    with pytest.raises(ConfigurationError) as caught:
        check_metric("val_accuracy", 0, studies, sample, model)
    said = str(caught.value).partition("those there will be: ")[2].split(", ")
    assert sorted(said) == sorted(row)  # neither more nor fewer


@pytest.mark.parametrize(
    ("metric", "near"),
    [("val_cidr", "val_cider"), ("val_mitosis_pointing", "val_mitosis_.*"), ("score", "val_score")],
)
def test_a_misspelt_metric_is_refused_by_the_nearest(sample, model, metric, near):
    with pytest.raises(ConfigurationError, match=f"'{metric}' is no column .*; did you mean {near}\\?"):
        check_metric(metric, 0, sample.studies, sample, model)


@pytest.mark.parametrize(
    ("metric", "without", "needs"),
    [
        ("val_cider", "report", "needs reports"),
        ("val_diagnosis_accuracy", "labels", "needs labels of the diagnosis"),
        ("val_statements_true", "labels", "needs labels"),
        ("val_mitosis_evidence_pointing", "masks", "needs masks of mitosis"),
    ],
)
def test_a_metric_for_which_the_val_split_lacks_something_is_refused(sample, model, metric, without, needs):
    check_metric(metric, 0, sample.studies, sample, model)
    bare = [replace(study, **{without: {}}) for study in sample.studies]
    assert metric not in validation_row(Predictor(model), bare[:4], sample)
    with pytest.raises(ConfigurationError, match=f"'{metric}' {needs}.*; columns that there will be: val_"):
        check_metric(metric, 0, bare, sample, model)


def test_without_a_val_split_only_the_default_metric_without_patience_is_taken(sample, model):
    check_metric("val_score", 0, (), sample, model)
    with pytest.raises(ConfigurationError, match="patience 2 with metric 'val_score' needs a val split"):
        check_metric("val_score", 2, (), sample, model)
    with pytest.raises(ConfigurationError, match="'val_cider' needs a val split, which the data has not"):
        check_metric("val_cider", 0, (), sample, model)


def test_a_model_that_writes_nothing_has_no_text_to_be_judged_by(sample):
    silent = create_model("mdnet_tiny", label_space=sample.label_space)
    with pytest.raises(ConfigurationError, match="needs reports, and a model that writes some"):
        check_metric("val_bleu_4", 0, sample.studies, sample, silent)
    headless = create_model("mdnet_tiny", label_space=LabelSpace())
    with pytest.raises(ConfigurationError, match="needs labels"):
        check_metric("val_mean_aspect_accuracy", 0, sample.studies, sample, headless)
