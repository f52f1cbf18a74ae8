"""`mdnet train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["train"]


def train(
    data: Annotated[str | None, typer.Option(help="Folder of the data set.")] = None,
    out: Annotated[str | None, typer.Option(help="Run folder to write.")] = None,
    model: Annotated[str | None, typer.Option(help="A name of `mdnet models`. [default: mdnet_tiny]")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with any keys of the configuration; flags override it.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split. [default: 10]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Studies a step. [default: 32]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of AdamW's. [default: 0.003]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation. [default: 0]")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="none, shift, mirror or tissue. [default: none]")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Reader of the data; by looking at it unless named.")
    ] = None,
    diagnosis: Annotated[
        str | None, typer.Option(help="Aspect that concludes, where the data does not say.")
    ] = None,
    resume: Annotated[
        str, typer.Option(help="auto: go on from the run folder's checkpoint if any; never.")
    ] = "never",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other key of the configuration, as key=value; repeat it for more."),
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
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "augmentation": augmentation,
        "format": format,
        "diagnosis": diagnosis,
    }
    record = read_yaml(config) if config is not None else {}
    record |= {key: value for key, value in flags.items() if value is not None}
    record |= dict(_pair(text) for text in set_ or ())
    where = str(config) if config is not None else "mdnet train"
    run = TrainingConfig.from_dict(record, where=where)

    from mdnet.training.run import train_run

    train_run(run, resume=resume == "auto")
    typer.echo(f"model: {Path(run.out) / 'model'}")


def _pair(text: str) -> tuple[str, Any]:
    """The key and the YAML value of `key=value`."""
    import yaml

    from mdnet.errors import ConfigurationError

    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigurationError(f"--set {text}: write key=value")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--set {text}: the value is no YAML ({' '.join(str(error).split())})"
        ) from error
