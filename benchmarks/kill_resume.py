"""A training run killed at random moments against one left alone: are the weights the same bits?

    python benchmarks/kill_resume.py --kills 20

Every attempt is a process that goes on from the run folder. It is killed after it has written none to
three checkpoints: every other one at any time in the next half second, the others within the few milliseconds
in which they write the next checkpoint. The last attempt finishes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from recording import record
from safetensors.torch import load_file

from mdnet.data.phantom import make_phantom
from mdnet.training.checkpoint import list_checkpoints
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import train_run

NETWORK = {"image_size": 32, "widths": [6, 8], "depths": [1, 2], "strides": [1, 2], "dropout": 0.2}
COMPARED = (
    "model/model",
    *(f"newest/{name}" for name in ("model", "optimizer", "average", "sums", "random-0")),
)
THIRD_PARTY = {"python"}  # Python's generator: `rich` draws from it once a process, training never


def train(options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    train_run(TrainingConfig(**options), resume=True)


def moment(run: Path) -> str:
    """What a killed run was doing, by what it left."""
    if list(run.glob("checkpoint-*.partial")):
        return "writing a checkpoint"
    if (run / "model.partial").exists() or (run / "model.previous").exists():
        return "writing the model"
    return "training or validating" if list_checkpoints(run) else "before the first checkpoint"


def step_of(run: Path) -> int:
    """Step of the newest checkpoint; 0 where there is none."""
    found = list_checkpoints(run)
    return int(found[-1].name.rpartition("-")[2]) if found else 0


def different(first: Path, second: Path) -> list[str]:
    """Tensors that differ in any bit between two runs, file by file."""
    found = []
    for name in COMPARED:
        folders = [
            list_checkpoints(run)[-1] if name.startswith("newest/") else run / "model"
            for run in (first, second)
        ]
        ours, theirs = (load_file(folder / f"{name.partition('/')[2]}.safetensors") for folder in folders)
        names = ours.keys() | theirs.keys()
        found += [
            f"{name}: {key}"
            for key in sorted(names - THIRD_PARTY)
            if key not in ours or key not in theirs or not torch.equal(ours[key], theirs[key])
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    processes = multiprocessing.get_context("forkserver")  # the imports are made once
    processes.set_forkserver_preload(["mdnet.training.run"])

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = make_phantom(scratch / "data", 60, seed=5, size=64, workers=1, progress=False)
        configuration: dict[str, Any] = {
            "data": str(data),
            "epochs": 12,
            "batch_size": 4,
            "accumulate": 2,
            "checkpoint_steps": 1,
            "ema": 0.9,
            "scheduled_sampling": (0.0, 0.5),
            "augmentation": "tissue",
            "model_options": NETWORK,
        }
        whole = processes.Process(target=train, args=(configuration | {"out": str(scratch / "whole")},))
        whole.start()
        whole.join()
        run, moments, reached = scratch / "killed", Counter[str](), list[int]()
        while len(reached) < options.kills:
            process = processes.Process(target=train, args=(configuration | {"out": str(run)},))
            process.start()
            wanted = step_of(run) + generator.randrange(4)
            while process.is_alive() and step_of(run) < wanted:
                time.sleep(0.001)
            if len(reached) % 2:
                process.join(generator.uniform(0.0, 0.5))
            else:
                while process.is_alive() and not list(run.glob("checkpoint-*.partial")):
                    pass
                time.sleep(generator.uniform(0.0, 0.004))
            assert process.is_alive(), "it ended before it was killed often enough"
            process.kill()
            process.join()
            moments[moment(run)] += 1
            reached.append(step_of(run))
        last = processes.Process(target=train, args=(configuration | {"out": str(run)},))
        last.start()
        last.join()
        differing, steps = different(scratch / "whole", run), step_of(run)
    rows = [{"killed while": name, "SIGKILLs": count} for name, count in sorted(moments.items())]
    rows.append({"killed while": "all", "SIGKILLs": len(reached)})
    record(
        "kill_resume",
        rows,
        title="A training run killed again and again",
        reading=(
            f"{len(reached)} SIGKILLs at random moments of a run of {steps} steps, --resume auto after each; "
            f"afterwards {len(differing)} tensors of model, optimizer, average, sums and random state "
            "differ from those of the undisturbed run in any bit (asked for: 20 kills, 0 tensors)."
        ),
        details={"differing": differing, "step of the newest checkpoint at each kill": reached},
    )


if __name__ == "__main__":
    main()
