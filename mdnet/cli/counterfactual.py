"""`mdnet counterfactual`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["counterfactual"]


def counterfactual(
    inputs: Annotated[list[str], typer.Argument(help="Images, folders of images, or globs.")],
    weights: Annotated[
        str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")
    ] = "mdnet_tiny/phantom",
    aspect: Annotated[str | None, typer.Option(help="Aspect; the diagnosis unless named.")] = None,
    against: Annotated[str | None, typer.Option(help="The class that must overtake the answer.")] = None,
    limit: Annotated[float, typer.Option(help="Largest share of the image that may go.")] = 0.5,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("counterfactuals"),
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the best unless named.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print what was found as JSON lines.")] = False,
) -> None:
    """Find the smallest part of an image without which the model says something else.

    Example: mdnet counterfactual tiles/ --aspect mitosis --out what_decides
    """
    from mdnet.data.images import load_image
    from mdnet.errors import ImageError
    from mdnet.explain.counterfactual import counterfactuals
    from mdnet.files import write_text
    from mdnet.inference.bulk.inputs import find_images
    from mdnet.inference.bulk.pages import PageNames
    from mdnet.inference.predictor import Predictor
    from mdnet.report.counterfactual_picture import save_counterfactual_picture

    paths = find_images(inputs)
    names = PageNames(paths)
    predictor = Predictor.from_pretrained(weights, device=device)
    broken = []
    for path in paths:
        try:
            image = load_image(path)
        except ImageError as error:
            broken.append(str(error))
            continue
        found = counterfactuals(predictor, [image], aspect=aspect, against=against, limit=limit)[0]
        record = found.to_dict() | {"source": str(path)}
        stem = names.of(path)
        write_text(out / f"{stem}.json", json.dumps(record) + "\n")
        picture = save_counterfactual_picture(found, predictor, image, out / f"{stem}.png")
        if json_:
            typer.echo(json.dumps(record))
        elif found.in_image is None:
            typer.echo(f"{picture}: {found.answer}; no set of at most {limit:.1%} of the image changes it")
        else:
            share, answer = found.in_image.share, found.in_image.answer
            typer.echo(f"{picture}: {found.answer}; {answer} without {share:.1%} of the image")
    for message in broken:
        typer.echo(f"mdnet: {message}", err=True)
    if broken:
        raise typer.Exit(1)
