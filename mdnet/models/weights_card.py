"""`WeightsCard`: what is known of published weights, and the model card that people read, made of it.

The card is `weights.json` in a weights folder, the model card its `README.md`; `write_card` writes both, so
that they cannot differ. The model card opens with the front matter that the Hugging Face hub reads.

References:
    1. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, arXiv 1810.03993.
    2. The hub's model cards, https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from mdnet.errors import WeightsError
from mdnet.files import write_text

if TYPE_CHECKING:
    from mdnet.models.mdnet import MDNet

__all__ = [
    "CARD_FILE",
    "WEIGHTS_FILE",
    "CardFacts",
    "WeightsCard",
    "WeightsInput",
    "flat_metrics",
    "make_card",
    "model_card",
    "read_card",
    "sha256",
    "write_card",
]

WEIGHTS_FILE, CARD_FILE, MODEL_CARD_FILE = "model.safetensors", "weights.json", "README.md"

_USE = """Research on image models whose diagnosis, report and maps come from the same numbers: to try such
a model, to compare with it, to go on training from it. A research tool, no medical device: it must have no
part in the care of a patient."""
_MODALITIES = {"L": "one channel of luminance", "RGB": "RGB"}
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class WeightsInput:
    """What the weights take; the whole of it is `preprocessor_config.json`.

    Attributes:
        size: Rows and columns of an image, in pixels.
        mode: `RGB`, or `L` for one channel.
        views: Most images of a study.
        mean: Subtracted from the channels, which lie in 0..1.
        std: What they are then divided by.
    """

    size: tuple[int, int]
    mode: str
    views: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class WeightsCard:
    """What is known of published weights; a text that nobody gave is empty.

    Attributes:
        name: As `from_pretrained` takes it: `model/data`, or a hub id.
        model: The architecture's name.
        data: What they were trained on, in words.
        dataset: The data set's short name.
        recipe: The command that reproduces them.
        metrics: Measured quality, nested as in `metrics.json`.
        measured_on: The studies that it was measured on, in words.
        calibrated_on: Those that the calibration was fitted to.
        size: Bytes of `model.safetensors`.
        sha256: Of `model.safetensors`.
        parameters: Their number.
        input: The images that they take.
        aspects: Aspect to its classes, the diagnosis the one of `diagnosis`.
        diagnosis: The aspect that concludes; None where none does.
        sections: Of the report, in its order; none where they write none.
        licence: SPDX identifier.
        limits: What they are not good for, in words.
        version: The mdnet version that wrote the card.
    """

    name: str
    model: str
    data: str
    dataset: str
    recipe: str
    metrics: dict[str, Any]
    measured_on: str
    calibrated_on: str
    size: int
    sha256: str
    parameters: int
    input: WeightsInput
    aspects: dict[str, list[str]]
    diagnosis: str | None
    sections: list[str]
    licence: str
    limits: str
    version: str

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> WeightsCard:
        """From what `dataclasses.asdict` gives, by way of JSON."""
        given = record["input"]
        size, mean, std = (tuple(given[name]) for name in ("size", "mean", "std"))
        return cls(**{**record, "input": WeightsInput(size, given["mode"], given["views"], mean, std)})


class CardFacts(TypedDict, total=False):
    """What no model knows of itself, named and spelt as in `WeightsCard`."""

    data: str
    dataset: str
    recipe: str
    metrics: dict[str, Any]
    measured_on: str
    limits: str


def make_card(
    model: MDNet, folder: Path, *, name: str, licence: str, **facts: Unpack[CardFacts]
) -> WeightsCard:
    """The card of a model that was saved in a folder.

    Args:
        model: With its preprocessing.
        folder: Where it was saved.
        name: Under which it is published.
        licence: SPDX identifier.
        **facts: What else is known, of `CardFacts`.

    Raises:
        WeightsError: The model has no preprocessing, so nobody could use it.
    """
    import mdnet

    if model.preprocessing is None:
        raise WeightsError(f"{name}: the model has no preprocessing; publish one that was trained or loaded")
    config, images, file = model.config, model.preprocessing, folder / WEIGHTS_FILE
    return WeightsCard(
        name=name,
        model=config.architecture or config.model_type,
        data=facts.get("data", ""),
        dataset=facts.get("dataset", ""),
        recipe=facts.get("recipe", ""),
        metrics=facts.get("metrics", {}),
        measured_on=facts.get("measured_on", ""),
        calibrated_on="" if model.calibration is None else model.calibration.fitted_on,
        size=file.stat().st_size,
        sha256=sha256(file),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        input=WeightsInput(images.shape, images.mode, config.views, images.mean, images.std),
        aspects={aspect.name: list(aspect.classes) for aspect in config.space.aspects},
        diagnosis=config.space.diagnosis,
        sections=list(config.sections),
        licence=licence,
        limits=facts.get("limits", ""),
        version=mdnet.__version__,
    )


def read_card(folder: Path) -> WeightsCard:
    """The card in a weights folder.

    Raises:
        WeightsError: It is damaged, or of another version of mdnet.
    """
    file = folder / CARD_FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{file}: {error}; fetch or install it anew") from error
    known = {field.name for field in fields(WeightsCard)}
    if not isinstance(record, dict) or set(record) != known:
        odd = ", ".join(sorted(set(record) ^ known)) if isinstance(record, dict) else "all of it"
        raise WeightsError(
            f"{file}: entries missing or unknown: {odd}; fetch or install it anew, or another mdnet"
        )
    try:
        return WeightsCard.from_dict(record)
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{file}: input is damaged ({error!r}); fetch or install it anew") from error


def write_card(folder: Path, card: WeightsCard) -> None:
    """Writes `weights.json` and the model card, `README.md`."""
    write_text(folder / CARD_FILE, json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n")
    write_text(folder / MODEL_CARD_FILE, model_card(card))


def model_card(card: WeightsCard) -> str:
    """The card as people and the hub read it: front matter, what it is, use, limits, numbers."""
    written = [f"---\n{_front_matter(card)}\n---", f"# {card.name}"]
    trained = f", trained on {card.data}" if card.data else ""
    written.append(
        f"`{card.model}`, {card.parameters:,} parameters{trained}. Licence: {card.licence}. "
        f"mdnet {card.version}."
    )
    written.append(
        "```python\nimport mdnet\n\n"
        f'predictor = mdnet.Predictor.from_pretrained("{card.name}")\n'
        'finding = predictor("image.png")  # or a PIL image, or an array\n```'
    )
    written.append("\n".join(f"- {fact}" for fact in _facts(card)))
    written += ["## Intended use", _USE, "## Limits"]
    written.append(
        card.limits or "Nobody has said; what it was not measured on, it must be taken not to know."
    )
    if card.metrics:
        measured = f"On {card.measured_on}:" if card.measured_on else "On studies that nobody has named:"
        rows = "\n".join(_rows(card.metrics))
        written += ["## Measured", measured, f"| | | 95% interval |\n|---|---|---|\n{rows}"]
    return _BETWEEN.join(written) + "\n"


def flat_metrics(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Dotted names and numbers; what is no number is left out."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from flat_metrics(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(card: WeightsCard) -> Iterator[str]:
    """The lines of the list; nothing of what is not known."""
    rows, columns = card.input.size
    views = f", up to {card.input.views} views side by side" if card.input.views > 1 else ""
    mode = _MODALITIES.get(card.input.mode, card.input.mode)
    channels = f"mean {_numbers(card.input.mean)}, deviation {_numbers(card.input.std)} in 0..1"
    yield f"Input: {rows} x {columns} px, {mode}{views}; {channels}"
    if card.aspects:
        named = (
            f"{name}{' (diagnosis)' if name == card.diagnosis else ''}: {', '.join(classes)}"
            for name, classes in card.aspects.items()
        )
        yield f"Aspects: {'; '.join(named)}"
    yield f"Sections of the report: {', '.join(card.sections) or 'none, it writes no report'}"
    if card.recipe:
        yield f"Recipe: `{card.recipe}`"
    if card.calibrated_on:
        yield f"Calibrated on {card.calibrated_on}"
    yield f"`{WEIGHTS_FILE}`: {card.size:,} bytes, SHA-256 `{card.sha256}`"


def _front_matter(card: WeightsCard) -> str:
    """What the hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=task,
            dataset_type=card.dataset,
            dataset_name=card.measured_on or card.dataset,
            metric_type=kind,
            metric_value=round(value, 4),
            metric_name=metric,
        )
        for task, kind, metric, value in _results(card.metrics)
        if card.dataset
    ]
    data = ModelCardData(
        license=card.licence.lower(),  # as the hub spells SPDX identifiers
        library_name="mdnet",
        tags=["mdnet", card.model, "image-classification", "interpretability"]
        + (["report-generation"] if card.sections else []),
        pipeline_tag="image-to-text" if card.sections else "image-classification",
        datasets=[card.dataset] if card.dataset else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=card.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _results(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str, float]]:
    """Task, kind of metric, its name and value, of the numbers that the hub has a place for."""
    for aspect, measured in metrics.get("aspects", {}).items():
        yield "image-classification", "accuracy", f"accuracy of {aspect}", measured["accuracy"]
    for name in ("bleu_4", "rouge_l", "cider"):
        if name in metrics.get("text", {}):
            yield "image-to-text", name.partition("_")[0], name, metrics["text"][name]


def _rows(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Of a table: name, value, and the interval where there is one."""
    intervals = metrics.get("intervals", {})
    for name, value in flat_metrics(metrics):
        bounds = " to ".join(map(_number, intervals.get(name, ())))
        yield f"| {name} | {_number(value)} | {bounds} |"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
