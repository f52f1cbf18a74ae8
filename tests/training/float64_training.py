"""Trains a small model in float64 and writes every step's losses and the last weights.

`python float64_training.py DATA OUT` in one process, `accelerate launch ...` in several: the studies of a
step are the same, for the batch size is divided by the number of processes. With ONE, the OUT of another
call, it also goes on from the checkpoint before the last of that call, and of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mdnet.data.loading import StudyDataset
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.readers import read_studies
from mdnet.data.study import Study
from mdnet.data.text import ReportTokenizer
from mdnet.models.heads import Heads
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model
from mdnet.training.checkpoint import list_checkpoints
from mdnet.training.configuration import TrainingConfig
from mdnet.training.distributed import make_accelerator
from mdnet.training.sharding import is_sharded, own_part
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


class CentringHeads(Heads):
    """After every epoch, the logits of the conclusion are those of the mean training image."""

    def end_epoch(self, studies: Iterable[tuple[ImageFeatures, dict[str, Tensor]]]) -> None:
        mean = torch.cat([features.pooled() for features, _ in studies]).mean(dim=0)
        self["conclusion"].bias.copy_(-self["conclusion"].weight @ mean)


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


def make_trainer(
    data: Path, out: Path, *, studies: int, heads: type[Heads] = Heads, **options: Any
) -> Trainer:
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
    model.heads.__class__ = heads
    dataset = StudyDataset(
        chosen,
        label_space=found.label_space,
        sections=found.sections,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        augmentation="mirror",
    )
    return Trainer(model, dataset, config, validate=validate)


def validate(model: MDNet) -> dict[str, float]:
    """A number that changes with the weights that are looked at."""
    weights = torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])
    return {"val_weights": weights.square().mean().sqrt().item()}


def launch(flags: list[str], *arguments: Path) -> subprocess.Popen[str]:
    """This script in two processes on the CPU."""
    # `--cpu --num_processes 2` starts one process; others start two, which are told to use CPUs.
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags, "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", __file__, *map(str, arguments)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def train(trainer: Trainer, out: Path, *, resume: bool = False) -> list[dict[str, float]]:
    """The losses of every step."""
    losses = []
    plain_step = trainer.step

    def step(batches, number):
        sums = plain_step(batches, number)
        losses.append({name: loss.item() for name, loss in sums.losses.items()})
        return sums

    trainer.step = step
    trainer.train(out, resume=resume, on_epoch=lambda history, model: None)
    return losses


def held(trainer: Trainer) -> float:
    """Share of the weights and of AdamW's moments that this process holds."""
    tensors = list(trainer.bare.parameters())
    for state in trainer.optimizer.state.values():
        tensors += [state["exp_avg"], state["exp_avg_sq"]]
    return sum(own_part(tensor).numel() for tensor in tensors) / sum(tensor.numel() for tensor in tensors)


def run(data: Path, out: Path, scenario: str, *, start: Path | None = None) -> None:
    """Trains by a scenario into `out`, and writes `out.json` and `out.safetensors`; goes on from `start`."""
    studies, batch, epochs, more = (SCENARIOS | UNSHARDED)[scenario]
    accelerator = make_accelerator(TrainingConfig(data=str(data), out=str(out)))
    processes = accelerator.num_processes
    batch //= processes
    trainer = make_trainer(data, out, studies=studies, batch_size=batch, epochs=epochs, **more)
    if start is not None and accelerator.is_main_process:
        shutil.copytree(start, out / start.name)
    accelerator.wait_for_everyone()
    losses = train(trainer, out, resume=start is not None)
    record = {"processes": processes, "losses": losses, "rows": trainer.history, "held": held(trainer)}
    with trainer.looked_at() as model:
        if model is not None:
            out.with_suffix(".json").write_text(json.dumps(record))
            weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
            save_file(weights, out.with_suffix(".safetensors"))


def main(data: Path, out: Path, one: Path | None = None) -> None:
    sharded = is_sharded(make_accelerator(TrainingConfig(data=str(data), out=str(out))))
    for name in SCENARIOS if sharded else SCENARIOS | UNSHARDED:
        run(data, out / name, name)
        if one is not None and name in RESUMED:
            run(data, out / f"{name}-again", name, start=list_checkpoints(out / name)[-2])
            run(data, out / f"{name}-from-one", name, start=list_checkpoints(one / name)[-2])


SCENARIOS: dict[str, tuple[int, int, int, dict[str, Any]]] = {  # studies, batch size, epochs
    # 24 studies make a step of 16 and one of 8.
    "plain": (24, 16, 10, {}),
    # 7 make a step of 2 + 2 and one of 2 + 1: the last study is of one process, and the other has none.
    "accumulated": (7, 2, 2, {"accumulate": 2, "schedule": "phases"}),
    # Of the image module nothing has a gradient, and what is validated is not what is trained.
    "averaged": (16, 16, 3, {"ema": 0.5, "freeze": ["image"]}),
}
UNSHARDED: dict[str, tuple[int, int, int, dict[str, Any]]] = {"set": (24, 16, 2, {"heads": CentringHeads})}
RESUMED = ("accumulated", "averaged")

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:]))
