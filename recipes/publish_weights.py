"""Puts a run's weights into the package, with their card, measured on studies that had no part in the run.

python recipes/publish_weights.py --run runs/weights/mdnet_tiny --name mdnet_tiny/phantom \
        --fresh runs/weights/fresh --recipe "make weights"
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import mdnet
from mdnet.data.readers import read_studies
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.evaluation.published import headline
from mdnet.inference.predictor import Predictor
from mdnet.models.weights_card import make_card, write_card
from mdnet.training.configuration import TrainingConfig

LIMITS = {
    "phantom": "Synthetic tissue only: it has never seen a real slide, and says nothing about one.",
    "cifar10": (
        "Ten kinds of object in images of 32 pixels, and nothing else; it has no class for what is none of "
        "them. It was trained and measured on JPEG copies of CIFAR-10 that lost detail (about 30 dB against "
        "the originals), so its error is not strictly comparable with published ones."
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True, help=f"model/data, data one of {', '.join(LIMITS)}")
    parser.add_argument("--fresh", type=Path, required=True, help="data set to measure on")
    parser.add_argument("--split", help="the split of it to measure on; all of it unless given")
    parser.add_argument("--recipe", required=True, help="the command that trained the run")
    parser.add_argument(
        "--into",
        type=Path,
        default=Path(mdnet.__file__).parent / "weights",
        help="the package's unless given",
    )
    arguments = parser.parse_args()
    dataset = arguments.name.partition("/")[2]
    if dataset not in LIMITS:
        parser.error(f"--name {arguments.name}: the data are none of {', '.join(LIMITS)}")

    predictor = Predictor.from_pretrained(arguments.run)
    config = TrainingConfig.load(arguments.run / "config.yaml")
    trained_on = read_studies(Path(config.data), format=config.format, options=config.reader_options())
    fresh = read_studies(arguments.fresh)
    studies = fresh.studies if arguments.split is None else fresh.split(arguments.split)
    if not studies:
        parser.error(f"--fresh {arguments.fresh}: no study in split {arguments.split}")
    metrics = evaluate_studies(predictor, studies, trained_on).metrics
    which = (
        "drawn with a seed used for nothing else"
        if arguments.split is None
        else f"of split {arguments.split}"
    )

    folder = arguments.into / arguments.name
    shutil.rmtree(folder, ignore_errors=True)
    predictor.model.save_pretrained(folder)
    card = make_card(
        predictor.model,
        folder,
        name=arguments.name,
        licence="Apache-2.0",
        data=f"{len(trained_on.split('train'))} studies of {trained_on.provenance}",
        dataset=dataset,
        recipe=arguments.recipe,
        metrics=headline(metrics),
        measured_on=f"{len(studies)} studies {which}: {fresh.provenance}",
        limits=LIMITS[dataset],
    )
    write_card(folder, replace(card, model=config.model))
    for file in folder.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()
