"""A trainer that many tests share: a tiny model on 16 synthetic studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from unwatched import draw_nothing

from mdnet.data.images import load_image
from mdnet.data.loading import StudyDataset
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.text import ReportTokenizer
from mdnet.models.registry import create_model
from mdnet.training.configuration import TrainingConfig
from mdnet.training.trainer import Trainer

SMALL_NETWORK = {
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
def unwatched(monkeypatch) -> None:
    """Runs write no pictures."""
    draw_nothing(monkeypatch)


@pytest.fixture
def make_trainer(phantom_data, tmp_path) -> Callable[..., Trainer]:
    """Makes a trainer on the 16 training studies, from weights of the configuration's seed."""
    studies = phantom_data.split("train")
    assert len(studies) == 16
    texts = (text for study in studies for texts in study.report.values() for text in texts)
    tokenizer = ReportTokenizer.build(texts, phantom_data.sections)
    preprocessing = Preprocessing.measure((load_image(s.images[0]) for s in studies), size=32)

    def make(*, network: dict[str, Any] | None = None, double: bool = False, **options: Any) -> Trainer:
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
            **SMALL_NETWORK | (network or {}),
        )
        dataset = StudyDataset(
            studies,
            label_space=phantom_data.label_space,
            sections=phantom_data.sections,
            tokenizer=tokenizer,
            preprocessing=preprocessing,
            augmentation=config.augmentation,
        )
        return Trainer(
            model.double() if double else model,
            dataset,
            config,
            validate=lambda model: {"training": float(model.training)},
        )

    return make


@pytest.fixture
def different_tensors() -> Callable[[Trainer, Trainer], list[str]]:
    """Names of the weights and statistics of two trainers that differ in any bit."""

    def compare(first: Trainer, second: Trainer) -> list[str]:
        theirs = second.bare.state_dict()
        return [name for name, ours in first.bare.state_dict().items() if not torch.equal(ours, theirs[name])]

    return compare


@pytest.fixture
def fresh_accelerator():
    """Accelerate keeps the precision of the process's first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
