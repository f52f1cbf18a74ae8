"""The loop learns, repeats itself to the bit, follows its schedules and takes every study."""

from __future__ import annotations

import pytest
import torch

from mdnet.data.loading import make_loader
from mdnet.data.sampling import StepSampler


def ignore(history, model) -> None:
    pass


@pytest.mark.parametrize("attention", ["sharpened", "additive"])
def test_both_losses_fall_within_a_few_epochs(make_trainer, tmp_path, attention):
    network = {"attention": attention}
    trainer = make_trainer(epochs=10, augmentation="none", learning_rate=0.02, network=network)
    history = trainer.train(tmp_path / "checkpoint", resume=False, on_epoch=ignore)
    first, last = history[0], history[-1]
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert last["train_classification_loss"] < 0.75 * first["train_classification_loss"]
    assert last["train_language_loss"] < 0.85 * first["train_language_loss"]
    assert last["train_diagnosis_accuracy"] > first["train_diagnosis_accuracy"]
    assert not any(row["training"] for row in history)  # validated in evaluation mode


def test_two_runs_of_a_seed_give_the_same_bits_and_another_seed_others(
    make_trainer, different_tensors, tmp_path
):
    runs = []
    for number, seed in enumerate((5, 5, 6)):
        trainer = make_trainer(epochs=2, seed=seed)
        trainer.train(tmp_path / str(number), resume=False, on_epoch=ignore)
        runs.append(trainer)
    assert different_tensors(runs[0], runs[1]) == []
    assert "image.stem.weight" in different_tensors(runs[0], runs[2])


def test_beta_eta_and_the_learning_rate_follow_their_schedules(make_trainer, tmp_path):
    trainer = make_trainer(epochs=2, beta=(0.0, 0.8), eta=(1.0, 3.0), schedule="linear", learning_rate=0.01)
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda module, arguments, options: seen.append(
            (options["beta"], options["eta"], trainer.optimizer.param_groups[0]["lr"])
        ),
        with_kwargs=True,
    )
    trainer.train(tmp_path / "c", resume=False, on_epoch=ignore)
    beta, eta, rate = zip(*seen, strict=True)
    assert beta == pytest.approx([0.0, 0.2, 0.4, 0.6])  # steps 0 to 3 of 4
    assert eta == pytest.approx([1.0, 1.5, 2.0, 2.5])
    assert rate == pytest.approx([0.01, 0.01, 0.0075, 0.0025])


def test_every_epoch_has_all_studies_in_an_order_of_its_own(make_trainer, tmp_path):
    trainer = make_trainer(epochs=2)
    seen, plain_step = [], trainer.step

    def step(batches, number):
        seen.extend(name for batch in batches for name in batch.ids)
        return plain_step(batches, number)

    trainer.step = step
    trainer.train(tmp_path / "c", resume=False, on_epoch=ignore)
    first, second = seen[:16], seen[16:]
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 16
    assert first != second


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
def test_mixed_precision_trains_and_is_validated_in_full_precision(make_trainer, tmp_path, attention):
    trainer = make_trainer(epochs=1, precision="bf16", network={"attention": attention})
    seen = []
    trainer.model.image.stages[1].register_forward_hook(
        lambda module, arguments, output: seen.append((module.training, output.dtype))
    )

    def validate(model):
        with torch.no_grad():
            features = model(torch.randn(2, 3, 32, 32)).features
            assert all(maps.dtype == torch.float32 for maps in model.evidence(features)["mitosis"])
        return {}

    trainer.validate = validate
    (row,) = trainer.train(tmp_path / "c", resume=False, on_epoch=ignore)
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}
    assert 0 < row["train_language_loss"] < 10
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of fork beside threads, Python 3.12
def test_order_writers_and_augmentation_do_not_depend_on_the_number_of_workers(make_trainer):
    dataset = make_trainer().dataset
    epochs = []
    for workers in (0, 2):
        sampler = StepSampler(len(dataset), seed=4, batch_size=6)
        loader = make_loader(dataset, batches=sampler, workers=workers)
        for epoch in range(2):
            sampler.set_epoch(epoch)
            epochs.append(list(loader))
    for alone, shared in zip(epochs[0] + epochs[1], epochs[2] + epochs[3], strict=True):
        assert alone.ids == shared.ids
        assert torch.equal(alone.images, shared.images)
        assert torch.equal(alone.tokens, shared.tokens)
    first, second = ([name for batch in epoch for name in batch.ids] for epoch in epochs[:2])
    assert first != second  # another epoch, another order
    assert sorted(first) == sorted(second)
