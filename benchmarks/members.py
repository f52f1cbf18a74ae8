"""Every member of the zoo on one synthetic split, three seeds: diagnosis, text, pointing, size and speed.

    python benchmarks/members.py                            # all members, as the table in docs/results.md
    python benchmarks/members.py --members mdnet_tiny topic_mdnet --seeds 1
    python benchmarks/members.py --as-is                    # of the runs that are there, and no others

All are trained by `train.py` with one recipe (studies, epochs, augmentation, optimizer); a run that is there
already, in --runs, is not made again. The recipe is short, for CPUs: it ranks what a member learns quickly,
not what it could become. Members made for 224 px are trained at 64 px (--small-size), so that all fit a
few hours of one core; their images a second are of the size they were trained at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from recording import record

from mdnet.data.images import load_image
from mdnet.data.phantom import make_phantom
from mdnet.data.readers import read_studies
from mdnet.files import read_yaml
from mdnet.inference.predictor import Predictor
from mdnet.models.registry import get_architecture, list_models

STUDIES, SEED = 2400, 31
LARGE = 128  # px; members made for more are trained at --small-size
MEASURED = 32  # images of a speed measurement
ROOT = Path(__file__).parents[1]

COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "conclusion": lambda m: m["diagnosis"]["accuracy"],
    "mean of aspects": lambda m: m["mean_aspect_accuracy"],
    "sections true": lambda m: m["statements"]["true"],
    "BLEU-4": lambda m: m["text"]["bleu_4"],
    "CIDEr": lambda m: m["text"]["cider"],
    "evidence: frequent": lambda m: m["grounding"]["mitosis"]["evidence"]["frequent"]["pointing"],
    "attention: frequent": lambda m: m["grounding"]["mitosis"]["attention"]["frequent"]["pointing"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", nargs="*", help="names of `mdnet models`; all unless named")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--small-size", type=int, default=64)
    parser.add_argument("--runs", type=Path, default=Path("runs/members"))
    parser.add_argument("--as-is", action="store_true", help="train nothing: the table of what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = options.runs / "data"
    if not (data / "studies.jsonl").is_file():
        make_phantom(data, STUDIES, seed=SEED)
    members = options.members or list_models("*")
    if not options.as_is:
        for name in members:
            for seed in range(options.seeds):
                train(name, data, run_of(options.runs, name, seed), seed=seed, options=options)
    runs = {name: finished(name, options) for name in members}
    runs = {name: found for name, found in runs.items() if found}
    speeds = images_per_second({name: found[0] for name, found in runs.items()}, data)
    rows = [row(name, found, options, speeds[name]) for name, found in runs.items()]
    record(
        "members",
        rows,
        title=f"The zoo on one synthetic split: {STUDIES} studies, {options.epochs} epochs",
        reading="Mean and, behind it, half the range over several seeds, on the 240 studies of the test "
        "split. Pointing: share of `frequent` tiles in which the map's peak lies on a mitotic figure. Images "
        "a second: diagnosis, maps and report, one thread, batch 16.",
    )


def run_of(runs: Path, name: str, seed: int) -> Path:
    return runs / "runs" / name / f"seed-{seed}"


def finished(name: str, options: argparse.Namespace) -> list[Path]:
    """The runs of a member that were evaluated."""
    runs = [run_of(options.runs, name, seed) for seed in range(options.seeds)]
    return [run for run in runs if (run / "metrics.json").is_file()]


def size_of(name: str, small: int) -> int:
    """Image size at which a member is trained."""
    own = int(get_architecture(name).options["image_size"])
    return small if own > LARGE else own


def train(name: str, data: Path, out: Path, *, seed: int, options: argparse.Namespace) -> None:
    """Trains and evaluates a member, as a user would, unless that was done."""
    if (out / "metrics.json").is_file():
        return
    command = [sys.executable, str(ROOT / "train.py"), "--data", str(data), "--model", name]
    command += ["--seed", str(seed), "--epochs", str(options.epochs), "--augmentation", "mirror"]
    command += ["--out", str(out), "--resume", "auto"]
    command += ["--set", f"model_options.image_size={size_of(name, options.small_size)}"]
    subprocess.run(command, check=True)
    evaluate = [sys.executable, str(ROOT / "evaluate.py"), "--run", str(out), "--split", "test"]
    subprocess.run(evaluate, check=True, stdout=subprocess.DEVNULL)


def images_per_second(runs: dict[str, Path], data: Path) -> dict[str, float]:
    """Images a second from a decoded image to a finding, the members in turn; medians of three rounds."""
    images = [load_image(study.images[0]) for study in read_studies(data).split("test")[:MEASURED]]
    predictors = {
        name: Predictor.from_pretrained(run, device="cpu", batch_size=16) for name, run in runs.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(3):
        for name, predictor in predictors.items():
            begun = time.process_time()
            predictor(images)
            seconds[name].append(time.process_time() - begun)
    return {name: len(images) / statistics.median(each) for name, each in seconds.items()}


def row(name: str, runs: Sequence[Path], options: argparse.Namespace, speed: float) -> dict[str, Any]:
    """A member's line of the table."""
    for run in runs:
        config = read_yaml(run / "config.yaml")
        if (config["epochs"], config["augmentation"]) != (options.epochs, "mirror"):
            raise SystemExit(f"{run}: trained with another recipe; remove it, or name another --runs")
    metrics = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    model = Predictor.from_pretrained(runs[0]).model
    return {
        "member": f"`{name}`",
        "pixels": size_of(name, options.small_size),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seeds": len(runs),
        **{column: said(take, metrics) for column, take in COLUMNS.items()},
        "images/s": round(speed, 1),
    }


def said(take: Callable[[dict[str, Any]], float], metrics: Sequence[dict[str, Any]]) -> str:
    """Mean and half the range; nothing where a member does not write."""
    try:
        values = [take(each) for each in metrics]
    except KeyError:
        return ""
    spread = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
