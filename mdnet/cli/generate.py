"""`mdnet generate`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdnet.cli import decoding_options as how
from mdnet.cli.options import Columns, reader_options

if TYPE_CHECKING:
    from mdnet.data.study import Fault
    from mdnet.inference.bulk.answering import AnsweredBatch
    from mdnet.inference.bulk.serving import Request
    from mdnet.inference.decoding_config import DecodingConfig
    from mdnet.inference.predictor import Predictor

__all__ = ["generate"]

_FORMATS = ("text", "jsonl", "html", "parquet")


def generate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders of images, globs, lists (.txt, .csv, .jsonl), data sets, shards (.tar)."
        ),
    ],
    weights: Annotated[
        str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")
    ] = "mdnet_tiny/phantom",
    format: Annotated[str, typer.Option(help="text, jsonl, parquet or html.")] = "text",
    out: Annotated[
        Path | None,
        typer.Option(help="File, or folder for html; stdout unless named. A file that is there stays."),
    ] = None,
    resume: Annotated[
        str, typer.Option(help="auto: go on with the file of a run that was stopped, if any; never.")
    ] = "never",
    abstain_below: Annotated[
        float | None, typer.Option(help="Give no diagnosis of a lower probability; the report stays.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Studies computed at once.")] = 32,
    workers: Annotated[int, typer.Option(help="Processes that read images; 0 reads in this one.")] = 0,
    column: Columns = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps; the best there is unless named.")
    ] = None,
    beams: how.Beams = None,
    length_penalty: how.LengthPenalty = None,
    no_repeat_ngram: how.NoRepeatNgram = None,
    best: how.Best = None,
    groups: how.Groups = None,
    diversity: how.Diversity = None,
    sample: how.Sample = False,
    temperature: how.Temperature = None,
    top_k: how.TopK = None,
    top_p: how.TopP = None,
    seed: how.Seed = None,
    alternatives: how.Alternatives = None,
    constrained: how.Constrained = False,
    phrases: how.Phrases = None,
) -> None:
    """Write reports for images; a broken one is named and passed over, and the exit code is 1.

    Every image is a study by itself, to a model of several views one that lacks the others; the studies
    of lists, data sets and shards have all their views. `accelerate launch -m mdnet.cli.main generate ...`
    shares them among processes.

    Example: mdnet generate slides/ --weights runs/x --format jsonl --out reports.jsonl --resume auto

    Example: mdnet generate slides/ --beams 5 --best 3 --constrained --format jsonl
    """
    from mdnet.errors import ConfigurationError

    if format not in _FORMATS:
        raise ConfigurationError(f"--format {format} is none of {', '.join(_FORMATS)}")
    if resume not in ("auto", "never"):
        raise ConfigurationError(f"--resume {resume} is none of auto, never")
    if abstain_below is not None and not 0 <= abstain_below <= 1:
        raise ConfigurationError(f"--abstain-below {abstain_below:g} is no probability; give 0 to 1")
    if format == "html" and out is None:
        raise ConfigurationError("--format html writes a page an image: name a folder with --out")
    if format == "parquet" and out is None:
        raise ConfigurationError("--format parquet writes no text: name a file with --out")
    if resume == "auto" and (out is None or format == "html"):
        raise ConfigurationError(
            "--resume auto goes on with a file: name one with --out, of text, jsonl or parquet"
        )
    if workers < 0:
        raise ConfigurationError(f"--workers {workers}: give 0 or more")
    if phrases is not None and not constrained:
        raise ConfigurationError(f"--phrases {phrases}: only --constrained reads it; add that")
    decoding = how.decoding_config(
        beams=beams,
        length_penalty=length_penalty,
        no_repeat_ngram=no_repeat_ngram,
        best=best,
        groups=groups,
        diversity=diversity,
        sample=sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        alternatives=alternatives,
        constrained=constrained,
    )

    from mdnet.inference.bulk.serving import Request, join_processes, serve

    request = Request(
        inputs=tuple(inputs),
        options=reader_options(column, None),
        weights=weights,
        format=format,
        decoding=decoding,
        phrases=phrases,
        abstain_below=abstain_below,
        batch_size=batch_size,
    )
    state = join_processes(device)

    def predict(decoding: DecodingConfig) -> Predictor:
        from mdnet.inference.predictor import Predictor

        where = str(state.device) if device is None and state.num_processes > 1 else device
        predictor = Predictor.from_pretrained(weights, device=where, batch_size=batch_size, decoding=decoding)
        predictor.statements = how.phrase_reader(phrases, predictor.model)
        return predictor

    if out is None or format == "html":
        if state.num_processes > 1:
            raise ConfigurationError(
                "several processes write a file: name it with --out, of text, jsonl or parquet"
            )
        broken = _write_here(request, predict, out, workers)
    else:
        if not state.is_main_process:
            logging.getLogger("mdnet").setLevel(logging.WARNING)  # the main process says the rest
        card = serve(request, out, predict, state=state, tell=_tell, resume=resume == "auto", workers=workers)
        if card is None or card.finished is None:  # another process tells
            return
        typer.echo(str(out), err=True)
        broken = card.finished["broken"]
    if broken:
        where = f": {out}.broken.jsonl" if out is not None and format != "html" else ""
        typer.echo(f"mdnet: no report for {broken} of the studies{where}", err=True)
        raise typer.Exit(1)


def _tell(fault: Fault) -> None:
    """Names a study that cannot be read."""
    typer.echo(f"mdnet: {fault.as_error()}", err=True)


def _write_here(
    request: Request, predict: Callable[[DecodingConfig], Predictor], pages: Path | None, workers: int
) -> int:
    """Writes reports to stdout, or to a folder of pages; how many studies have none."""
    from tqdm import tqdm

    from mdnet.inference.bulk.answering import answer
    from mdnet.inference.bulk.inputs import list_inputs
    from mdnet.inference.bulk.pages import write_pages
    from mdnet.inference.bulk.rows import WRITERS

    inputs = list_inputs(request.inputs, request.options)
    for fault in inputs.unreadable:
        _tell(fault)
    broken = len(inputs.unreadable)
    studies = len(inputs.studies)
    # A bar would stand between the lines that a terminal shows of the reports themselves.
    hidden = True if studies <= request.batch_size or sys.stdout.isatty() else None

    def answers() -> Iterator[AnsweredBatch]:
        nonlocal broken
        with tqdm(total=studies, disable=hidden, unit="study") as bar:
            for batch in answer(
                predict(request.decoding),
                inputs.studies,
                request.batches(studies),
                workers=workers,
                maps=pages is not None,
                abstain_below=request.abstain_below,
            ):
                yield batch
                bar.update(len(batch))
                broken += len(batch.unreadable)
                for fault in batch.unreadable:
                    _tell(fault)

    if pages is not None:
        for page in write_pages(answers(), inputs.studies, pages):
            typer.echo(str(page))
        return broken
    for batch in answers():
        for identifier, finding in batch.findings:
            typer.echo(WRITERS[request.format](identifier, finding))
    return broken
