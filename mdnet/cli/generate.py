"""`mdnet generate`."""

from __future__ import annotations

import glob
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdnet.cli import decoding_options as how

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mdnet.inference.finding import Finding
    from mdnet.inference.predictor import Predictor

__all__ = ["generate"]

_log = logging.getLogger(__name__)


def generate(
    inputs: Annotated[list[str], typer.Argument(help="Images, folders of images, or globs.")],
    weights: Annotated[
        str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")
    ] = "mdnet_tiny/phantom",
    format: Annotated[str, typer.Option(help="text, jsonl or html.")] = "text",
    out: Annotated[
        Path | None, typer.Option(help="File for text and jsonl, folder for html; stdout unless named.")
    ] = None,
    abstain_below: Annotated[
        float | None, typer.Option(help="Give no diagnosis of a lower probability; the report stays.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images computed at once.")] = 32,
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

    Every image is a study by itself, to a model of several views one that lacks the others.

    Example: mdnet generate slides/ --weights runs/x --format jsonl --out reports.jsonl

    Example: mdnet generate slides/ --beams 5 --best 3 --constrained --format jsonl
    """
    from mdnet.errors import ConfigurationError
    from mdnet.inference.predictor import Predictor

    if format not in ("text", "jsonl", "html"):
        raise ConfigurationError(f"--format {format} is none of text, jsonl, html")
    if abstain_below is not None and not 0 <= abstain_below <= 1:
        raise ConfigurationError(f"--abstain-below {abstain_below:g} is no probability; give 0 to 1")
    if format == "html" and out is None:
        raise ConfigurationError("--format html writes a page an image: name a folder with --out")
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
    paths = find_images(inputs)
    predictor = Predictor.from_pretrained(weights, device=device, batch_size=batch_size, decoding=decoding)
    predictor.statements = how.phrase_reader(phrases, predictor.model)
    broken: list[str] = []
    found = read_and_find(predictor, paths, broken)
    findings = (replace(finding, abstain_below=abstain_below) for finding in found)
    if format == "html":
        assert out is not None
        for finding in findings:
            typer.echo(str(finding.save_html(out / f"{page_name(finding.source, paths)}.html")))
    else:
        lines = (line_of(finding, format) for finding in findings)
        if out is None:
            for line in lines:
                typer.echo(line)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("w", encoding="utf-8") as file:  # line by line: what is written stays if killed
                for line in lines:
                    file.write(line + "\n")
            typer.echo(str(out), err=True)
    for message in broken:
        typer.echo(f"mdnet: {message}", err=True)
    if broken:
        raise typer.Exit(1)


def find_images(inputs: list[str]) -> list[Path]:
    """The images that files, folders (to the bottom) and globs name, each once, in order."""
    from mdnet.data.images import SUFFIXES
    from mdnet.errors import ConfigurationError

    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            matches = [
                p for p in sorted(path.rglob("*")) if p.name.lower().endswith(SUFFIXES) and p.is_file()
            ]
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207  (absolute too)
        if not matches:
            raise ConfigurationError(
                f"{text}: no image there; name an image, a folder that holds some, or a glob"
            )
        found |= dict.fromkeys(matches)
    return list(found)


def read_and_find(predictor: Predictor, paths: list[Path], broken: list[str]) -> Iterator[Finding]:
    """Findings of all images that can be read; the errors of the others go to `broken`."""
    from tqdm import tqdm

    from mdnet.data.images import load_image
    from mdnet.errors import ImageError

    sources: list[str] = []

    def readable() -> Iterator[npt.NDArray[np.uint8]]:
        for path in paths:
            try:
                image = load_image(path)
            except ImageError as error:
                broken.append(str(error))
                continue
            sources.append(str(path))
            yield image

    # A bar would stand between the lines that a terminal shows of the reports themselves.
    hidden = True if len(paths) <= predictor.batch_size or sys.stdout.isatty() else None
    bar = tqdm(total=len(paths), disable=hidden, unit="image")
    for index, finding in enumerate(predictor.stream(readable())):
        bar.update()
        yield replace(finding, source=sources[index])
    bar.close()


def line_of(finding: Finding, format: str) -> str:
    """One finding as JSON, or as text: the image, the diagnosis, the report."""
    if format == "jsonl":
        return json.dumps(finding.to_dict(), ensure_ascii=False)
    head = finding.source
    if finding.label_space.diagnosis is not None:
        head += f": {finding.verdict}"
    if finding.unusualness is not None and finding.unusualness.beyond_threshold:
        head += f", out of distribution: {finding.unusualness}"
    lines = [head, f"  {finding.report.text}"] if finding.report.text else [head]
    for section in finding.report.sections.values():
        if section.agrees is False:
            lines.append(f"  {section.name}: no text found states {section.guided_by}")
        lines += [f"  {section.name}, or: {other.text}" for other in section.others]
    return "\n".join(lines)


def page_name(source: str, paths: list[Path]) -> str:
    """The image's name without its ending; with its folders where two images share a name."""
    path = Path(source)
    same = sum(other.stem == path.stem for other in paths)
    return (
        path.stem
        if same == 1
        else "_".join(path.with_suffix("").parts).strip("/_.") + path.suffix.replace(".", "_")
    )
