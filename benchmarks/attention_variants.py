"""The three attentions under one budget: what they write, and whether they look at what they write of.

    .venv/bin/python benchmarks/attention_variants.py [--studies 2500] [--epochs 8] [--seeds 1]

Prints a Markdown table and JSON. Takes about five minutes a variant on two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from mdnet.data.phantom import make_phantom
from mdnet.models.configuration import ATTENTION_NAMES
from mdnet.training.configuration import TrainingConfig
from mdnet.training.evaluate_run import evaluate_run
from mdnet.training.run import train_run, versions

COLUMNS = (
    "conclusion",
    "sections true",
    "frequent: attention",
    "rare: attention",
    "frequent: evidence",
    "rare: evidence",
)


def measure(attention: str, data: Path, out: Path, *, epochs: int, seed: int) -> dict[str, float]:
    """One run's numbers, on the test split."""
    config = TrainingConfig(
        data=str(data),
        out=str(out),
        model_options={"attention": attention},
        augmentation="mirror",
        epochs=epochs,
        seed=seed,
    )
    metrics = evaluate_run(train_run(config)).metrics
    mitosis = metrics["grounding"]["mitosis"]
    return {
        "conclusion": metrics["diagnosis"]["accuracy"],
        "sections true": metrics["statements"]["true"],
        **{
            f"{label}: {kind}": mitosis[kind][label]["pointing"]
            for kind in ("attention", "evidence")
            for label in ("frequent", "rare")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = make_phantom(Path(folder) / "data", arguments.studies, seed=31)
        for attention in ATTENTION_NAMES:
            results[attention] = [
                measure(
                    attention, data, Path(folder) / f"{attention}{seed}", epochs=arguments.epochs, seed=seed
                )
                for seed in range(arguments.seeds)
            ]
    print("| attention | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for attention, runs in results.items():
        means = (sum(run[column] for run in runs) / len(runs) for column in COLUMNS)
        print(f"| `{attention}` | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    print(json.dumps({"options": vars(arguments), "results": results, **versions()}))


if __name__ == "__main__":
    main()
