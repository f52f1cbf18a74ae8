"""A gradient that is no number is computed once more, in full precision; then the run stops."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer

from mdnet.errors import TrainingError
from mdnet.training.checkpoint import list_checkpoints, load_checkpoint


def ignore(history, model) -> None:
    pass


class Poison:
    """Makes the features of chosen forward passes, counted from 0, no numbers."""

    def __init__(self, trainer, passes) -> None:
        self.calls, self.passes = 0, passes
        self.precisions: list[torch.dtype] = []
        self.batch_norm = trainer.bare.image.activations[0][0]
        self.counted: list[int] = []
        trainer.bare.image.stem.register_forward_hook(self)

    def __call__(self, module, arguments, output):
        if not module.training:
            return None
        self.calls += 1
        self.precisions.append(output.dtype)
        self.counted.append(int(self.batch_norm.num_batches_tracked))
        return output * float("nan") if self.calls - 1 in self.passes else None


def test_a_step_that_succeeds_at_the_second_attempt_leaves_no_trace(
    make_trainer, different_tensors, tmp_path
):
    plain = make_trainer(epochs=2, scheduled_sampling=0.5)
    plain.train(tmp_path / "plain", resume=False, on_epoch=ignore)
    trainer = make_trainer(epochs=2, scheduled_sampling=0.5)
    poison = Poison(trainer, {2})
    trainer.train(tmp_path / "again", resume=False, on_epoch=ignore)
    assert poison.calls == 5  # 4 steps and one attempt
    assert poison.counted == [0, 1, 2, 2, 3]  # BatchNorm's statistics were put back
    assert different_tensors(plain, trainer) == []  # and so was the random state; words are drawn from it


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_second_attempt_is_in_full_precision(make_trainer, tmp_path):
    trainer = make_trainer(epochs=1, precision="bf16")
    poison = Poison(trainer, {1})
    trainer.train(tmp_path / "c", resume=False, on_epoch=ignore)
    assert poison.precisions == [torch.bfloat16, torch.bfloat16, torch.float32]


def test_an_overflow_of_scaled_gradients_shrinks_the_scale_and_skips_no_step(
    make_trainer, different_tensors, tmp_path
):
    """fp16's scaler, on a CPU and in float32, where a scale of a power of two changes no bit."""
    plain = make_trainer(epochs=2)
    plain.train(tmp_path / "plain", resume=False, on_epoch=ignore)
    scaled = make_trainer(epochs=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, backoff_factor=2.0**-4)
    scaled.accelerator.scaler = scaler
    scaled.optimizer = AcceleratedOptimizer(scaled.optimizer.optimizer, device_placement=False, scaler=scaler)
    scaled.accelerator.unscale_gradients = lambda: scaler.unscale_(scaled.optimizer.optimizer)
    Poison(scaled, {1})
    scaled.train(tmp_path / "scaled", resume=False, on_epoch=ignore)
    assert scaler.get_scale() == 2.0**12
    assert different_tensors(plain, scaled) == []
    _, progress = load_checkpoint(list_checkpoints(tmp_path / "scaled")[-1])
    assert progress["scaler"]["scale"] == 2.0**12


def test_a_second_failure_stops_the_run_and_names_its_studies(make_trainer, different_tensors, tmp_path):
    run = tmp_path / "failed"
    trainer = make_trainer(epochs=2, accumulate=2, batch_size=4, ema=0.5)
    Poison(trainer, {2, 4})  # the first batch of the second step, at both attempts
    seen, plain_step = [], trainer.step

    def step(batches, number):
        seen.append([name for batch in batches for name in batch.ids])
        return plain_step(batches, number)

    trainer.step = step
    with pytest.raises(
        TrainingError, match=r"step 1: the gradient is no number, .*classification nan"
    ) as caught:
        trainer.train(run, resume=False, on_epoch=ignore)
    assert "\n" not in str(caught.value)
    assert str(run / "failed_batch.json") in str(caught.value)
    record = json.loads((run / "failed_batch.json").read_text())
    assert record["step"] == 1
    assert record["studies"] == seen[-1]
    assert len(record["studies"]) == 8
    assert record["losses"]["classification"] == "nan"

    whole, resumed = (make_trainer(epochs=2, accumulate=2, batch_size=4, ema=0.5) for _ in range(2))
    whole.train(tmp_path / "whole", resume=False, on_epoch=ignore)
    resumed.train(run, resume=True, on_epoch=ignore)  # without the poison, from before the step
    assert different_tensors(whole, resumed) == []
