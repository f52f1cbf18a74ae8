"""The `mdnet` command: its sub-commands, and one line for every error a user can mend.

Exit codes: 0 done; 1 the work failed, or found faults; 2 the call or its input was wrong. Everything
heavy is imported inside the commands, so `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import typer

from mdnet.cli import (
    calibrate,
    compare,
    counterfactual,
    data,
    evaluate,
    explain,
    export,
    generate,
    inspect,
    leaderboard,
    models,
    overview,
    retrieve,
    train,
)
from mdnet.errors import MDNetError

__all__ = ["app", "main"]

app = typer.Typer(
    name="mdnet",
    help="Diagnosis, report and exact evidence maps from an image, after MDNet (CVPR 2017). A research tool.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("generate")(generate.generate)
app.command("explain")(explain.explain)
app.command("counterfactual")(counterfactual.counterfactual)
app.command("calibrate")(calibrate.calibrate)
app.command("compare")(compare.compare)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("overview")(overview.overview)
app.command("retrieve")(retrieve.retrieve)
app.command("export")(export.export)
app.command("models")(models.models)
app.add_typer(inspect.app, name="inspect")
app.add_typer(data.app, name="data")


@app.callback()
def options(
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more of what is done."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say warnings and errors only."),
) -> None:
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("mdnet").setLevel(level)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and exits with its code.

    Args:
        arguments: The words behind `mdnet`; those of the process unless given.
    """
    try:
        code = app(args=list(arguments) if arguments is not None else None, prog_name="mdnet")
    except MDNetError as error:
        sys.exit(fail(str(error), 2))
    except BrokenPipeError:  # `mdnet ... | head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(fail(f"{where}{error.strerror or error}", 1))
    sys.exit(code)


def fail(message: str, code: int) -> int:
    """Says one line on stderr; gives `code` back."""
    sys.stderr.write(f"mdnet: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    main()
