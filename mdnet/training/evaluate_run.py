"""Evaluates a run folder and writes what it found beside the model."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

from mdnet.data.check import label_space_difference
from mdnet.data.readers import read_studies
from mdnet.data.statistics import data_hash
from mdnet.errors import ConfigurationError, DataError
from mdnet.files import write_text
from mdnet.inference.evaluation import Evaluation, Shown, evaluate_studies
from mdnet.inference.predictor import Predictor
from mdnet.report.digest import digest
from mdnet.report.run_page import write_run_page
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import versions

__all__ = ["evaluate_run"]

_log = logging.getLogger(__name__)

_SHOWN = 8


def evaluate_run(
    run: Path, *, split: str = "test", data: Path | None = None, format: str | None = None
) -> Evaluation:
    """Scores a run's best weights on a split and writes `metrics.json`, `predictions.jsonl`, `index.html`.

    Args:
        run: The run folder.
        split: Split to score on.
        data: A data set other than the run's own.
        format: Its reader.

    Raises:
        ConfigurationError: It is no run folder.
        DataError: The data cannot be used, or its label space is not the model's.
    """
    if not (run / "config.yaml").is_file():
        raise ConfigurationError(f"{run}: no config.yaml; name a run folder, as train.py --out makes it")
    config = TrainingConfig.load(run / "config.yaml")
    predictor = Predictor.from_pretrained(run)
    studies = read_studies(
        data or Path(config.data), format=format or (config.format if data is None else None)
    )
    differences = label_space_difference(studies.label_space, predictor.model.config.space)
    if differences:
        raise DataError(
            studies.root, f"labels differ from the model's: {'; '.join(differences)}", "mend dataset.json"
        )
    result = evaluate_studies(predictor, studies.split(split), studies, show=_SHOWN)
    provenance = {
        "run": str(run),
        "split": split,
        "data": str(studies.root),
        "data_hash": data_hash(studies),
        "seed": config.seed,
        "configuration": config.to_dict(),
        **versions(),
    }
    result.metrics["provenance"] = provenance
    write_text(run / "metrics.json", json.dumps(result.metrics, indent=2) + "\n")
    lines = (json.dumps(record, ensure_ascii=False) for record in result.predictions)
    write_text(run / "predictions.jsonl", "".join(f"{line}\n" for line in lines))
    write_run_page(
        run / "index.html",
        title=f"{config.model}: {split} split of {studies.root}",
        metrics=digest(result.metrics),
        findings=[shown.finding for shown in result.shown],
        truths=[truth_of(shown) for shown in result.shown],
        history=read_history(run / "history.csv"),
        provenance={"model": config.model}
        | {key: value for key, value in provenance.items() if key != "configuration"},
    )
    return result


def truth_of(shown: Shown) -> dict[str, Any]:
    """What the page sets beside a finding."""
    study = shown.study
    return {"id": study.id, "labels": dict(study.labels), "references": study.references()}


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of `history.csv`; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
