"""Label randomisation: maps of a model beside those of one trained on shuffled labels.

    python benchmarks/label_randomisation.py

Two trainings of the same recipe and seed on the same images; for the second, labels and reports of the
training studies are dealt out at random. A map that shows what was learned has to differ (Adebayo et al.,
"Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from recording import record

from mdnet.data.phantom import make_phantom
from mdnet.data.readers import read_studies
from mdnet.evaluation.run import evaluate_run
from mdnet.explain.faithfulness.randomisation import rank_correlation
from mdnet.explain.registry import explain
from mdnet.explain.targets import ClassTarget
from mdnet.inference.predictor import Predictor
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import train_run

METHODS = ("evidence", "cam", "grad_cam", "saliency", "integrated_gradients", "occlusion")
TARGET = ClassTarget("mitosis", "frequent", "absent")


def shuffle_labels(data: Path, seed: int) -> None:
    """Deals the training studies' labels and reports out at random, in `studies.jsonl`."""
    file = data / "studies.jsonl"
    studies = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    train = [study for study in studies if study["split"] == "train"]
    dealt = [{key: study[key] for key in ("labels", "report")} for study in train]
    random.Random(seed).shuffle(dealt)
    for study, part in zip(train, dealt, strict=True):
        study.update(part)
    file.write_text("".join(json.dumps(study) + "\n" for study in studies), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--maps", type=int, default=100)
    options = parser.parse_args()
    runs, accuracy = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("true", "shuffled"):
            data = make_phantom(Path(folder) / name, options.studies, seed=31)
            if name == "shuffled":
                shuffle_labels(data, options.seed)
            config = TrainingConfig(
                data=str(data),
                out=str(Path(folder) / f"run_{name}"),
                augmentation="mirror",
                epochs=options.epochs,
                seed=options.seed,
            )
            runs[name] = Predictor.from_pretrained(train_run(config))
            metrics = evaluate_run(Path(config.out)).metrics
            accuracy[name] = metrics["aspects"]["mitosis"]["accuracy"]
        test = read_studies(Path(folder) / "true").split("test")
        found = [study for study in test if study.labels.get("mitosis") == "frequent"][: options.maps]
        images = [study.images[0] for study in found]
        rows = []
        for method in METHODS:
            first, second = (
                torch.from_numpy(
                    np.stack([each.map for each in explain(run, images, method=method, target=TARGET)])
                )
                for run in runs.values()
            )
            correlations = rank_correlation(first, second)
            rows.append({"method": method, "rank correlation": float(correlations.mean())})
    record(
        "label_randomisation",
        rows,
        title="Label randomisation: a model against one trained on shuffled labels",
        reading=f"{TARGET}, {len(found)} frequent test tiles, {options.studies} studies, {options.epochs} "
        f"epochs; mitosis accuracy {accuracy['true']:.2f} with true labels, {accuracy['shuffled']:.2f} with "
        "shuffled ones. 0 is as it must be.",
        peers=("captum",),
        details={"accuracy": accuracy},
    )


if __name__ == "__main__":
    main()
