"""`mdnet train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdnet.cli.options import Columns, Format, Uncertain, columns_of

if TYPE_CHECKING:
    from mdnet.training.seeds import Seeds

__all__ = ["train"]


def train(
    data: Annotated[str | None, typer.Option(help="Folder of the data set.")] = None,
    out: Annotated[str | None, typer.Option(help="Run folder to write.")] = None,
    model: Annotated[str | None, typer.Option(help="A name of `mdnet models`. [default: mdnet_tiny]")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Start from a model or run folder, a name of `mdnet models` or a hub id."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with any keys of the configuration; flags override it.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split. [default: 10]")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Studies a process takes at once. [default: 32]")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Batches a step, where a large one does not fit. [default: 1]")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of AdamW's. [default: 0.003]")] = None,
    precision: Annotated[str | None, typer.Option(help="no, bf16 or fp16. [default: no]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation. [default: 0]")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Train so many, from --seed on, into OUT/seed-K; say mean and spread.")
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(
            help="none, shift, stain, mirror, tissue, xray, photo, photo_mirror, or auto. [default: none]"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Loader processes; 0 loads in the main one. [default: 0]")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no decoded images on disk.")] = False,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    diagnosis: Annotated[
        str | None, typer.Option(help="Aspect that concludes, where the data does not say.")
    ] = None,
    resume: Annotated[
        str, typer.Option(help="auto: go on from the run folder's checkpoint if any; never.")
    ] = "never",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other key of the configuration, as key=value or key.name=value; repeat it for more.",
        ),
    ] = None,
) -> None:
    """Train a model on image-report studies.

    Example: mdnet train --data DIR --model mdnet_tiny --epochs 4 --seed 3 --out runs/x --resume auto
    """
    from mdnet.errors import ConfigurationError
    from mdnet.files import read_yaml
    from mdnet.training.configuration import TrainingConfig

    if resume not in ("auto", "never"):
        raise ConfigurationError(f"--resume {resume} is none of auto, never")
    flags: dict[str, Any] = {
        "data": data,
        "out": out,
        "model": model,
        "weights": weights,
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "precision": precision,
        "seed": seed,
        "augmentation": augmentation,
        "workers": workers,
        "cache": False if no_cache else None,
        "format": format,
        "columns": columns_of(column) or None,
        "uncertain": uncertain,
        "diagnosis": diagnosis,
    }
    record = read_yaml(config) if config is not None else {}
    record |= {key: value for key, value in flags.items() if value is not None}
    for text in set_ or ():
        _put(record, text)
    where = str(config) if config is not None else "mdnet train"
    run = TrainingConfig.from_dict(record, where=where)

    if seeds is None:
        from mdnet.training.run import train_run

        train_run(run, resume=resume == "auto")
        lines = [f"model: {Path(run.out) / 'model'}"]
    else:
        from mdnet.training.seeds import train_seeds

        lines = [
            *_table(train_seeds(run, seeds, resume=resume == "auto")),
            f"runs: {Path(run.out) / 'seed-*'}",
        ]

    from accelerate import PartialState

    if PartialState().is_main_process:
        typer.echo("\n".join(lines))


def _put(record: dict[str, Any], text: str) -> None:
    """Puts `key=value` into a configuration; `key.name=value` puts one name of a key that holds several."""
    import yaml

    from mdnet.errors import ConfigurationError

    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigurationError(f"--set {text}: write key=value")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--set {text}: the value is no YAML ({' '.join(str(error).split())})"
        ) from error
    key, dot, name = key.strip().partition(".")
    if dot and not isinstance(names := record.get(key, {}), dict):
        raise ConfigurationError(f"--set {text}: {key} is {names!r}, and holds no names")
    record[key] = {**names, name: parsed} if dot else parsed


def _table(seeds: Seeds) -> list[str]:
    """Mean and spread of every number of the validation, as a table of text."""
    lines = [f"{len(seeds.rows)} seeds: {', '.join(map(str, seeds.rows))}; the best epoch of each, val split"]
    if not seeds.metrics:
        return [*lines, "nothing was validated: give the data a val split"]
    lines.append(f"{'':<32}{'mean':>9}{'deviation':>11}{'least':>9}{'greatest':>10}")
    for name, each in seeds.metrics.items():
        deviation = "" if each.deviation is None else f"{each.deviation:.4f}"
        lines.append(f"{name:<32}{each.mean:>9.4f}{deviation:>11}{each.minimum:>9.4f}{each.maximum:>10.4f}")
    return lines
