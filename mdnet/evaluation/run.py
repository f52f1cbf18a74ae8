"""Evaluates a run folder and writes what it found beside the model; or a file of another system's answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from mdnet.data.check import label_space_difference
from mdnet.data.readers import ReaderOptions, read_studies
from mdnet.data.statistics import data_hash
from mdnet.data.study import StudySet
from mdnet.errors import ConfigurationError, DataError
from mdnet.evaluation.evaluate import Evaluation, evaluate_studies
from mdnet.evaluation.predictions import evaluate_predictions
from mdnet.evaluation.scores import abstention, temperature_scaling
from mdnet.evaluation.unfamiliar import unfamiliar_images, unfamiliarity
from mdnet.files import read_yaml, write_text
from mdnet.inference.calibration import studies_in_words
from mdnet.inference.predictor import Predictor
from mdnet.provenance import versions
from mdnet.report.run_page import write_run_page

__all__ = ["evaluate_file", "evaluate_run"]

_SHOWN = 8
_SEEN = {
    "train": "The model was trained on the train split: these numbers say nothing of other studies.",
    "val": "The val split chose the epoch and set the temperatures: these numbers flatter the model.",
}


def evaluate_run(
    run: Path,
    *,
    split: str = "test",
    data: Path | None = None,
    format: str | None = None,
    options: ReaderOptions | None = None,
    abstain_below: float | None = None,
    ood: Path | None = None,
) -> Evaluation:
    """Scores a run's best weights on a split and writes `metrics.json`, `predictions.jsonl`, `index.html`.

    Args:
        run: The run folder.
        split: Split to score on.
        data: A data set other than the run's own.
        format: Its reader.
        options: What its reader is told; the run's own data are read as in training.
        abstain_below: Also coverage and accuracy where only answers of at least this probability are given.
        ood: Also how well images of another kind, in this folder, are told from the split's.

    Raises:
        ConfigurationError: It is no run folder, or an option is out of range.
        DataError: The data cannot be used, or its label space is not the model's.
        WeightsError: The weights cannot be loaded, or `ood` is asked of weights without calibration.
    """
    if not (run / "config.yaml").is_file():
        raise ConfigurationError(f"{run}: no config.yaml; name a run folder, as train.py --out makes it")
    config = read_yaml(run / "config.yaml")
    if missing := {"data", "model", "seed"} - set(config):
        raise ConfigurationError(f"{run / 'config.yaml'}: lacks {', '.join(sorted(missing))}; train anew")
    predictor = Predictor.from_pretrained(run)
    if data is None:
        format = format or config.get("format")
        options = ReaderOptions(config.get("columns", {}), config.get("uncertain", "missing"))
    studies = read_studies(data or Path(config["data"]), format=format, options=options)
    space = predictor.model.config.space
    # A model that was trained without a label has no aspect, whatever dataset.json declares.
    differences = label_space_difference(studies.label_space, space) if space.aspects else []
    if differences:
        raise DataError(
            studies.root, f"labels differ from the model's: {'; '.join(differences)}", "mend dataset.json"
        )
    unfamiliar = None if ood is None else unfamiliar_images(predictor, ood)
    result = evaluate_studies(predictor, studies.split(split), studies, show=_SHOWN)
    metrics = result.metrics
    if predictor.model.calibration is not None and space.diagnosis is not None:
        temperature = predictor.model.calibration.temperatures[space.diagnosis]
        if scaling := temperature_scaling(space[space.diagnosis], result.records, temperature):
            fitted_on = predictor.model.calibration.fitted_on
            metrics["temperature_scaling"] = scaling | {"fitted_on": fitted_on}
    if abstain_below is not None:
        metrics["abstention"] = abstention(result.records, space, abstain_below)
    if unfamiliar is not None:
        metrics["out_of_distribution"] = unfamiliarity(predictor, result.records, unfamiliar)
    metrics["verdict"][:0] = seen_before(predictor, studies, split, trained_on=Path(config["data"]))
    metrics["verdict"] += failed_checks(run)
    provenance = {
        "run": str(run),
        "split": split,
        "data": str(studies.root),
        "data_hash": data_hash(studies),
        "seed": config["seed"],
        "configuration": config,
        **versions(),
    }
    metrics["provenance"] = provenance
    write_text(run / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    lines = (json.dumps(record, ensure_ascii=False) for record in result.predictions)
    write_text(run / "predictions.jsonl", "".join(f"{line}\n" for line in lines))
    write_run_page(
        run / "index.html",
        title=f"{config['model']}: {split} split of {studies.root}",
        metrics=metrics,
        shown=result.shown,
        history=read_history(run / "history.csv"),
        provenance={"model": config["model"]}
        | {key: value for key, value in provenance.items() if key != "configuration"},
    )
    return result


def seen_before(predictor: Predictor, data: StudySet, split: str, *, trained_on: Path) -> list[str]:
    """Says where the studies that are scored have shaped what is scored."""
    folder = trained_on.parent if trained_on.is_file() else trained_on
    if split in _SEEN and data.root.resolve() == folder.resolve():
        return [_SEEN[split]]
    calibration = predictor.model.calibration
    if calibration is not None and calibration.fitted_on == studies_in_words(data, split):
        return ["The temperatures were fitted on these very studies: their probabilities look too good."]
    return []


def failed_checks(run: Path) -> list[str]:
    """What the training run found wrong with its own model (`checks.json`)."""
    file = run / "checks.json"
    if not file.is_file():
        return []
    checks = json.loads(file.read_text(encoding="utf-8"))
    if checks.get("attention_used", {}).get("passed", True):
        return []
    return [
        "The attention is not used: on val the true reports are no less likely with uniform attention or "
        "with another image's, so the attention maps of this model say nothing about its text."
    ]


def evaluate_file(
    file: Path,
    data: Path,
    *,
    split: str = "test",
    format: str | None = None,
    options: ReaderOptions | None = None,
    abstain_below: float | None = None,
    out: Path | None = None,
) -> Evaluation:
    """Scores a file of another system's answers on a split.

    Args:
        file: As `mdnet.evaluation.predictions` describes it.
        data: The data set that they are of.
        split: Split to score on.
        format: The data's reader.
        options: What its reader is told.
        abstain_below: As in `evaluate_run`.
        out: Folder for `metrics.json` and `index.html`; without it nothing is written.

    Raises:
        DataError: The file or the data cannot be used.
    """
    studies = read_studies(data, format=format, options=options)
    show = 0 if out is None else _SHOWN
    result = evaluate_predictions(file, studies.split(split), studies, show=show)
    if abstain_below is not None:
        result.metrics["abstention"] = abstention(result.records, studies.label_space, abstain_below)
    provenance = {
        "predictions": str(file),
        "split": split,
        "data": str(studies.root),
        "data_hash": data_hash(studies),
        **versions(),
    }
    result.metrics["provenance"] = provenance
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "metrics.json", json.dumps(result.metrics, indent=2) + "\n")
        write_run_page(
            out / "index.html",
            title=f"{file.name}: {split} split of {studies.root}",
            metrics=result.metrics,
            shown=result.shown,
            history=(),
            provenance=provenance,
        )
    return result


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of `history.csv`; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
