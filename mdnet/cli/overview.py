"""`mdnet overview`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mdnet.cli.options import Columns, Format, Uncertain, reader_options

__all__ = ["overview"]

_MOST = 2000


def overview(
    data: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    weights: Annotated[
        str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")
    ] = "mdnet_tiny/phantom",
    split: Annotated[str | None, typer.Option(help="Only this split; all studies unless named.")] = None,
    method: Annotated[
        str, typer.Option(help="pca, tsne, umap, or several by commas; umap needs mdnet[umap].")
    ] = "pca,tsne",
    limit: Annotated[
        int, typer.Option(help="Of more studies, take so many, drawn by --seed.", min=4, max=5000)
    ] = _MOST,
    seed: Annotated[int, typer.Option(help="Of the draw, the embeddings and the surrogate.")] = 0,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the best unless named.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Show a model over a whole data set: who is near whom, which block decides, a rule, the errors.

    Example: mdnet overview DIR --split test --weights runs/x --out overview/
    """
    from mdnet.data.readers import read_studies
    from mdnet.errors import ConfigurationError
    from mdnet.evaluation.collect import choose_sample
    from mdnet.explain.overview.embedding import METHODS
    from mdnet.explain.overview.summary import make_overview
    from mdnet.inference.predictor import Predictor
    from mdnet.report.overview_page import write_overview

    methods = list(dict.fromkeys(name.strip() for name in method.split(",")))
    if odd := [name for name in methods if name not in METHODS]:
        raise ConfigurationError(f"--method {odd[0]} is none of {', '.join(METHODS)}")
    found = read_studies(data, format=format, options=reader_options(column, uncertain))
    studies = found.studies if split is None else found.split(split)
    sample = choose_sample(len(studies), limit, seed=seed)
    if len(sample) < len(studies):
        typer.echo(f"mdnet: {len(sample)} of {len(studies)} studies, as --limit says", err=True)
    predictor = Predictor.from_pretrained(weights, device=device)
    result = make_overview(predictor, [studies[place] for place in sample], methods=methods, seed=seed)
    name = f"{data}{f', split {split}' if split else ''}"
    files = write_overview(result, predictor, out, data=name)
    if json_:
        typer.echo(json.dumps(result.to_dict()))
        return
    for file in files:
        typer.echo(f"{file} ({file.stat().st_size / 1000:,.0f} kB)")
