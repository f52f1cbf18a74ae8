"""`mdnet inspect`: layers, activations, statistics, units, maximise, gradients."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdnet.cli.options import Columns, Format, Uncertain, reader_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from mdnet.data.readers.options import ReaderOptions
    from mdnet.data.study import Study
    from mdnet.inference.predictor import Predictor

__all__ = ["app"]

app = typer.Typer(help="Look inside the network.", no_args_is_help=True, rich_markup_mode=None)

Weights = Annotated[str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps; the best there is unless named.")]
Data = Annotated[Path, typer.Argument(help="Folder of the data set.")]
Split = Annotated[str | None, typer.Option(help="Only this split; all studies unless named.")]
Out = Annotated[Path, typer.Option(help="Folder for the PNG and JSON files.")]
Layers = Annotated[
    list[str], typer.Option("--layer", help="A name of `mdnet inspect layers`; repeat it for more.")
]
SHIPPED = "mdnet_tiny/phantom"


@app.command()
def layers(
    weights: Weights = SHIPPED,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Device = None,
) -> None:
    """List a model's layers: name, kind, parameters, shape of the output for one image.

    Example: mdnet inspect layers --weights runs/x
    """
    from dataclasses import asdict

    import torch

    from mdnet.explain.layers import describe_layers

    predictor = predictor_of(weights, device)
    preprocessing = predictor.preprocessing
    blank = torch.zeros(1, preprocessing.channels, *preprocessing.shape, device=predictor.device)
    found = describe_layers(predictor.model, blank)
    if json_:
        typer.echo(json.dumps([asdict(layer) for layer in found], indent=2))
        return
    typer.echo(f"{'layer':<38} {'kind':<20} {'parameters':>10}  output")
    for layer in found:
        shape = "-" if layer.shape is None else " x ".join(map(str, layer.shape[1:]))
        typer.echo(f"{layer.name:<38} {layer.kind:<20} {layer.parameters:>10,}  {shape}")


@app.command()
def activations(
    image: Annotated[Path, typer.Argument(help="The image.")],
    layer: Layers,
    out: Out,
    weights: Weights = SHIPPED,
    device: Device = None,
) -> None:
    """Draw all activation maps of layers for one image, and their heat map over it.

    Example: mdnet inspect activations tile.png --layer image.activations.1 --out inside/
    """
    from mdnet.data.images import load_image
    from mdnet.explain.features import extract_features
    from mdnet.report.activation_pictures import activation_sheet
    from mdnet.report.figures import save_figure

    picture = load_image(image)
    predictor = predictor_of(weights, device)
    features = extract_features(predictor.model, predictor.pixel_values([picture]), layer)
    for name, output in features.items():
        figure = activation_sheet(picture, feature_maps(output, name), layer=name)
        typer.echo(str(save_figure(figure, out / f"activations-{name}.png")))


@app.command()
def statistics(
    data: Data,
    layer: Layers,
    out: Out,
    weights: Weights = SHIPPED,
    split: Split = None,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    device: Device = None,
) -> None:
    """Measure the range, mean and sparsity of activations over a data set, and its dead and saturated units.

    Example: mdnet inspect statistics DIR --layer image.stem --layer image.activations.2 --out inside/
    """
    from mdnet.explain.activations import activation_statistics
    from mdnet.report.activation_pictures import statistics_picture
    from mdnet.report.figures import save_figure

    studies = read(data, split=split, format=format, options=reader_options(column, uncertain))
    predictor = predictor_of(weights, device)
    found = activation_statistics(predictor.model, batches(predictor, studies), layer)
    typer.echo(write_json(out / "statistics.json", [record.to_dict() for record in found.values()]))
    typer.echo(str(save_figure(statistics_picture(list(found.values())), out / "statistics.png")))


@app.command()
def units(
    data: Data,
    layer: Annotated[str, typer.Option(help="A name of `mdnet inspect layers`.")],
    channel: Annotated[list[int], typer.Option(help="Channel of the layer; repeat it for more.")],
    out: Out,
    top: Annotated[int, typer.Option(help="Studies to show.", min=1)] = 6,
    weights: Weights = SHIPPED,
    split: Split = None,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    device: Device = None,
) -> None:
    """Show the studies that excite a unit most, and where in them.

    Example: mdnet inspect units DIR --layer image.activations.2 --channel 3 --out inside/
    """
    from mdnet.data.images import load_image
    from mdnet.explain.activations import top_studies
    from mdnet.report.activation_pictures import unit_sheet
    from mdnet.report.figures import save_figure

    studies = read(data, split=split, format=format, options=reader_options(column, uncertain))
    predictor = predictor_of(weights, device)
    found = top_studies(
        predictor.model, batches(predictor, studies), layer=layer, channels=channel, count=top
    )
    for number, hits in found.items():
        best = [studies[hit.study] for hit in hits]
        stem = f"unit-{layer}-{number}"
        record = [
            {"study": study.id, "image": str(study.images[0]), "value": hit.value, "cell": hit.peak}
            for study, hit in zip(best, hits, strict=True)
        ]
        typer.echo(write_json(out / f"{stem}.json", record))
        figure = unit_sheet(
            [load_image(study.images[0]) for study in best],
            hits,
            names=[study.id for study in best],
            unit=f"{layer}, channel {number}",
        )
        typer.echo(str(save_figure(figure, out / f"{stem}.png")))


@app.command()
def maximise(
    data: Annotated[Path, typer.Argument(help="Data set to compare with, and to take the colours from.")],
    out: Out,
    layer: Annotated[str | None, typer.Option(help="A unit's layer.")] = None,
    channel: Annotated[int | None, typer.Option(help="A unit's channel.")] = None,
    aspect: Annotated[str | None, typer.Option(help="A class's aspect.")] = None,
    label: Annotated[str | None, typer.Option("--class", help="A class.")] = None,
    against: Annotated[str | None, typer.Option(help="A class whose logit is taken off.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the search.", min=1)] = 256,
    seed: Annotated[int, typer.Option(help="Of the start and the shifts.")] = 0,
    weights: Weights = SHIPPED,
    split: Split = None,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    device: Device = None,
) -> None:
    """Make the image that excites a unit or a class most, and compare it with real ones.

    Example: mdnet inspect maximise DIR --aspect mitosis --class frequent --against absent --out inside/
    """
    from PIL import Image

    from mdnet.data.images import load_image
    from mdnet.errors import ConfigurationError
    from mdnet.explain.maximisation import UnitScorer, measure_sample
    from mdnet.explain.maximisation import maximise as maximise_score
    from mdnet.explain.targets import ClassTarget, Scorer
    from mdnet.files import file_name, write_bytes
    from mdnet.report.figures import save_figure
    from mdnet.report.network_pictures import maximisation_picture

    studies = read(data, split=split, format=format, options=reader_options(column, uncertain))
    predictor = predictor_of(weights, device)
    scorer: UnitScorer | Scorer
    if layer is not None and channel is not None and aspect is None and label is None:
        scorer = UnitScorer(predictor.model, layer, channel)
        target, unit, stem = f"{layer}, channel {channel}", "mean activation", f"{layer}-{channel}"
    elif aspect is not None and label is not None and layer is None and channel is None:
        chosen = ClassTarget(aspect, label, against)
        scorer = Scorer(predictor.model, chosen)
        chosen.weights(predictor.model)  # names the aspects and classes there are
        target, unit = str(chosen), chosen.unit
        names = (aspect, label) if against is None else (aspect, label, against)
        stem = file_name("-".join(names).replace(" ", "_"))
    else:
        raise ConfigurationError("name a unit by --layer and --channel, or a class by --aspect and --class")
    sample = measure_sample(scorer, batches(predictor, studies), predictor.preprocessing)
    result = maximise_score(
        scorer, sample, predictor.preprocessing, target=f"{target}: {unit}", steps=steps, seed=seed
    )
    best = studies[int(sample.scores.argmax())]
    png = io.BytesIO()
    Image.fromarray(result.image.squeeze()).save(png, "PNG")
    typer.echo(str(write_bytes(out / f"maximise-{stem}-image.png", png.getvalue())))
    typer.echo(write_json(out / f"maximise-{stem}.json", result.to_dict() | {"best_study": best.id}))
    figure = maximisation_picture(result, load_image(best.images[0]), best_name=best.id, unit=unit)
    typer.echo(str(save_figure(figure, out / f"maximise-{stem}.png")))


@app.command()
def gradients(
    data: Data,
    out: Out,
    batch_size: Annotated[int, typer.Option(help="Studies in the batch, from the front.", min=2)] = 32,
    weights: Weights = SHIPPED,
    split: Split = None,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    device: Device = None,
) -> None:
    """Draw how much of each loss's gradient reaches each layer, for one batch.

    Example: mdnet inspect gradients DIR --out inside/
    """
    from mdnet.data.loading import StudyDataset, make_loader
    from mdnet.explain.gradient_flow import batch_gradient_flow
    from mdnet.inference.predictor import Predictor
    from mdnet.report.figures import save_figure
    from mdnet.report.network_pictures import gradient_picture

    studies = read(data, split=split, format=format, options=reader_options(column, uncertain))
    predictor = Predictor.from_pretrained(weights, device=device)
    model = predictor.model
    dataset = StudyDataset(
        studies[:batch_size],
        label_space=model.config.space,
        sections=model.config.sections,
        tokenizer=model.tokenizer,
        preprocessing=predictor.preprocessing,
        views=model.views,
    )
    batch = next(iter(make_loader(dataset, batch_size=batch_size)))
    flow = batch_gradient_flow(model, batch.to(predictor.device))
    for warning in flow.warnings:
        typer.echo(f"mdnet: {warning}", err=True)
    typer.echo(write_json(out / "gradients.json", flow.to_dict()))
    typer.echo(str(save_figure(gradient_picture(flow), out / "gradients.png")))


def predictor_of(weights: str, device: str | None) -> Predictor:
    """A predictor of the weights for one image at a time, of whatever number of views the model is."""
    from mdnet.inference.predictor import Predictor

    predictor = Predictor.from_pretrained(weights, device=device)
    return Predictor(predictor.model.with_views(1), name=predictor.name, device=predictor.device)


def read(data: Path, *, split: str | None, format: str | None, options: ReaderOptions) -> Sequence[Study]:
    """The studies of a data set, or of one of its splits."""
    from mdnet.data.readers import read_studies

    found = read_studies(data, format=format, options=options)
    return found.studies if split is None else found.split(split)


def batches(predictor: Predictor, studies: Sequence[Study]) -> Iterator[Tensor]:
    """The studies' first images in batches, under a bar where stderr is a terminal."""
    from tqdm import tqdm

    from mdnet.explain.features import pixel_batches

    images = tqdm([study.images[0] for study in studies], disable=None, unit="image")
    return pixel_batches(predictor, images)


def feature_maps(output: Any, layer: str) -> Any:
    """(channels, rows, columns) of one image's features (1, channels, rows, columns)."""
    from mdnet.errors import ConfigurationError

    if output.ndim != 4:
        shape = " x ".join(map(str, output.shape[1:]))
        raise ConfigurationError(
            f"layer {layer!r} gives {shape}, no maps; mdnet inspect layers shows which do"
        )
    return output[0].cpu().numpy()


def write_json(path: Path, record: Any) -> str:
    """Writes a record; its path."""
    from mdnet.files import write_text

    return str(write_text(path, json.dumps(record, indent=2) + "\n"))
