"""What heads set between epochs: with what in their hands, when, and for whom."""

from __future__ import annotations

import pytest
import torch
from float64_training import CentringHeads

from mdnet.data.loading import make_loader
from mdnet.errors import ConfigurationError
from mdnet.training import between_epochs, trainer


class RecordingHeads(CentringHeads):
    """Keeps what it was given last."""

    def end_epoch(self, studies) -> None:
        given = list(studies)
        assert not torch.is_grad_enabled()
        RecordingHeads.given = given
        super().end_epoch(given)


@pytest.fixture
def set_heads(monkeypatch):
    """Lets trainers make models whose heads are of a class."""

    def use(heads: type) -> None:
        prepare = trainer.prepare

        def prepared(model, config, accelerator):
            model.heads.__class__ = heads
            return prepare(model, config, accelerator)

        monkeypatch.setattr(trainer, "prepare", prepared)

    return use


def test_they_are_given_the_training_split_as_it_is(make_trainer, set_heads, tmp_path):
    set_heads(RecordingHeads)
    run = make_trainer(double=True, epochs=1, batch_size=6)
    run.train(tmp_path, resume=False, on_epoch=lambda history, model: None)
    assert [len(features.grid) for features, _ in RecordingHeads.given] == [6, 6, 4]
    (whole,) = make_loader(run.dataset, batch_size=16)  # in order, and not augmented
    with torch.no_grad():
        expected = run.bare.eval().encode(run.pixel_values(whole))
    found = torch.cat([features.grid for features, _ in RecordingHeads.given])
    torch.testing.assert_close(found, expected.grid, rtol=1e-12, atol=1e-12)
    for name, labels in whole.labels.items():
        assert torch.equal(torch.cat([each[name] for _, each in RecordingHeads.given]), labels)


def test_what_they_set_is_validated_saved_and_gone_on_from(make_trainer, set_heads, tmp_path):
    set_heads(CentringHeads)
    run = make_trainer(double=True, epochs=3, learning_rate=1e-2)
    seen = []

    def validate(model):
        (whole,) = make_loader(run.dataset, batch_size=16)
        with torch.no_grad():
            seen.append(model(run.pixel_values(whole)).logits["conclusion"].mean(dim=0))
        return {}

    run.validate = validate
    run.train(tmp_path, resume=False, on_epoch=lambda history, model: None)
    assert len(seen) == 3
    for mean in seen:  # which is what they are set for
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-12)
    assert run.bare.heads["conclusion"].bias.abs().max() > 0.01

    again = make_trainer(double=True, epochs=4, learning_rate=1e-2)
    again.train(tmp_path, resume=True, on_epoch=lambda history, model: None)
    assert [row["epoch"] for row in again.history] == [1, 2, 3, 4]


def test_others_cost_no_pass_over_the_images(make_trainer, monkeypatch, tmp_path):
    monkeypatch.setattr(between_epochs, "make_loader", None)
    run = make_trainer(epochs=1)
    run.train(tmp_path, resume=False, on_epoch=lambda history, model: None)


def test_an_average_of_the_weights_would_undo_it_and_is_refused(make_trainer, monkeypatch):
    monkeypatch.setattr(between_epochs, "Heads", CentringHeads)  # as if the plain ones had the step
    with pytest.raises(ConfigurationError, match="an average over steps is not what they set"):
        make_trainer(ema=0.9)


def test_sharded_weights_are_refused(make_trainer, monkeypatch):
    monkeypatch.setattr(between_epochs, "Heads", CentringHeads)
    monkeypatch.setattr(between_epochs, "is_sharded", lambda accelerator: True)
    with pytest.raises(ConfigurationError, match="must be whole: launch without --use_fsdp"):
        make_trainer()
