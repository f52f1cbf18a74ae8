"""How a run gets its model: its own from before, one adapted from weights, or a new one.

Vocabulary and preprocessing come with it. A run that starts from something writes down from what:
`transfer.json` beside its configuration.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from mdnet.data.images import decode_image
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import LabelSpace, Study, StudySet
from mdnet.data.text import ReportTokenizer, warning_of_length
from mdnet.errors import DataError, WeightsError
from mdnet.files import write_text
from mdnet.models.backbones.shapes import IMAGENET_MEAN, IMAGENET_STD
from mdnet.models.configuration import MDNetConfig
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model, get_architecture
from mdnet.models.transfer import adapt
from mdnet.models.weights import resolve_weights, sha256
from mdnet.training.configuration import TrainingConfig

__all__ = ["TRANSFER", "starting_model"]

_log = logging.getLogger(__name__)

TRANSFER = "transfer.json"
_MEASURED = 512  # training images that mean and deviation are measured on


def starting_model(
    config: TrainingConfig, data: StudySet, train: Sequence[Study], out: Path, *, resume: bool
) -> MDNet:
    """The model of a run, with vocabulary and preprocessing.

    Args:
        config: The run.
        data: The data set, for its label space and sections.
        train: Its training studies, from which vocabulary and normalisation come.
        out: The run folder.
        resume: Take the run's own model, where it has one.

    Raises:
        ConfigurationError: An option is wrong, or would change the architecture of the weights.
        DataError: There is nothing to learn.
        WeightsError: The weights to start from cannot be had.
    """
    if resume and (out / "model" / "config.json").exists():
        return MDNet.from_pretrained(out / "model")
    space = _label_space(config, data, train)
    sections = tuple(name for name in data.sections if any(study.report.get(name) for study in train))
    if sections and config.weights is None and not get_architecture(config.model).writes:
        if PartialState().is_main_process:
            _log.info("%s writes no report: those of %s are left out", config.model, data.root)
        sections = ()
    if not sections and not space.aspects:
        raise DataError(data.root, "no training study has a label or a report", "there is nothing to learn")
    texts = [text for study in train for name in sections for text in study.report.get(name, ())]
    tokenizer = None
    if sections:
        tokenizer = ReportTokenizer.build(
            texts,
            sections,
            kind=config.tokenizer,
            minimum_count=config.minimum_count,
            vocabulary_size=config.vocabulary_size,
        )
    begin = _new_model if config.weights is None else _adapted_model
    model, record = begin(config, train, space, sections, tokenizer)
    if record:
        write_text(out / TRANSFER, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    if tokenizer is not None and (line := warning_of_length(texts, tokenizer, model.config.maximum_words)):
        _log.warning("%s: %s", data.root, line)
    return model


def _label_space(config: TrainingConfig, data: StudySet, train: Sequence[Study]) -> LabelSpace:
    space = data.label_space
    if config.diagnosis is not None:
        space = LabelSpace(space.aspects, config.diagnosis)
    if space.aspects and not any(study.labels for study in train):
        _log.warning("no training study has a label: the heads rest")
        return LabelSpace()
    return space


def _new_model(
    config: TrainingConfig,
    train: Sequence[Study],
    space: LabelSpace,
    sections: tuple[str, ...],
    tokenizer: ReportTokenizer | None,
) -> tuple[MDNet, dict[str, Any]]:
    """A model of the named architecture; images are normalised as measured, or as its backbone knows them."""
    options = get_architecture(config.model).options | config.model_options
    size = int(options.get("image_size", MDNetConfig.image_size))
    mode = "L" if options.get("image_channels", MDNetConfig.image_channels) == 1 else "RGB"
    views = int(options.get("views", MDNetConfig.views))
    preprocessing = _measure(config, train, size=size, mode=mode, views=views)
    record: dict[str, Any] = {}
    if weights := options.get("backbone_weights"):
        preprocessing = replace(preprocessing, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        record = {"backbone": options.get("backbone"), "backbone_weights": weights}
        if Path(weights).is_file():
            record["sha256"] = sha256(Path(weights))
    model = create_model(
        config.model,
        label_space=space,
        sections=sections,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        **config.model_options,
    )
    return model, record


def _adapted_model(
    config: TrainingConfig,
    train: Sequence[Study],
    space: LabelSpace,
    sections: tuple[str, ...],
    tokenizer: ReportTokenizer | None,
) -> tuple[MDNet, dict[str, Any]]:
    """The weights' model, adapted. Of the images, only how bright they usually are is measured anew."""
    assert config.weights is not None
    folder = resolve_weights(config.weights)
    original = MDNet.from_pretrained(folder)
    kept = original.preprocessing
    if kept is None:
        raise WeightsError(f"{folder}: has no preprocessor_config.json; name a model that was saved whole")
    _log.info("starting from %s", config.weights)
    model, record = adapt(
        original, label_space=space, sections=sections, tokenizer=tokenizer, options=config.model_options
    )
    measured = _measure(config, train, size=kept.size, mode=kept.mode, views=model.config.views)
    model.preprocessing = replace(kept, intensity=measured.intensity)
    weights = {"weights": config.weights, "sha256": sha256(folder / "model.safetensors")}
    return model, weights | record.to_dict()


def _measure(
    config: TrainingConfig,
    train: Sequence[Study],
    *,
    size: int | tuple[int, int],
    mode: str,
    views: int,
) -> Preprocessing:
    chosen = random.Random(config.seed).sample(train, min(_MEASURED, len(train)))
    images = (decode_image(path) for study in chosen for path in study.images[:views])
    return Preprocessing.measure(images, size=size, mode=mode)
