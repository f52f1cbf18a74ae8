"""What answers hang on: how often removing cells changes them, and how much has to go.

    mdnet data phantom --out runs/fresh500 --studies 500 --seed 20261120
    python benchmarks/counterfactuals.py --data runs/fresh500 --studies 100

Beside every set that was found stands a random set of the same size, removed in the same way.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from recording import record
from tqdm import tqdm

from mdnet.data.images import load_image
from mdnet.data.readers import read_studies
from mdnet.explain.counterfactual import Counterfactual, counterfactuals, remove_cells
from mdnet.inference.predictor import Predictor


def random_changes(
    predictor: Predictor, image: np.ndarray, found: Counterfactual, random: np.random.Generator
) -> bool | None:
    """Whether a random set as large as the one found changes the answer; None where none was found."""
    if found.in_image is None:
        return None
    cells = random.permutation(found.in_image.cells.ravel()).reshape(found.in_image.cells.shape)
    pixel_values = predictor.pixel_values([image])
    without = remove_cells(
        predictor.model, pixel_values, torch.from_numpy(cells[None]), filling=found.filling
    )
    with torch.inference_mode():
        logits = predictor.model(without).logits[found.aspect][0]
    classes = predictor.model.config.space[found.aspect].classes
    return classes[int(logits.argmax())] != found.answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.weights)
    space = predictor.model.config.space
    studies = read_studies(options.data).studies[: options.studies]
    random = np.random.default_rng(0)
    results: dict[tuple[str, str], list[tuple[Counterfactual, bool | None]]] = defaultdict(list)
    for study in tqdm(studies, disable=None):
        image = load_image(study.images[0])
        for aspect in space.aspects:
            if aspect.name not in study.labels:
                continue  # a tile of insufficient information has no grade to change
            found = counterfactuals(predictor, [image], aspect=aspect.name)[0]
            results[aspect.name, found.answer].append(
                (found, random_changes(predictor, image, found, random))
            )
    rows = []
    for aspect in space.aspects:
        for label in aspect.classes:
            members = results.get((aspect.name, label), [])
            if not members:
                continue
            in_image = [found.in_image.share for found, _ in members if found.in_image]
            in_sum = [found.in_sum.share for found, _ in members if found.in_sum]
            by_chance = [changed for _, changed in members if changed is not None]
            rows.append(
                {
                    "answer": f"{aspect.name}: {label}",
                    "studies": len(members),
                    "changed, in the image": len(in_image) / len(members),
                    "median share": float(np.median(in_image)) if in_image else None,
                    "random set of that size": float(np.mean(by_chance)) if by_chance else None,
                    "changed, in the sum": len(in_sum) / len(members),
                    "median share in the sum": float(np.median(in_sum)) if in_sum else None,
                }
            )
    record(
        "counterfactuals",
        rows,
        title=f"Counterfactuals: `{options.weights}`, {len(studies)} studies",
        reading="Share of answers that change when at most half the image goes, every change verified by "
        "running the model again; the share of the image that it takes; how often a random set of the same "
        "size does it.",
    )


if __name__ == "__main__":
    main()
