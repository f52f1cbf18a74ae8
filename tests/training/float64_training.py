"""Trains a small model in float64 and writes every step's losses and the last weights.

`python float64_training.py DATA OUT` in one process, `accelerate launch ...` in several: the studies of a
step are the same, for `BATCH` is divided by the number of processes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mdnet.data.loading import StudyDataset
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.readers import read_studies
from mdnet.data.study import Study
from mdnet.data.text import ReportTokenizer
from mdnet.models.registry import create_model
from mdnet.training.configuration import TrainingConfig
from mdnet.training.trainer import Trainer

MODEL: dict[str, Any] = {
    "image_size": 32,
    "widths": [4, 6],
    "depths": [1, 2],
    "strides": [1, 2],
    "embedding_size": 5,
    "hidden_size": 7,
    "maximum_words": 5,
    "dropout": 0.0,  # every process draws masks of its own
}


def with_gaps(studies: list[Study]) -> list[Study]:
    """Labels and sections missing, more of them in some parts of a batch than in others."""
    return [
        replace(
            study,
            labels={name: label for i, (name, label) in enumerate(study.labels.items()) if (i * n) % 5 != 2},
            report={name: texts for i, (name, texts) in enumerate(study.report.items()) if (i + n) % 3},
        )
        for n, study in enumerate(studies)
    ]


def make_trainer(data: Path, out: Path, *, studies: int, **options: Any) -> Trainer:
    """A trainer of a float64 model on the first studies of a set."""
    found = read_studies(data)
    chosen = with_gaps(found.studies[:studies])
    tokenizer = ReportTokenizer.build(
        (text for study in chosen for texts in study.report.values() for text in texts), found.sections
    )
    config = TrainingConfig(data=str(data), out=str(out), **{"beta": 0.3, "eta": 0.7, "clip": 1.0} | options)
    torch.manual_seed(config.seed)
    preprocessing = Preprocessing(32, "RGB", (0.7,) * 3, (0.2,) * 3)
    model = create_model(
        "mdnet_tiny",
        label_space=found.label_space,
        sections=found.sections,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        **MODEL,
    ).double()
    dataset = StudyDataset(
        chosen,
        label_space=found.label_space,
        sections=found.sections,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        augmentation="mirror",
    )
    return Trainer(model, dataset, config, validate=lambda model: {})


def train(trainer: Trainer, out: Path) -> list[dict[str, float]]:
    """The losses of every step."""
    losses = []
    plain_step = trainer.step

    def step(batches, number):
        sums = plain_step(batches, number)
        losses.append({name: loss.item() for name, loss in sums.losses.items()})
        return sums

    trainer.step = step
    trainer.train(out, resume=False, on_epoch=lambda history: None)
    return losses


def main(data: Path, out: Path) -> None:
    for name, studies, batch, epochs, more in SCENARIOS:
        trainer = make_trainer(data, out / name, studies=studies, batch_size=batch, epochs=epochs, **more)
        processes = trainer.accelerator.num_processes
        if processes > 1:
            trainer = make_trainer(
                data, out / name, studies=studies, batch_size=batch // processes, epochs=epochs, **more
            )
        losses = train(trainer, out / name)
        if trainer.accelerator.is_main_process:
            (out / f"{name}.json").write_text(
                json.dumps({"processes": processes, "losses": losses, "rows": trainer.history})
            )
            weights = {key: tensor.contiguous() for key, tensor in trainer.bare.state_dict().items()}
            save_file(weights, out / f"{name}.safetensors")


SCENARIOS = [
    # 24 studies make a step of 16 and one of 8.
    ("plain", 24, 16, 10, {}),
    # 7 make a step of 2 + 2 and one of 2 + 1: the last study is of one process, and the other has none.
    ("accumulated", 7, 2, 2, {"accumulate": 2, "schedule": "phases"}),
]

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
