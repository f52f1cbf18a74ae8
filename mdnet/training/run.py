"""A training run from a data set to a run folder.

The folder holds `config.yaml`, `model/` (what `from_pretrained` loads: the best epoch's weights,
calibrated on the val split), `checkpoint-STEP/` (the last two, which `--resume` goes on from), `history.csv`,
`environment.yaml` (hash of the data; time, command, device and versions of every start), `checks.json`
(`mdnet.training.checks`), and, from the final evaluation, `metrics.json`,
`predictions.jsonl` and `index.html`.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from mdnet.data.augmentation_choice import settle_augmentation
from mdnet.data.cache import ImageCache
from mdnet.data.images import load_image
from mdnet.data.loading import StudyDataset
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.readers import read_studies
from mdnet.data.shards import shard_numbers
from mdnet.data.statistics import data_hash
from mdnet.data.study import StudySet
from mdnet.errors import ConfigurationError
from mdnet.files import read_yaml, write_text
from mdnet.inference.calibration import calibrate_folder
from mdnet.models.mdnet import MDNet
from mdnet.provenance import start_record
from mdnet.training.checkpoint import list_checkpoints, replace_folder
from mdnet.training.checks import check_run
from mdnet.training.configuration import TrainingConfig
from mdnet.training.distributed import make_accelerator
from mdnet.training.history import Row, draw_history, write_history
from mdnet.training.random_state import seed_everything
from mdnet.training.starting import starting_model
from mdnet.training.trainer import Trainer
from mdnet.training.validation import best_epoch, check_metric
from mdnet.training.validator import Validator
from mdnet.training.watching import Watcher, watched_batch

__all__ = ["check_same", "train_run"]

_log = logging.getLogger(__name__)

_LOOKED_AT = 32  # training studies by which `augmentation: auto` chooses
_MAY_CHANGE = ("out", "workers", "cache")  # the bits are the same


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
    accelerator = make_accelerator(config)
    if not accelerator.is_main_process:
        logging.getLogger("mdnet").setLevel(logging.ERROR)  # the main process says the rest
    out = Path(config.out)
    saved = out / "config.yaml"
    begun = saved.exists()
    if begun and not resume:
        raise ConfigurationError(f"{out}: holds a run; add --resume auto to go on, or name another --out")
    if begun:
        check_same(config, TrainingConfig.load(saved), saved)
    elif found := list_checkpoints(out):
        raise ConfigurationError(
            f"{saved}: missing, beside {found[-1].name} of a run that it describes; put it back, remove the "
            "checkpoints to begin anew, or name another --out"
        )

    seed_everything(config.seed)
    data = read_studies(Path(config.data), format=config.format, options=config.reader_options())
    train = data.split("train")
    validation = data.split("val")[: config.validated] if "val" in data.splits else ()
    digest = data_hash(data)
    environment = out / "environment.yaml"
    earlier = read_yaml(environment) if environment.exists() else {}
    if earlier and earlier.get("data_hash") != digest:
        raise ConfigurationError(f"{data.root}: changed since the run in {out} began; name another --out")
    # Without a checkpoint a run begins anew, whatever a process that was killed had written.
    model = starting_model(config, data, train, out, resume=bool(list_checkpoints(out)))
    check_metric(config.metric, config.patience, validation, data, model)
    _say_images(data, model.views)
    model.calibration = None  # of a run gone on with: it was fitted to earlier weights

    few = random.Random(config.seed).sample(train, min(_LOOKED_AT, len(train)))
    images = (load_image(path) for study in few for path in study.images[: model.views])
    preprocessing = _preprocessing(model)
    cache = None
    if config.cache:
        cache = ImageCache(data.root, preprocessing, images=model.views * len(train))
    dataset = StudyDataset(
        train,
        label_space=model.config.space,
        sections=model.config.sections,
        tokenizer=model.tokenizer,
        preprocessing=preprocessing,
        augmentation=settle_augmentation(config.augmentation, train, images),
        views=model.views,
        cache=cache,
    )
    looked_at = validation or train

    def on_epoch(history: list[Row], trained: MDNet) -> None:
        best = best_epoch(history, config.metric)
        if best == len(history) - 1:
            partial = out / "model.partial"  # a run killed while it writes still has the model before
            shutil.rmtree(partial, ignore_errors=True)
            trained.save_pretrained(partial)
            replace_folder(out / "model", partial)
        write_history(out / "history.csv", history)
        draw_history(out / "history.png", history, best=best)

    trainer = Trainer(
        model,
        dataset,
        config,
        validate=Validator(validation, data, cache=config.cache),
        accelerator=accelerator,
        watch=lambda step: Watcher(out, studies=looked_at, step=step),
        watched=watched_batch(model, looked_at, size=min(16, config.batch_size)),  # no more than a step takes
        shards=shard_numbers(train) if data.format == "shards" else None,
    )
    # Written now, for an option that a trainer refuses leaves no run behind.
    accelerator.wait_for_everyone()  # all processes have looked at what is there
    if accelerator.is_main_process:
        start = start_record(accelerator.device, processes=accelerator.num_processes)
        starts = [*earlier.get("starts", ()), start]
        record = {"data_hash": digest, "provenance": data.provenance, "starts": starts}
        write_text(environment, yaml.safe_dump(record, sort_keys=False))
        config.save(saved)
    trainer.train(out, resume=resume, on_epoch=on_epoch)
    if validation and accelerator.is_main_process:
        calibrate_folder(out / "model", data)
        check_run(out, validation)
    accelerator.wait_for_everyone()
    return out


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


def _preprocessing(model: MDNet) -> Preprocessing:
    assert model.preprocessing is not None
    return model.preprocessing


def check_same(config: TrainingConfig, saved: TrainingConfig, path: Path) -> None:
    """Raises `ConfigurationError` where a run would go on as another; how its steps are loaded may change."""
    old, new = (_decisive(each) for each in (saved, config))
    changed = [f"{key}: {old[key]} there, {new[key]} here" for key in old if old[key] != new[key]]
    if changed:
        raise ConfigurationError(
            f"{path}: the run to resume has another configuration ({'; '.join(changed)}); "
            "call it as it was called, or name another --out"
        )


def _decisive(config: TrainingConfig) -> dict[str, Any]:
    """What makes a run another; of its batches, how many studies they make a step of."""
    record = {key: value for key, value in config.to_dict().items() if key not in _MAY_CHANGE}
    del record["batch_size"], record["accumulate"]
    return record | {"batch_size x accumulate": config.batch_size * config.accumulate}
