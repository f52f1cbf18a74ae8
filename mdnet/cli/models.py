"""`mdnet models`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mdnet.models.summary import ModelSummary

__all__ = ["models"]

_COLUMNS = ("model", "parameters", "input", "decoupled from", "writes", "weights", "paper")
_TO_THE_RIGHT = {"parameters", "input"}


def models(
    pattern: Annotated[
        str, typer.Argument(help="Shell pattern of models, or the name of one model or of weights.")
    ] = "*",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models with their parameters, and pretrained weights with their cards.

    Example: mdnet models "mdnet*"

    Example: mdnet models mdnet_tiny/phantom

    With --json: {"models": {NAME: {"description", "paper", "parameters", "image_size", "image_channels",
    "widths", "grid_size", "decoupled_from", "backbone", "attention", "writes", "weights", "options"}},
    "weights": {NAME: the card, as in weights.json}}: the models that match and the weights of these, or the
    weights named and their model. Keys are added, never renamed. Parameters are counted for six aspects, six
    sections and 236 words.
    """
    from mdnet.errors import ConfigurationError, did_you_mean
    from mdnet.models.registry import list_models
    from mdnet.models.summary import summarise_model
    from mdnet.models.weights import get_weights, list_weights
    from mdnet.models.weights_card import model_card

    card = get_weights(pattern) if pattern in list_weights() else None
    names = list_models(pattern) if card is None else list_models(card.model)
    if not names and card is None:
        raise ConfigurationError(
            f"{pattern!r} is none of the models ({', '.join(list_models())}) "
            f"or weights ({', '.join(list_weights()) or 'none'})"
            + did_you_mean(pattern, [*list_models(), *list_weights()])
        )
    rows = [summarise_model(name) for name in names]
    if json_:
        of_rows = [weights for row in rows for weights in row.weights]
        cards = [card] if card is not None else [get_weights(weights) for weights in of_rows]
        record = {
            "models": {row.name: _record(row) for row in rows},
            "weights": {each.name: asdict(each) for each in cards},
        }
        typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
    elif card is not None:
        typer.echo(model_card(card).split("---\n", 2)[2].strip())
    else:
        typer.echo(table(rows))
        if names == [pattern]:
            typer.echo(f"\n{rows[0].description}")


def table(rows: list[ModelSummary]) -> str:
    """A line a model, under the names of the columns."""
    cells = [dict(zip(_COLUMNS, _COLUMNS, strict=True)), *map(_cells, rows)]
    widths = {name: max(len(row[name]) for row in cells) for name in _COLUMNS}
    aligned = (
        "  ".join(f"{row[name]:{'>' if name in _TO_THE_RIGHT else '<'}{widths[name]}}" for name in _COLUMNS)
        for row in cells
    )
    return "\n".join(line.rstrip() for line in aligned)


def _record(row: ModelSummary) -> dict[str, object]:
    """The entry of a model in the JSON; its name is the key."""
    return {key: value for key, value in asdict(row).items() if key != "name"}


def _cells(row: ModelSummary) -> dict[str, str]:
    number = f"{row.parameters / 1e6:.2f}M"
    size = f"{row.image_size} px"
    writes, weights = " + ".join(row.writes), ", ".join(row.weights) or "-"
    values = (row.name, number, size, row.decoupled_from, writes, weights, row.paper)
    return dict(zip(_COLUMNS, values, strict=True))
