"""A training run from a data set to a run folder.

The folder holds `config.yaml`, `model/` (what `from_pretrained` loads: the best epoch's weights,
calibrated on the val split), `checkpoint/` (what `--resume` goes on from), `history.csv`,
`checks.json` (`mdnet.training.checks`), and, from the final evaluation, `metrics.json`,
`predictions.jsonl` and `index.html`.
"""

from __future__ import annotations

import csv
import logging
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml

from mdnet.data.images import load_image
from mdnet.data.loading import StudyDataset
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.readers import read_studies
from mdnet.data.statistics import data_hash
from mdnet.data.study import LabelSpace, Study, StudySet
from mdnet.data.text import ReportTokenizer
from mdnet.errors import ConfigurationError, DataError
from mdnet.evaluation.evaluate import evaluate_studies
from mdnet.files import read_yaml
from mdnet.inference.calibration import calibrate_folder
from mdnet.inference.predictor import Predictor
from mdnet.models.configuration import MDNetConfig
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model, get_architecture
from mdnet.provenance import versions
from mdnet.training.checkpoint import replace_folder
from mdnet.training.checks import check_run
from mdnet.training.configuration import TrainingConfig
from mdnet.training.trainer import Row, Trainer

__all__ = ["train_run"]

_log = logging.getLogger(__name__)

_MEASURED = 512  # training images that mean and deviation are measured on
_VALIDATED = 200  # studies looked at after every epoch


def train_run(config: TrainingConfig, *, resume: bool = False) -> Path:
    """Trains as `config` says and writes the run folder.

    Args:
        config: The run.
        resume: Go on from the run folder's checkpoint if there is one.

    Returns:
        The run folder.

    Raises:
        ConfigurationError: The run folder holds another run, or an option is wrong.
        DataError: The data set cannot be used.
    """
    out = Path(config.out)
    saved = out / "config.yaml"
    if saved.exists() and not resume:
        raise ConfigurationError(f"{out}: holds a run; add --resume auto to go on, or name another --out")
    if saved.exists():
        _check_same(config, TrainingConfig.load(saved), saved)

    seed_everything(config.seed)
    data = read_studies(Path(config.data), format=config.format)
    train, validation = data.split("train"), [s for s in data.studies if s.split == "val"][:_VALIDATED]
    digest = data_hash(data)
    environment = out / "environment.yaml"
    if environment.exists() and read_yaml(environment).get("data_hash") != digest:
        raise ConfigurationError(f"{data.root}: changed since the run in {out} began; name another --out")
    model = _model_of_run(config, data, train, out, resume=saved.exists())
    _say_images(data, model.views)
    model.calibration = None  # of a run gone on with: it was fitted to earlier weights
    out.mkdir(parents=True, exist_ok=True)
    config.save(saved)
    provenance = {"data_hash": digest, "provenance": data.provenance, **versions()}
    environment.write_text(yaml.safe_dump(provenance, sort_keys=False), encoding="utf-8")

    dataset = StudyDataset(
        train,
        label_space=model.config.space,
        sections=model.config.sections,
        tokenizer=model.tokenizer,
        preprocessing=_preprocessing(model),
        augmentation=config.augmentation,
        views=model.views,
    )

    def validate(trained: MDNet) -> Row:
        if not validation:
            return {}
        return validation_row(Predictor(trained, device=trained.device), validation, data)

    def on_epoch(history: list[Row]) -> None:
        write_history(out / "history.csv", history)
        if best_epoch(history) == len(history) - 1:
            partial = out / "model.partial"  # a run killed while it writes still has the model before
            shutil.rmtree(partial, ignore_errors=True)
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(partial)
            replace_folder(out / "model", partial)

    trainer = Trainer(model, dataset, config, validate=validate)
    trainer.train(out / "checkpoint", resume=resume, on_epoch=on_epoch)
    if validation and trainer.accelerator.is_main_process:
        calibrate_folder(out / "model", data)
        check_run(out, validation)
    return out


