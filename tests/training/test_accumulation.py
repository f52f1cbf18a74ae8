"""Several small batches make the step of one large one, also where labels and words are missing unevenly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from float64_training import make_trainer
from torch import nn

from mdnet.training import trainer as trainer_module


@pytest.fixture
def rest_batch_norm(monkeypatch):
    """BatchNorm in evaluation mode: its statistics are of one batch by nature."""

    def set_training_mode(model: nn.Module) -> None:
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    monkeypatch.setattr(trainer_module, "set_training_mode", set_training_mode)


@pytest.mark.usefixtures("rest_batch_norm")
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1, "imbalance": "weights"}], ids=["plain", "smoothed and weighted"]
)
def test_four_batches_make_the_step_of_one_to_1e_10(phantom_folder: Path, tmp_path: Path, options):
    trainers = []
    for accumulate in (1, 4):
        trainer = make_trainer(
            phantom_folder,
            tmp_path / str(accumulate),
            studies=19,  # a step of 16 and one of 3
            batch_size=16 // accumulate,
            accumulate=accumulate,
            epochs=3,
            **options,
        )
        trainer.train(tmp_path / str(accumulate), resume=False, on_epoch=lambda history, model: None)
        trainers.append(trainer)
    one, four = trainers
    for name, parameter in one.bare.named_parameters():
        torch.testing.assert_close(four.bare.get_parameter(name), parameter, rtol=0, atol=1e-10)
    for expected, row in zip(one.history, four.history, strict=True):
        for name in ("train_classification_loss", "train_language_loss", "train_diagnosis_accuracy"):
            assert row[name] == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.usefixtures("rest_batch_norm")
def test_the_mean_of_the_batches_own_means_would_not_do(phantom_folder, tmp_path, monkeypatch):
    """The gaps of this data are uneven enough that the test above can fail."""

    def first_step(accumulate: int) -> float:
        trainer = make_trainer(
            phantom_folder, tmp_path, studies=16, batch_size=16 // accumulate, accumulate=accumulate, epochs=1
        )
        counts = trainer.counts
        if accumulate > 1:
            trainer.counts = lambda batches: {
                name: 4 * count for name, count in counts(batches[:1]).items()
            }  # as if every batch had as many as the first
        batches = [trainer.loader.__iter__()]
        taken = [next(batches[0]) for _ in range(accumulate)]
        return trainer.step(taken, 0).losses["language"].item()

    assert first_step(4) != pytest.approx(first_step(1), rel=1e-3)
