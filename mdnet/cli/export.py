"""`mdnet export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    weights: Annotated[
        str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")
    ] = "mdnet_tiny/phantom",
    onnx: Annotated[bool, typer.Option("--onnx", help="Write ONNX graphs and onnx.json into --out.")] = False,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operator set.")] = 20,
    diagram: Annotated[str | None, typer.Option(help="Draw the model's blocks: mermaid or dot.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for ONNX; file for a diagram (.svg, .png, .pdf need Graphviz), else stdout."
        ),
    ] = None,
) -> None:
    """Write a model for programs that have no mdnet: as ONNX, or as a drawing of its blocks.

    Example: mdnet export --weights mdnet_tiny/phantom --onnx --out onnx/

    Example: mdnet export --weights runs/x --diagram mermaid --out model.mmd
    """
    from mdnet.errors import ConfigurationError

    if onnx == (diagram is not None):
        raise ConfigurationError(
            "say what to export, one thing at a time: --onnx, --diagram mermaid or --diagram dot"
        )
    if onnx:
        if out is None:
            raise ConfigurationError("--onnx writes several files: name a folder with --out")
        for file in write_onnx(weights, out, opset):
            typer.echo(str(file))
    elif diagram is not None:
        write_diagram(weights, diagram, out)


def write_onnx(weights: str, folder: Path, opset: int) -> list[Path]:
    """Exports under the name and licence of the weights' card, where they have one."""
    from mdnet.export.onnx_export import export_onnx
    from mdnet.models.mdnet import MDNet
    from mdnet.models.weights import read_card, resolve_weights

    source = resolve_weights(weights)
    card = read_card(source) if (source / "weights.json").is_file() else None
    name, licence = (card.name, card.licence) if card is not None else (weights, None)
    return export_onnx(MDNet.from_pretrained(source), folder, name=name, licence=licence, opset=opset)


def write_diagram(weights: str, language: str, out: Path | None) -> None:
    """Writes the drawing to `out`, or to stdout."""
    from mdnet.errors import ConfigurationError
    from mdnet.export.drawing import PICTURES, render_dot, to_dot, to_mermaid
    from mdnet.files import write_text
    from mdnet.models.mdnet import MDNet

    writers = {"mermaid": to_mermaid, "dot": to_dot}
    if language not in writers:
        raise ConfigurationError(f"--diagram {language} is none of {', '.join(writers)}")
    picture = out is not None and out.suffix.lower() in PICTURES
    if picture and language != "dot":
        raise ConfigurationError(f"{out}: only --diagram dot draws pictures; name a file that ends in .mmd")
    text = writers[language](MDNet.from_pretrained(weights))
    if out is None:
        typer.echo(text, nl=False)
        return
    typer.echo(str(render_dot(text, out) if picture else write_text(out, text)))