def _model_of_run(
    config: TrainingConfig, data: StudySet, train: Sequence[Study], out: Path, *, resume: bool
) -> MDNet:
    """The model with its vocabulary and preprocessing: a resumed run's own, else new ones from `train`."""
    if resume and (out / "model" / "config.json").exists():
        return MDNet.from_pretrained(out / "model")
    space = data.label_space
    if config.diagnosis is not None:
        space = LabelSpace(space.aspects, config.diagnosis)
    if space.aspects and not any(study.labels for study in train):
        _log.warning("no training study has a label: the heads rest")
        space = LabelSpace()
    sections = tuple(name for name in data.sections if any(study.report.get(name) for study in train))
    if not sections and not space.aspects:
        raise DataError(data.root, "no training study has a label or a report", "there is nothing to learn")
    tokenizer = None
    if sections:
        texts = (text for study in train for name in sections for text in study.report.get(name, ()))
        tokenizer = ReportTokenizer.build(texts, sections, minimum_count=config.minimum_count)
    options = get_architecture(config.model) | config.model_options
    image_size = int(options.get("image_size", MDNetConfig.image_size))
    views = int(options.get("views", MDNetConfig.views))
    mode = "L" if options.get("image_channels", MDNetConfig.image_channels) == 1 else "RGB"
    chosen = random.Random(config.seed).sample(list(train), min(_MEASURED, len(train)))
    images = (load_image(path) for study in chosen for path in study.images[:views])
    preprocessing = Preprocessing.measure(images, size=image_size, mode=mode)
    return create_model(
        config.model,
        label_space=space,
        sections=sections,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        **config.model_options,
    )


def _say_images(data: StudySet, views: int) -> None:
    """How many studies have how many images, and how many of these the model leaves out."""
    counts = Counter(len(study.images) for study in data.studies)
    if set(counts) == {views}:
        return
    found = ", ".join(f"{counts[number]} with {number}" for number in sorted(counts))
    _log.info("%s: studies by number of images: %s; the model looks at %d", data.root, found, views)
    if more := sum(counts[number] for number in counts if number > views):
        _log.warning(
            "%s: %d studies have more images than the model has views; the first %d of each used; "
            "for more, set model_options: {views: %d}",
            data.root,
            more,
            views,
            max(counts),
        )


def validation_row(predictor: Predictor, studies: Sequence[Study], data: StudySet) -> Row:
    """The epoch's numbers on the validation split, reports generated freely.

    `val_score` chooses the best epoch: the mean of diagnosis accuracy and a tenth of CIDEr, whichever
    are there. Unscaled, CIDEr's changes from one phrase to an equal one would outweigh the diagnosis.
    """
    metrics = evaluate_studies(predictor, studies, data, baselines=False, progress=False).metrics
    row: Row = {}
    score = []
    if (accuracy := metrics.get("diagnosis", {}).get("accuracy")) is not None:
        row["val_diagnosis_accuracy"] = accuracy
        score.append(accuracy)
    if "mean_aspect_accuracy" in metrics:
        row["val_mean_aspect_accuracy"] = metrics["mean_aspect_accuracy"]
        if not score:
            score.append(metrics["mean_aspect_accuracy"])
    if "text" in metrics:
        row["val_bleu_4"], row["val_cider"] = metrics["text"]["bleu_4"], metrics["text"]["cider"]
        row["val_distinct_share"] = metrics["text"]["distinct_share"]
        score.append(metrics["text"]["cider"] / 10)  # CIDEr's scale ends at 10
    for aspect, kinds in metrics.get("grounding", {}).items():
        for kind, classes in kinds.items():
            if isinstance(classes, dict):
                hits = [c["pointing"] * c["studies"] for c in classes.values()]
                row[f"val_{aspect}_{kind}_pointing"] = sum(hits) / sum(c["studies"] for c in classes.values())
    if "statements" in metrics:
        row["val_statements_true"] = metrics["statements"]["true"]
    if score:
        row["val_score"] = float(np.mean(score))
    return row


def best_epoch(history: Sequence[Row]) -> int:
    """Index of the epoch with the highest `val_score`; the last where there is none."""
    scores = [row.get("val_score", -np.inf) for row in history]
    return max(range(len(scores)), key=lambda index: (scores[index], index))


def write_history(path: Path, history: Sequence[Row]) -> None:
    """The rows as CSV, columns in order of first appearance."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries that draw from the global generator)
    torch.manual_seed(seed)


def _preprocessing(model: MDNet) -> Preprocessing:
    assert model.preprocessing is not None
    return model.preprocessing


def _check_same(config: TrainingConfig, saved: TrainingConfig, path: Path) -> None:
    old, new = saved.to_dict(), config.to_dict()
    changed = [
        f"{key}: {old[key]} there, {new[key]} here" for key in old if old[key] != new[key] and key != "out"
    ]
    if changed:
        raise ConfigurationError(
            f"{path}: the run to resume has another configuration ({'; '.join(changed)}); "
            "call it as it was called, or name another --out"
        )
