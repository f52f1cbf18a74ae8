"""How time and memory of training grow: with the batch and the sections, and not with the data set.

    python benchmarks/training_growth.py

A step of `mdnet_tiny`, as the trainer takes it, with batches of 8 to 64 studies and with 1 to 6 sections of
16 words. Its growth is the exponent b of a n^b, fitted to all sizes: 1 where it is linear, less where a part
does not depend on n. Then trainers on 200, 2,000 and 20,000 studies, whose images are a hundred files over
and over, with the loader, its cache and the watcher.

Every memory is that of a process of its own: the most that it held, less what it held before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import record
from training_speed import CLOCKS, Loops, gib_beyond, interleaved, make_model

from mdnet.data.cache import ImageCache
from mdnet.data.loading import StudyDataset
from mdnet.data.phantom import SECTIONS, make_phantom
from mdnet.data.readers import read_studies
from mdnet.data.study_list import StudyList
from mdnet.training.configuration import TrainingConfig
from mdnet.training.progress import Progress
from mdnet.training.trainer import Trainer
from mdnet.training.watching import Watcher

MODEL = "mdnet_tiny"
BATCHES, BATCH = (8, 16, 32, 64), 16
PARTS = (1, 2, 4, 6)
STUDIES = (200, 2_000, 20_000)
FILES, STEPS = 100, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of timing, after one that does not count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)  # of the processes that it starts
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        what, size = options.alone
        print(json.dumps(alone(what, int(size), options)))
        return
    steps(options)
    data_sets(options)


def steps(options: Namespace) -> None:
    """A step by its batch and by its sections."""
    rows: list[dict[str, Any]] = []
    exponents, details = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for what, sizes in (("batch", BATCHES), ("sections", PARTS)):
            loops = {str(size): step_of(what, size, Path(folder)) for size in sizes}
            sides = {name: each.epoch for name, each in loops.items()}
            seconds = interleaved(sides, rounds=options.rounds, clock=CLOCKS[options.clock])
            median = [statistics.median(times) for times in seconds.values()]
            mib = [in_a_process(what, size, options)["gib"] * 1024 for size in sizes]
            exponents[what] = exponent(sizes, median), exponent(sizes, mib)
            details[what] = seconds
            rows += [
                {
                    "what": what,
                    "n": n,
                    "ms a step": s * 1e3,
                    "ms / n": s * 1e3 / n,
                    "MiB": m,
                    "MiB / n": m / n,
                }
                for n, s, m in zip(sizes, median, mib, strict=True)
            ]
    grown = "; ".join(
        f"by {what}, time as n^{time:.2f} and memory as n^{memory:.2f}"
        for what, (time, memory) in exponents.items()
    )
    record(
        "training_growth",
        rows,
        title=f"Time and memory of a training step of `{MODEL}` by the size of the batch and by sections",
        reading=f"{options.threads} threads, {options.clock} time; {len(SECTIONS)} sections beside the "
        f"batches, a batch of {BATCH} beside the sections. They grow: {grown}. Asked for: not faster "
        "than linearly.",
        details={"seconds": details},
    )


def step_of(what: str, size: int, out: Path) -> Loops:
    """A trainer of one batch, of so many studies or with so many sections."""
    batch, sections = (size, SECTIONS) if what == "batch" else (BATCH, SECTIONS[:size])
    return Loops(MODEL, Namespace(precision="no", batch_size=batch), out, sections=sections)


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """B of a n^b, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def data_sets(options: Namespace) -> None:
    """Trainers on data sets of three sizes."""
    found = {studies: in_a_process("studies", studies, options) for studies in STUDIES}
    first = found[STUDIES[0]]
    record(
        "training_data_size",
        [
            {
                "studies": studies,
                "ms a step": each["seconds"] * 1e3,
                "of the least set's": each["seconds"] / first["seconds"],
                "MiB": each["gib"] * 1024,
                "of the least's": each["gib"] / first["gib"],
            }
            for studies, each in found.items()
        ],
        title=f"Time and memory of training `{MODEL}` by the size of the data set",
        reading=f"Batch {BATCH}, {options.threads} threads, {options.clock} time, median of {STEPS} steps "
        f"with loading; images are {FILES} files over and over. Memory is that beyond a process that has "
        "read the studies and made the model. Asked for: neither grows with the data set.",
    )


def in_a_process(what: str, size: int, options: Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--alone", what, str(size)]
    command += ["--threads", str(options.threads), "--clock", options.clock]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    record: dict[str, float] = json.loads(found.splitlines()[-1])
    return record


def alone(what: str, size: int, options: Namespace) -> dict[str, float]:
    """The memory of one size, and of a data set's size the seconds of a step."""
    with tempfile.TemporaryDirectory() as folder:
        if what == "studies":
            return on_studies(size, Path(folder), options)
        loops = step_of(what, size, Path(folder))
        return {"gib": gib_beyond(loops.epoch, loops.device)}


def on_studies(count: int, root: Path, options: Namespace) -> dict[str, float]:
    """The first steps of an epoch over so many studies."""
    os.environ["MDNET_CACHE"] = str(root / "cache")
    make_phantom(root / "set", FILES, seed=3, size=128, workers=1, progress=False)
    data = read_studies(root / "set")
    files = list(data.studies)
    studies = StudyList(replace(files[number % FILES], id=f"p{number}") for number in range(count))
    model = make_model(MODEL)
    dataset = StudyDataset(
        studies,
        label_space=data.label_space,
        sections=SECTIONS,
        tokenizer=model.tokenizer,
        preprocessing=model.preprocessing,
        cache=ImageCache(data.root, model.preprocessing, images=count),
    )
    config = TrainingConfig(data=".", out=str(root), batch_size=BATCH)
    clock = CLOCKS[options.clock]
    begun: list[float] = []

    def first_steps() -> None:
        trainer = Trainer(
            model, dataset, config, validate=lambda model: {}, watch=lambda step: Watcher(root, step=step)
        )
        trainer.sampler.steps = STEPS
        plain_step = trainer.step

        def step(batches: Any, number: int) -> Any:
            begun.append(clock())
            return plain_step(batches, number)

        trainer.step = step  # type: ignore[method-assign]
        with trainer.watching(), Progress(STEPS, enabled=False) as progress:
            trainer.epoch(progress)

    gib = gib_beyond(first_steps, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return {"seconds": statistics.median(later - earlier for earlier, later in pairwise(begun)), "gib": gib}


if __name__ == "__main__":
    main()
