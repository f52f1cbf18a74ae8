"""A watched run is the same run, and what was watched stands in the run folder."""

from __future__ import annotations

import json
import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mdnet.data.loading import StudyDataset
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.text import ReportTokenizer
from mdnet.models.registry import create_model
from mdnet.training.configuration import TrainingConfig
from mdnet.training.random_state import random_state
from mdnet.training.trainer import Trainer
from mdnet.training.watching import MOST_LINES, WINDOW, Watcher, watched_batch

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
RATES = {"image.matrices": 1e-3, "image.vectors": 1e-3, "report.matrices": 2e-3}


@pytest.fixture
def studies(phantom_data):
    return phantom_data.split("train")


@pytest.fixture
def make_model(phantom_data, studies):
    def make():
        texts = (text for study in studies for texts in study.report.values() for text in texts)
        torch.manual_seed(0)
        return create_model(
            "mdnet_tiny",
            label_space=phantom_data.label_space,
            sections=phantom_data.sections,
            tokenizer=ReportTokenizer.build(texts, phantom_data.sections),
            preprocessing=Preprocessing(32, "RGB", (0.6,) * 3, (0.2,) * 3),
            **SMALL,
        )

    return make


@pytest.fixture
def accumulated():
    """Reads event files as TensorBoard does: tag to (step, value) pairs, and all tags of other kinds."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )

    def read(folder):
        events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        tags = events.Tags()
        scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
        return scalars, {*tags["images"], *tags["histograms"], *tags["tensors"]}

    return read


def steps(watcher, first, last, *, rates=RATES) -> None:
    for step in range(first, last):
        losses = {"classification": torch.tensor(float(step)), "language": torch.tensor(2.0 * step)}
        watcher.on_step(step, losses, torch.tensor(3.0 + step), rates, 8)


def test_steps_are_written_as_means_of_ten_and_read_in_one_go(tmp_path, accumulated, monkeypatch):
    reads = []
    plain = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(len(tensor)) or plain(tensor))
    with Watcher(tmp_path) as watcher:
        steps(watcher, 0, 2 * WINDOW + 3)
        assert reads == [3 * WINDOW, 3 * WINDOW]
    scalars, _ = accumulated(tmp_path / "tensorboard")
    assert scalars["loss/classification"] == [(9, 4.5), (19, 14.5), (22, 21.0)]  # the last three at the end
    assert scalars["loss/language"] == [(9, 9.0), (19, 29.0), (22, 42.0)]
    assert scalars["loss/joint"] == [(9, 13.5), (19, 43.5), (22, 63.0)]
    assert scalars["gradient/norm"] == [(9, 7.5), (19, 17.5), (22, 24.0)]
    assert [value for _, value in scalars["learning_rate/report"]] == pytest.approx([2e-3] * 3)
    assert "learning_rate/image" in scalars
    assert all(value > 0 for _, value in scalars["speed/studies_per_second"])
    assert 0.05 < scalars["memory/process"][0][1] < 100  # GiB


def test_the_speed_is_that_of_the_steps_without_the_validation_behind_them(
    tmp_path, accumulated, make_model, studies, monkeypatch
):
    clock = iter([*range(100, 104), *range(900, 903)])  # seconds; four steps, validation, three steps
    monkeypatch.setattr("mdnet.training.watching.time.perf_counter", lambda: next(clock))
    model = make_model()
    with Watcher(tmp_path) as watcher:
        steps(watcher, 0, 4)
        watcher.on_epoch({"epoch": 1.0}, model, watched_batch(model, studies))
        steps(watcher, 4, 7)
    scalars, _ = accumulated(tmp_path / "tensorboard")
    assert scalars["speed/studies_per_second"] == [(3, 8.0), (6, 8.0)]


def test_an_epoch_adds_its_columns_and_writes_its_files(tmp_path, accumulated, make_model, studies, caplog):
    model = make_model()
    with Watcher(tmp_path, studies=studies) as watcher:
        steps(watcher, 0, 4)
        watcher.on_step(4, {"language": torch.tensor(1.0)}, torch.tensor(torch.inf), RATES, 8)
        row = {"epoch": 1.0, "val_cider": 0.5, "train_language_loss": 2.0, "gradient_norm": 9.0}
        columns = watcher.on_epoch(row, model, watched_batch(model, studies))
        steps(watcher, 5, 6)
        watcher.on_epoch({"epoch": 2.0}, model, watched_batch(model, studies))
    assert columns["learning_rate_image"] == 1e-3
    assert columns["learning_rate_report"] == 2e-3
    assert columns["dead_units"] == 0.0
    assert 0.99 < columns["attention_entropy"] <= 1.0  # untrained
    health = json.loads((tmp_path / "health.json").read_text())
    assert (health["epoch"], health["step"]) == (2.0, 5)
    assert [focus["section"] for focus in health["attention"]] == list(model.config.sections)
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.width > 900

    scalars, others = accumulated(tmp_path / "tensorboard")
    assert scalars["val/cider"] == [(4, 0.5)]
    assert scalars["train/language_loss"] == [(4, 2.0)]
    assert scalars["epoch/gradient_norm"] == [(4, 9.0)]
    assert scalars["epoch/dead_units"] == [(4, 0.0), (5, 0.0)]
    for layer in ("image.stem", "image.stages.2.residual.0.layers.5", "report.lstm"):
        assert f"gradient_norm_language/{layer}" in scalars
        assert f"gradient_ratio_language/{layer}" in scalars
    assert "gradient_norm_classification/image.stem" in scalars
    assert "gradient_norm_classification/report.lstm" not in scalars  # L_M does not reach it
    assert "dead_units/image.activations.0.1" in scalars
    for name in ("entropy", "entropy_share", "positions", "maximum"):
        assert f"attention_{name}/mitosis" in scalars
    parts = (
        "image.stem",
        "image.stages.1",
        "heads.heads.0",
        "report.embedding",
        "report.attention.sharpness",
    )
    assert {f"{kind}/{part}" for kind in ("weights", "gradients") for part in parts} <= others
    assert {"samples", "reports/text_summary", "warnings/text_summary"} <= others


def test_a_run_that_goes_on_replaces_what_the_killed_one_wrote_beyond(
    tmp_path, accumulated, make_model, studies
):
    model = make_model()
    batch = watched_batch(model, studies)
    with Watcher(tmp_path) as killed:
        steps(killed, 0, 10)
        killed.on_epoch({"epoch": 1.0, "val_cider": 0.1}, model, batch)
        steps(killed, 10, 20)
        killed.on_epoch({"epoch": 2.0, "val_cider": 0.7}, model, batch)
    with Watcher(tmp_path, step=10) as resumed:
        steps(resumed, 10, 20)
        resumed.on_epoch({"epoch": 2.0, "val_cider": 0.2}, model, batch)
    scalars, _ = accumulated(tmp_path / "tensorboard")
    assert [step for step, _ in scalars["loss/joint"]] == [9, 19]
    assert scalars["val/cider"] == [(9, pytest.approx(0.1)), (19, pytest.approx(0.2))]


def test_a_run_that_begins_anew_replaces_all_that_was_written(tmp_path, accumulated):
    for last in (20, 10):  # the first was killed before its first checkpoint
        with Watcher(tmp_path) as watcher:
            steps(watcher, 0, last)
    scalars, _ = accumulated(tmp_path / "tensorboard")
    assert [step for step, _ in scalars["loss/joint"]] == [9]


def test_a_crash_loses_ten_steps_at_most(tmp_path, accumulated):
    watcher = Watcher(tmp_path)
    steps(watcher, 0, 15)
    scalars, _ = accumulated(tmp_path / "tensorboard")  # it was never closed
    assert [step for step, _ in scalars["loss/joint"]] == [9]


def test_what_looks_wrong_is_said_a_line_each_and_not_without_end(
    tmp_path, accumulated, make_model, studies, caplog
):
    model = make_model()
    with torch.no_grad():
        for activation in model.image.activations:
            activation[0].bias.fill_(-1e3)
    row = {"epoch": 3.0, "val_distinct_share": 1 / len(studies), "val_commonest_share": 1.0}
    with Watcher(tmp_path, studies=studies) as watcher:
        watcher.on_epoch(row, model, watched_batch(model, studies))
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines[0].startswith("epoch 3: the reports have collapsed: 1 distinct report for 16 studies")
    assert len(lines) == MOST_LINES + 1
    assert lines[-1].endswith(f"more, in {tmp_path / 'health.json'}")
    warnings = json.loads((tmp_path / "health.json").read_text())["warnings"]
    assert f"and {len(warnings) - MOST_LINES} more" in lines[-1]
    assert any("image.activations.0.1: dead: 6 of 6" in line for line in warnings)
    assert "warnings/text_summary" in accumulated(tmp_path / "tensorboard")[1]


def test_without_tensorboard_it_is_said_once_and_all_else_is_written(
    tmp_path, make_model, studies, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    model = make_model()
    with Watcher(tmp_path, studies=studies) as watcher:
        steps(watcher, 0, 25)
        columns = watcher.on_epoch({"epoch": 1.0}, model, watched_batch(model, studies))
    said = [message for message in caplog.messages if "tensorboard" in message]
    assert said == [
        "tensorboard is not installed: pip install 'mdnet[tensorboard]'; "
        "the run is watched by history.png, samples.png and health.json alone"
    ]
    assert columns["dead_units"] == 0.0
    assert {path.name for path in tmp_path.iterdir()} == {"health.json", "samples.png"}


def test_a_full_disk_ends_the_watching_and_not_the_training(
    tmp_path, make_model, studies, monkeypatch, caplog
):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")

    def full(*arguments, **options) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("mdnet.files.os.fsync", full)
    model = make_model()
    with Watcher(tmp_path, studies=studies) as watcher:
        steps(watcher, 0, 10)
        (tmp_path / "tensorboard").rename(tmp_path / "elsewhere")
        (tmp_path / "tensorboard").write_text("a file where the folder should be")
        steps(watcher, 10, 30)
        columns = watcher.on_epoch({"epoch": 1.0}, model, watched_batch(model, studies))
    assert columns["dead_units"] == 0.0
    (told,) = [message for message in caplog.messages if message.startswith("TensorBoard's")]  # once
    assert told.startswith("TensorBoard's event files end here: ")
    assert [message for message in caplog.messages if "no space left" in message] == [
        "health.json: no space left on device; the run goes on without it",
        "samples.png: no space left on device; the run goes on without it",
    ]


def test_the_watched_batch_is_spread_over_the_studies_and_draws_nothing(make_model, studies):
    model = make_model()
    with unchanged_randomness():
        batch = watched_batch(model, studies, size=4)
    assert batch.ids == tuple(studies[place].id for place in (0, 4, 8, 12))
    assert watched_batch(model, studies, size=99).ids == tuple(study.id for study in studies)
    assert watched_batch(model, studies[:1]).ids == (studies[0].id,)


def test_an_examination_leaves_model_and_random_state_as_they_were(tmp_path, make_model, studies):
    model = make_model().train()
    model.image.stages[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = watched_batch(model, studies)
    # Something that draws whenever it runs, in evaluation mode too.
    model.image.activations[0][0].register_forward_hook(draw)
    with Watcher(tmp_path, studies=studies) as watcher, unchanged_randomness():
        watcher.on_epoch({"epoch": 1.0}, model, batch)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_watched_run_ends_with_the_same_bits(tmp_path, make_model, studies):
    ends, rows = [], []
    for watched in (False, True):
        model = make_model()
        dataset = StudyDataset(
            studies,
            label_space=model.config.space,
            sections=model.config.sections,
            tokenizer=model.tokenizer,
            preprocessing=model.preprocessing,
            augmentation="tissue",
        )
        out = tmp_path / str(watched)
        config = TrainingConfig(data=".", out=str(out), epochs=2, batch_size=8, augmentation="tissue")
        trainer = Trainer(
            model,
            dataset,
            config,
            validate=lambda model: {"val_score": 0.0},
            watch=(lambda step, out=out: Watcher(out, studies=studies, step=step)) if watched else None,
            watched=watched_batch(model, studies) if watched else None,
        )
        torch.manual_seed(5)
        rows.append(trainer.train(out, resume=False, on_epoch=lambda history, model: None))
        ends.append({name: tensor.clone() for name, tensor in trainer.bare.state_dict().items()})
        assert not any(
            module._forward_hooks for module in trainer.bare.modules() if isinstance(module, nn.ReLU)
        )
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    plain, seen = (row for row in (rows[0][-1], rows[1][-1]))
    rates = {f"learning_rate_{part}" for part in ("image", "heads", "report")}
    assert set(seen) - set(plain) == {"dead_units", "attention_entropy"} | rates


def draw(module, inputs, output) -> None:
    """A forward hook that draws from every generator."""
    torch.rand(3)
    random.random()
    np.random.random()  # noqa: NPY002


@contextmanager
def unchanged_randomness() -> Iterator[None]:
    """Fails where a generator has moved inside the block."""
    before = random_state(torch.device("cpu"))
    yield
    after = random_state(torch.device("cpu"))
    assert all(torch.equal(after[name], state) for name, state in before.items())
