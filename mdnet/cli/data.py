"""`mdnet data`: check, stats, convert, split, show, phantom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdnet.cli.options import Columns, Format, Uncertain, reader_options

if TYPE_CHECKING:
    from mdnet.data.study import StudySet

__all__ = ["app"]

app = typer.Typer(
    help="Look at a data set, bring it into shape, or make a synthetic one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[Path, typer.Argument(help="Folder of the data set, or its file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NewFolder = Annotated[
    Path, typer.Option(help="Folder to make; it must be empty or missing.", show_default=False)
]


@app.command()
def check(
    path: Source,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    weights: Annotated[str | None, typer.Option(help="Also compare its labels with this model's.")] = None,
    json_: Json = False,
) -> None:
    """Name everything wrong with a data set in one pass; exit code 1 if there is an error.

    Of many faults of one kind the first are listed, and all are counted; --json lists all.

    Example: mdnet data check DIR
    """
    from mdnet.cli.data_text import faults_text
    from mdnet.data.check import check as check_data
    from mdnet.data.check import count_kinds

    options = reader_options(column, uncertain)
    space = None
    if weights is not None:
        from mdnet.models.mdnet import MDNet

        space = MDNet.from_pretrained(weights).config.space
    with _bar("study") as show:
        faults = check_data(path, format=format, options=options, label_space=space, progress=show)
    counts = count_kinds(faults)
    errors = sum(count for (severity, _), count in counts.items() if severity == "error")
    if json_:
        kinds = [
            {"severity": severity, "kind": kind, "count": count}
            for (severity, kind), count in counts.most_common()
        ]
        record = {"errors": errors, "warnings": counts.total() - errors, "kinds": kinds}
        typer.echo(json.dumps(record | {"faults": [asdict(fault) for fault in faults]}, indent=2))
    else:
        typer.echo(faults_text(faults, path))
    raise typer.Exit(1 if errors else 0)


@app.command()
def stats(
    path: Source,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    json_: Json = False,
) -> None:
    """Count studies, images, splits, labels and words, and what is there twice.

    Example: mdnet data stats DIR --json
    """
    from mdnet.cli.data_text import statistics_text
    from mdnet.data.statistics import statistics

    studies = _read(path, format, column, uncertain, strict=False)
    with _bar("study or image") as show:
        record = statistics(studies, progress=show)
    typer.echo(json.dumps(record, indent=2, ensure_ascii=False) if json_ else statistics_text(record))


@app.command()
def convert(
    path: Source,
    out: NewFolder,
    to: Annotated[str, typer.Option(help="studies (our own layout), r2gen, or shards (tars).")] = "studies",
    link: Annotated[
        bool, typer.Option("--link", help="Make symbolic links to the images instead of copies.")
    ] = False,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
) -> None:
    """Write a data set in another layout, images and all; says what that layout cannot hold.

    DICOM and NIfTI files become PNG, so that no header is handed on.

    Example: mdnet data convert DIR --to r2gen --out NEW
    """
    from mdnet.data.convert import convert as convert_data

    studies = _read(path, format, column, uncertain)
    with _bar("study") as show:
        folder = convert_data(studies, out, to=to, link=link, progress=show)
    typer.echo(f"{folder}: {len(studies.studies):,} studies")


@app.command()
def split(
    path: Source,
    out: NewFolder,
    train: Annotated[float, typer.Option(help="Share of train.")] = 0.7,
    val: Annotated[float, typer.Option(help="Share of val.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of test.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    json_: Json = False,
) -> None:
    """Part studies into train, val and test by patient, with every class in its share.

    Studies with the same images stay together, too. Writes studies.jsonl and dataset.json, which name the
    images where they are; nothing in DIR is changed.

    Example: mdnet data split DIR --out NEW --train .7 --val .1 --test .2 --seed 0
    """
    from mdnet.cli.data_text import split_text
    from mdnet.data.splitting import split_studies, write_split
    from mdnet.data.statistics import statistics

    studies = _read(path, format, column, uncertain)
    with _bar("image") as show:
        parted = split_studies(studies, (train, val, test), seed=seed, progress=show)
    write_split(parted, out)
    record = statistics(parted, hash_images=False)
    if json_:
        kept = ("studies", "splits", "patients", "patients_in_two_splits", "split_labels", "split_labelled")
        typer.echo(json.dumps({name: record[name] for name in kept}, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{split_text(record)}\n\n{out}")


@app.command()
def show(
    path: Source,
    out: Annotated[Path, typer.Option(help="The page to write.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Only this split.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="Of more studies, so many, evenly spaced.", min=1)] = 60,
    aspect: Annotated[
        str | None, typer.Option(help="Only studies with a label of this aspect.", show_default=False)
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Only this class of --aspect.", show_default=False)
    ] = None,
    format: Format = None,
    column: Columns = None,
    uncertain: Uncertain = None,
) -> None:
    """Make a page of studies, with images, labels, reports and masks, to look through.

    Example: mdnet data show DIR --out page.html --split val --limit 60
    """
    from mdnet.errors import ConfigurationError
    from mdnet.report.data_page import choose_studies, write_data_page

    if label is not None and aspect is None:
        raise ConfigurationError(f"--class {label}: name its aspect, as in --aspect diagnosis")
    studies = _read(path, format, column, uncertain, strict=False)
    chosen, number = choose_studies(studies, split=split, aspect=aspect, label=label, limit=limit)
    asked_for = [f"{len(chosen):,} of {number:,} studies" if len(chosen) < number else f"{number:,} studies"]
    asked_for += [f"split {split}"] if split else []
    asked_for += [f"{aspect}: {label or 'any class'}"] if aspect else []
    with _bar("study") as tell:
        page = write_data_page(out, studies, chosen, asked_for=", ".join(asked_for), progress=tell)
    typer.echo(f"{page} ({page.stat().st_size / 1000:,.0f} kB)")


@app.command()
def phantom(
    out: NewFolder,
    studies: Annotated[int, typer.Option(help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed, other studies.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 128,
) -> None:
    """Draw synthetic bladder tissue with labels, five reports a study, and masks.

    Example: mdnet data phantom --out DIR --studies 400 --seed 1
    """
    from mdnet.data.phantom import make_phantom

    typer.echo(str(make_phantom(out, studies, seed=seed, size=size)))


def _read(
    path: Path, format: str | None, column: list[str] | None, uncertain: str | None, *, strict: bool = True
) -> StudySet:
    from mdnet.data.readers import read_studies

    return read_studies(path, format=format, strict=strict, options=reader_options(column, uncertain))


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar where stderr is a terminal, as a function of how much is done and how much there is."""
    from tqdm import tqdm

    with tqdm(unit=unit, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
