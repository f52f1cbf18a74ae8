"""Options that several commands take: how a data set is to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mdnet.data.readers.options import ReaderOptions

__all__ = ["Columns", "Format", "Uncertain", "columns_of", "reader_options"]

Format = Annotated[
    str | None, typer.Option(help="Reader of the data; by looking at it unless named.", show_default=False)
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="Column of a table, as role=name: id, image, report, label, patient or split, "
        "report.SECTION, label.ASPECT; repeat it for more.",
        show_default=False,
    ),
]
Uncertain = Annotated[
    str | None,
    typer.Option(
        help="What a label marked as uncertain is: missing, present, absent or class. [default: missing]",
        show_default=False,
    ),
]


def columns_of(columns: list[str] | None) -> dict[str, str]:
    """The columns by role, as `ReaderOptions.columns`."""
    from mdnet.errors import ConfigurationError

    found = {}
    for text in columns or ():
        role, sign, name = text.partition("=")
        if not (sign and role and name):
            raise ConfigurationError(f"--column {text}: write role=name, as in report=Findings")
        found[role.strip()] = name
    return found


def reader_options(columns: list[str] | None, uncertain: str | None) -> ReaderOptions:
    """What the options of a command say to a reader."""
    from mdnet.data.readers.options import ReaderOptions

    given = {} if uncertain is None else {"uncertain": uncertain}
    return ReaderOptions(columns_of(columns), **given)
