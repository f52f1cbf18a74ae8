"""`mdnet data`: check, stats, phantom."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Look at a data set, or make a synthetic one.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    format: Annotated[str | None, typer.Option(help="Its reader; by looking at it unless named.")] = None,
    weights: Annotated[str | None, typer.Option(help="Also compare its labels with this model's.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name everything wrong with a data set in one pass; exit code 1 if there is an error.

    Example: mdnet data check DIR
    """
    from tqdm import tqdm

    from mdnet.data.check import check as check_data

    space = None
    if weights is not None:
        from mdnet.models.mdnet import MDNet

        space = MDNet.from_pretrained(weights).config.space
    with tqdm(unit="image", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        faults = check_data(path, format=format, label_space=space, progress=show)
    errors = sum(fault.severity == "error" for fault in faults)
    if json_:
        typer.echo(json.dumps({"errors": errors, "faults": [asdict(fault) for fault in faults]}, indent=2))
    else:
        for fault in faults:
            typer.echo(str(fault))
        typer.echo(f"{path}: {errors} errors, {len(faults) - errors} warnings")
    raise typer.Exit(1 if errors else 0)


@app.command()
def stats(
    path: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    format: Annotated[str | None, typer.Option(help="Its reader; by looking at it unless named.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count studies, images, splits, labels and words.

    Example: mdnet data stats DIR --json
    """
    from mdnet.data.readers import read_studies
    from mdnet.data.statistics import statistics

    record = statistics(read_studies(path, format=format, strict=False))
    if json_:
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
        return
    for key, value in record.items():
        typer.echo(f"{key:<24} {json.dumps(value, ensure_ascii=False)}")


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="Folder to make; it must be empty or missing.")],
    studies: Annotated[int, typer.Option(help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed, other studies.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 128,
) -> None:
    """Draw synthetic bladder tissue with labels, five reports a study, and masks.

    Example: mdnet data phantom --out DIR --studies 400 --seed 1
    """
    from mdnet.data.phantom import make_phantom

    typer.echo(str(make_phantom(out, studies, seed=seed, size=size)))
