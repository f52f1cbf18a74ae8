"""`mdnet retrieve`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdnet.cli.decoding_options import phrase_reader

if TYPE_CHECKING:
    from mdnet.inference.predictor import Predictor
    from mdnet.inference.retrieval.phrasing import PhrasedPart
    from mdnet.inference.retrieval.ranking import RankedImage
    from mdnet.inference.retrieval.searched import Searched

__all__ = ["retrieve"]


def retrieve(
    in_: Annotated[
        Path, typer.Option("--in", help="Folder of images, data set, or folder of kept features.")
    ],
    query: Annotated[
        str | None, typer.Argument(help="Symptom text, its parts by commas.", show_default=False)
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="In place of a query: find images that are like this one.")
    ] = None,
    report_of: Annotated[
        Path | None, typer.Option(help="In place of a query: find reports of a data set that fit this image.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")
    ] = "mdnet_tiny/phantom",
    top: Annotated[int, typer.Option(help="How many to give.", min=1)] = 10,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write an HTML sheet: what was found, and where the words look.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Score every image, however many there are.")
    ] = False,
    as_written: Annotated[
        bool, typer.Option("--as-written", help="Score the query's own words only.")
    ] = False,
    phrases: Annotated[
        Path | None, typer.Option(help="phrases.yaml, by which a query is read; synthetic tissue needs none.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder to keep the features in; one in the cache unless named.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps; the best there is unless named.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images computed at once.")] = 32,
) -> None:
    """Rank images by log p(text | image); a broken one is named and passed over, and the exit code is 1.

    The images' features are kept on disk, so the next query reads no image.

    Example: mdnet retrieve "frequent mitosis, polarity lost" --in tiles/ --out found.html

    Example: mdnet retrieve --like tiles/p00000.png --in tiles/ --top 5 --json
    """
    from mdnet.errors import ConfigurationError
    from mdnet.inference.predictor import Predictor

    asked = {"a query": query, "--like": like, "--report-of": report_of}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ConfigurationError(
            f"{' and '.join(given) or 'nothing'} to search for: give one of a query, --like IMAGE and "
            "--report-of IMAGE"
        )
    if query is None and (as_written or exact or phrases):
        raise ConfigurationError("--as-written, --exact and --phrases are for a query: leave them out")
    if report_of is not None and (out or features):
        raise ConfigurationError(
            "--out and --features are for images, and --report-of finds reports: leave them out"
        )
    predictor = Predictor.from_pretrained(weights, device=device, batch_size=batch_size)
    if report_of is not None:
        print_reports(predictor, report_of, in_, top=top, json_=json_)
        return
    if like is not None:
        search = search_alike(predictor, like, in_, features, top=top)
    else:
        assert query is not None
        predictor.statements = phrase_reader(phrases, predictor.model)
        search = search_by_text(predictor, query, in_, features, top=top, exact=exact, as_written=as_written)
    if out is not None:
        write_sheet(predictor, search, out)
        typer.echo(str(out), err=True)
    if json_:
        typer.echo(json.dumps(search.to_list(), indent=1, ensure_ascii=False))
    else:
        for line in search.table():
            typer.echo(line)
    for message in search.searched.broken:
        typer.echo(f"mdnet: {message}", err=True)
    if search.searched.broken:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Search:
    """What was searched for, where, and what was found.

    Attributes:
        asked: In words.
        parts: Of the query; none of an image.
    """

    asked: str
    parts: list[PhrasedPart]
    searched: Searched
    found: list[RankedImage]

    def to_list(self) -> list[dict[str, Any]]:
        """As `--json` prints it."""
        return [each.to_dict(self.parts) | {"image": self.name_of(each)} for each in self.found]

    def table(self) -> list[str]:
        """Lines for a terminal: a head, and one an image."""
        rows = [["rank", "score", *(part.asked for part in self.parts), "diagnosis", "image"]]
        for each in self.found:
            sure = each.diagnosis
            said = "" if sure is None else f"{sure.label} ({sure.probability:.0%})"
            numbers = [f"{number:.3f}" for number in (each.hit.score, *each.parts)]
            rows.append([str(each.rank), *numbers, said, self.name_of(each)])
        return columns(rows)

    def name_of(self, each: RankedImage) -> str:
        """The image by the name of the folder that was searched."""
        return self.searched.name_of(each.hit.row)


def search_by_text(
    predictor: Predictor,
    query: str,
    folder: Path,
    features: Path | None,
    *,
    top: int,
    exact: bool,
    as_written: bool,
) -> Search:
    """The images that a query finds."""
    from mdnet.inference.retrieval.parsing import parse_query
    from mdnet.inference.retrieval.phrasing import as_it_stands, phrase_query
    from mdnet.inference.retrieval.ranking import rank_images
    from mdnet.inference.retrieval.searched import open_searched

    model, statements = predictor.model, predictor.statements
    parsed = parse_query(query, model, statements=statements)  # what is wrong is said before images are read
    searched = open_searched(folder, predictor, features=features)
    if as_written:
        parts = as_it_stands(parsed)
    else:
        parts = phrase_query(model, searched.store, parsed, statements=statements)
    for part in parts:
        typer.echo(f"mdnet: {part}", err=True)
    return Search(query, parts, searched, rank_images(model, searched.store, parts, top=top, exact=exact))


def search_alike(
    predictor: Predictor, image: Path, folder: Path, features: Path | None, *, top: int
) -> Search:
    """The images that are like another, which is not among them."""
    from mdnet.inference.retrieval.ranking import rank_alike
    from mdnet.inference.retrieval.searched import open_searched

    (pooled,) = predictor.pooled_features([image])
    searched = open_searched(folder, predictor, features=features)
    found = rank_alike(
        predictor.model, searched.store, pooled, top=top, but=str(image.parent.resolve() / image.name)
    )
    return Search(f"Images like {image}", [], searched, found)


def write_sheet(predictor: Predictor, search: Search, out: Path) -> None:
    """The HTML sheet of what was found."""
    from mdnet.data.views import picture_strip
    from mdnet.inference.retrieval.looking import looks_of
    from mdnet.report.retrieval_page import SheetRow, write_retrieval_page

    store, rows = search.searched.store, [each.hit.row for each in search.found]
    looks = [looks_of(predictor.model, store, part, rows) for part in search.parts]
    sheet = [
        SheetRow(
            each,
            search.searched.name_of(each.hit.row, in_folder=True),
            picture_strip(predictor.decoded([Path(path) for path in store.images[each.hit.row]])),
            [of_part[place] for of_part in looks],
        )
        for place, each in enumerate(search.found)
    ]
    write_retrieval_page(
        sheet,
        out,
        title=search.asked,
        parts=search.parts,
        model=predictor.name,
        folder=str(search.searched.folder),
        images=len(store),
    )


def print_reports(predictor: Predictor, image: Path, folder: Path, *, top: int, json_: bool) -> None:
    """Prints the reports of a data set with the greatest log p(report | image)."""
    from mdnet.data.readers import read_studies
    from mdnet.inference.retrieval.reports import rank_reports

    found = rank_reports(predictor, image, read_studies(folder).studies, top=top)
    if json_:
        typer.echo(json.dumps([each.to_dict() for each in found], indent=1, ensure_ascii=False))
        return
    heads = columns([["rank", "score", "study"], *([str(e.rank), f"{e.score:.3f}", e.study] for e in found)])
    typer.echo(heads[0])
    for head, each in zip(heads[1:], found, strict=True):
        typer.echo(f"{head}\n  {' '.join(each.report.values())}")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
