"""Puts a run's weights into the package, with their card, measured on data drawn for the purpose.

python recipes/publish_weights.py --run runs/weights/mdnet_tiny --name mdnet_tiny/phantom \
        --fresh runs/weights/fresh --recipe "make weights"
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mdnet
from mdnet.data.readers import read_studies
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.files import write_text
from mdnet.inference.predictor import Predictor
from mdnet.models.weights import WeightsCard, sha256
from mdnet.training.configuration import TrainingConfig

CARD = """# {name}

{model}, {parameters:,} parameters, trained on {data}. Licence: {licence}. mdnet {version}.

- Recipe: `{recipe}`
- SHA-256 of the weights: `{sha256}`
- Input: {size} px, {mode}; sections and aspects: {aspects}
- Calibrated on {calibrated}

## Measured
On {studies} studies drawn with a seed used for nothing else ({fresh}):

| | |
|---|---|
{rows}

## Limits
Synthetic tissue only: it has never seen a real slide, and says nothing about one. A research tool, no
medical device.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True, help="model/data")
    parser.add_argument("--fresh", type=Path, required=True, help="data set to measure on; all of it")
    parser.add_argument("--recipe", required=True, help="the command that trained the run")
    arguments = parser.parse_args()

    predictor = Predictor.from_pretrained(arguments.run)
    config = TrainingConfig.load(arguments.run / "config.yaml")
    trained_on = read_studies(Path(config.data), format=config.format, options=config.reader_options())
    fresh = read_studies(arguments.fresh)
    metrics = evaluate_studies(predictor, fresh.studies, trained_on).metrics

    calibration = predictor.model.calibration
    folder = Path(mdnet.__file__).parent / "weights" / arguments.name
    shutil.rmtree(folder, ignore_errors=True)
    predictor.model.save_pretrained(folder)
    card = WeightsCard(
        name=arguments.name,
        model=config.model,
        data=f"{len(trained_on.split('train'))} studies of {trained_on.provenance}",
        recipe=arguments.recipe,
        metrics=headline(metrics),
        sha256=sha256(folder / "model.safetensors"),
        parameters=sum(p.numel() for p in predictor.model.parameters()),
        licence="Apache-2.0",
        version=mdnet.__version__,
    )
    write_text(folder / "weights.json", json.dumps(asdict(card), indent=2) + "\n")
    write_text(
        folder / "README.md",
        CARD.format(
            **asdict(card),
            size=predictor.model.config.image_size,
            mode=predictor.preprocessing.mode,
            aspects=", ".join(predictor.model.config.space.names),
            calibrated=calibration.fitted_on if calibration is not None else "nothing: no val split",
            studies=len(fresh.studies),
            fresh=fresh.provenance,
            rows="\n".join(f"| {name} | {value:.3f} |" for name, value in flat(card.metrics)),
        ),
    )
    for file in folder.iterdir():
        file.chmod(0o644)


def headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """The part of `metrics.json` that a card carries."""
    return {
        "aspects": {name: {"accuracy": aspect["accuracy"]} for name, aspect in metrics["aspects"].items()},
        "mean_aspect_accuracy": metrics["mean_aspect_accuracy"],
        "statements": {"true": metrics["statements"]["true"]},
        "text": {name: metrics["text"][name] for name in ("bleu_4", "rouge_l", "cider", "distinct_share")},
        "baselines": {
            "majority": {
                name: {"accuracy": b["accuracy"]} for name, b in metrics["baselines"]["majority"].items()
            },
            "constant_report": {
                name: metrics["baselines"]["constant_report"][name] for name in ("bleu_4", "rouge_l", "cider")
            },
        },
        "grounding": {
            aspect: {
                kind: {
                    label: {key: v[key] for key in ("pointing", "energy", "chance")}
                    for label, v in classes.items()
                }
                if isinstance(classes, dict)
                else classes
                for kind, classes in kinds.items()
            }
            for aspect, kinds in metrics["grounding"].items()
        },
    }


def flat(metrics: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Dotted names and numbers."""
    rows: list[tuple[str, float]] = []
    for name, value in metrics.items():
        rows += flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows


if __name__ == "__main__":
    main()
