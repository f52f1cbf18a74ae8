"""`mdnet calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mdnet.cli.options import Columns, Format, Uncertain, reader_options

__all__ = ["calibrate"]


def calibrate(
    weights: Annotated[Path, typer.Option(help="Run or model folder; the calibration is written into it.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.")],
    split: Annotated[str, typer.Option(help="Split to measure on, never the one trained on.")] = "val",
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the calibration as JSON.")] = False,
) -> None:
    """Fit temperatures and the out-of-distribution score of weights that have none; train does it by itself.

    Example: mdnet calibrate --weights runs/x --data DIR --split val
    """
    from mdnet.data.readers import read_studies
    from mdnet.errors import ConfigurationError
    from mdnet.inference.calibration import calibrate_folder

    if not weights.is_dir():
        raise ConfigurationError(f"{weights}: no such folder; name a run or model folder to write into")
    studies = read_studies(data, format=format, options=reader_options(column, uncertain))
    calibration = calibrate_folder(weights, studies, split=split)
    if json_:
        typer.echo(json.dumps(calibration.to_dict(), indent=2))
        return
    typer.echo(f"fitted on {calibration.fitted_on}")
    for aspect, temperature in calibration.temperatures.items():
        typer.echo(f"  {aspect:<24} temperature {temperature:.3f}")
    reference = calibration.reference
    images = "no score: too few patients" if reference is None else f"{len(reference.distances)} images"
    typer.echo(f"  {'out-of-distribution':<24} {images}")
