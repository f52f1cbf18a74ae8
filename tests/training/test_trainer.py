"""The loop learns, repeats itself to the bit, and goes on as if it had never stopped."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState

from mdnet.data.images import load_image
from mdnet.data.loading import SeededSampler, StudyDataset, make_loader
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.text import ReportTokenizer
from mdnet.models.registry import create_model
from mdnet.training.configuration import TrainingConfig
from mdnet.training.trainer import Trainer, parameter_groups

SMALL = {
    "image_size": 32,
    "widths": [6, 8, 10],
    "depths": [1, 1, 2],
    "strides": [1, 2, 2],
    "embedding_size": 8,
    "hidden_size": 16,
    "attention_size": 8,
    "dropout": 0.1,
}


class Stopped(BaseException):
    """Stands for a run that is killed."""


@pytest.fixture
def make_trainer(phantom_data, tmp_path):
    """A trainer on the 16 training studies, from weights of a seed."""
    studies = phantom_data.split("train")
    assert len(studies) == 16
    texts = (text for study in studies for texts in study.report.values() for text in texts)
    tokenizer = ReportTokenizer.build(texts, phantom_data.sections)
    preprocessing = Preprocessing.measure((load_image(s.images[0]) for s in studies), size=32)

    def make(**options) -> Trainer:
        config = TrainingConfig(
            data=".", out=str(tmp_path), **{"batch_size": 8, "augmentation": "tissue"} | options
        )
        torch.manual_seed(config.seed)
        model = create_model(
            "mdnet_tiny",
            label_space=phantom_data.label_space,
            sections=phantom_data.sections,
            tokenizer=tokenizer,
            preprocessing=preprocessing,
            **SMALL,
        )
        dataset = StudyDataset(
            studies,
            label_space=phantom_data.label_space,
            sections=phantom_data.sections,
            tokenizer=tokenizer,
            preprocessing=preprocessing,
            augmentation=config.augmentation,
        )
        return Trainer(model, dataset, config, validate=lambda model: {"training": float(model.training)})

    return make


def ignore(history) -> None:
    pass


def different_tensors(first: Trainer, second: Trainer) -> list[str]:
    """Names of the weights and statistics that differ in any bit."""
    theirs = second.model.state_dict()
    return [name for name, ours in first.model.state_dict().items() if not torch.equal(ours, theirs[name])]


@pytest.mark.parametrize("attention", ["sharpened", "additive"])
def test_both_losses_fall_within_a_few_epochs(make_trainer, tmp_path, attention, monkeypatch):
    monkeypatch.setitem(SMALL, "attention", attention)
    trainer = make_trainer(epochs=10, augmentation="none", learning_rate=0.02)
    history = trainer.train(tmp_path / "checkpoint", resume=False, on_epoch=ignore)
    first, last = history[0], history[-1]
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert last["train_classification_loss"] < 0.75 * first["train_classification_loss"]
    assert last["train_language_loss"] < 0.85 * first["train_language_loss"]
    assert not any(row["training"] for row in history)  # validated in evaluation mode


def test_two_runs_of_a_seed_give_the_same_bits_and_another_seed_others(make_trainer, tmp_path):
    runs = []
    for number, seed in enumerate((5, 5, 6)):
        trainer = make_trainer(epochs=2, seed=seed)
        trainer.train(tmp_path / str(number), resume=False, on_epoch=ignore)
        runs.append(trainer)
    assert different_tensors(runs[0], runs[1]) == []
    assert "image.stem.weight" in different_tensors(runs[0], runs[2])


def test_a_run_that_goes_on_after_a_kill_gives_the_same_bits(make_trainer, tmp_path):
    whole = make_trainer(epochs=3)
    rows = whole.train(tmp_path / "whole", resume=False, on_epoch=ignore)

    def stop(history) -> None:
        raise Stopped

    killed = make_trainer(epochs=3)
    with pytest.raises(Stopped):
        killed.train(tmp_path / "killed", resume=False, on_epoch=stop)
    seen = []
    resumed = make_trainer(epochs=3)
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            parameter.zero_()  # the weights and the random state must come from the checkpoint
    torch.manual_seed(99)
    history = resumed.train(
        tmp_path / "killed", resume=True, on_epoch=lambda history: seen.append(len(history))
    )
    assert different_tensors(whole, resumed) == []
    assert seen == [1, 2, 3]  # what the kill kept from being done for epoch 1 is done first
    for row in (*history, *rows):
        del row["images_per_second"]
    assert history == rows


def test_a_finished_run_that_goes_on_changes_nothing(make_trainer, tmp_path):
    first = make_trainer(epochs=1)
    first.train(tmp_path / "c", resume=False, on_epoch=ignore)
    again = make_trainer(epochs=1, seed=9)
    assert len(again.train(tmp_path / "c", resume=True, on_epoch=ignore)) == 1
    assert different_tensors(first, again) == []


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

    def step(batch, number):
        seen.extend(batch.ids)
        return plain_step(batch, number)

    trainer.step = step
    trainer.train(tmp_path / "c", resume=False, on_epoch=ignore)
    first, second = seen[:16], seen[16:]
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 16
    assert first != second


@pytest.fixture
def fresh_accelerator():
    """Accelerate keeps the precision of the process's first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerator")
@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
def test_mixed_precision_trains_and_is_validated_in_full_precision(
    make_trainer, tmp_path, monkeypatch, attention
):
    monkeypatch.setitem(SMALL, "attention", attention)
    trainer = make_trainer(epochs=1, precision="bf16")
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


def test_weight_decay_spares_biases_and_batch_norm(build_model):
    model = build_model()
    groups = parameter_groups(model, weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    decayed, spared = ({id(parameter) for parameter in group["params"]} for group in groups)
    for name, parameter in model.named_parameters():
        vector = "bias" in name or ".layers.0." in name or ".layers.3." in name or "activations" in name
        assert id(parameter) in (spared if vector else decayed), name
    assert len(decayed) + len(spared) == len(list(model.parameters()))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of fork beside threads, Python 3.12
def test_order_writers_and_augmentation_do_not_depend_on_the_number_of_workers(make_trainer):
    dataset = make_trainer().loader.dataset
    epochs = []
    for workers in (0, 2):
        sampler = SeededSampler(len(dataset), seed=4)
        loader = make_loader(dataset, batch_size=6, sampler=sampler, workers=workers)
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
