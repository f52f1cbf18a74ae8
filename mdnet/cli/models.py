"""`mdnet models`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

__all__ = ["models"]


def models(
    pattern: Annotated[str, typer.Argument(help="Shell pattern of names.")] = "*",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models and pretrained weights.

    Example: mdnet models "mdnet*" --json
    """
    from mdnet.models.backbones.shapes import BACKBONES
    from mdnet.models.registry import get_architecture, list_models
    from mdnet.models.weights import get_weights, list_weights

    weights = [get_weights(name) for name in list_weights() if name in list_weights(f"{pattern}*")]
    if json_:
        record = {
            "models": {name: get_architecture(name) for name in list_models(pattern)},
            "weights": {card.name: asdict(card) for card in weights},
        }
        typer.echo(json.dumps(record, indent=2))
        return
    typer.echo(f"{'model':<18} {'input':>6}  {'widths':<16} {'decoupled from':<15} trained weights")
    for name in list_models(pattern):
        options = get_architecture(name)
        trained = ", ".join(card.name for card in weights if card.model == name) or "-"
        widths = " ".join(map(str, options["widths"]))
        backbone = options.get("backbone")
        first = "stage1" if backbone is None else BACKBONES[backbone].decoupled_from
        typer.echo(f"{name:<18} {options['image_size']:>3} px  {widths:<16} {first:<15} {trained}")
