"""`mdnet explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdnet.cli.options import Columns, Uncertain, reader_options

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mdnet.data.readers.options import ReaderOptions
    from mdnet.data.study import StudySet
    from mdnet.explain.explanation import Explanation
    from mdnet.explain.targets import Target
    from mdnet.inference.finding import Finding
    from mdnet.inference.predictor import Predictor
    from mdnet.report.explain_page import Entry

__all__ = ["explain"]


def explain(
    inputs: Annotated[list[str] | None, typer.Argument(help="Images, folders of images, or globs.")] = None,
    weights: Annotated[
        str, typer.Option(help="A name of `mdnet models`, a run or model folder, or a hub id.")
    ] = "mdnet_tiny/phantom",
    method: Annotated[
        list[str] | None, typer.Option(help="Method, several by commas or repeated, or `all`.")
    ] = None,
    aspect: Annotated[str | None, typer.Option(help="Aspect; the diagnosis unless named.")] = None,
    label: Annotated[str | None, typer.Option(help="Class; the model's own answer unless named.")] = None,
    against: Annotated[str | None, typer.Option(help="A second class, to explain the difference.")] = None,
    section: Annotated[str | None, typer.Option(help="Explain this section of the report.")] = None,
    word: Annotated[int | None, typer.Option(help="Explain this word of the section only, from 1.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Explain the whole report.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A method's setting: occlusion.window=16.")
    ] = None,
    format: Annotated[str, typer.Option(help="html, png, npz, or several by commas.")] = "html",
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("explanations"),
    seed: Annotated[int, typer.Option(help="Seed of the methods that draw random numbers.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the best unless named.")] = None,
    list_methods: Annotated[bool, typer.Option("--list-methods", help="Name the methods.")] = False,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Measure all methods on a data set, named in place of images.")
    ] = False,
    few: Annotated[
        int, typer.Option(help="With --benchmark: studies for methods that need many passes.")
    ] = 100,
    reader: Annotated[
        str | None, typer.Option(help="With --benchmark: reader of the data; by looking at it unless named.")
    ] = None,
    column: Columns = None,
    uncertain: Uncertain = None,
    json_: Annotated[bool, typer.Option("--json", help="Print what was made as JSON lines.")] = False,
) -> None:
    """Draw maps over images that say why, side by side on one page; or put the methods to the proof.

    Example: mdnet explain tiles/ --aspect mitosis --method evidence,grad_cam,occlusion --out why

    Example: mdnet explain DATA --benchmark --aspect mitosis --out proof
    """
    from mdnet.errors import ConfigurationError
    from mdnet.explain.targets import ClassTarget, ReportTarget, SectionTarget, WordTarget
    from mdnet.inference.bulk.inputs import find_images
    from mdnet.inference.predictor import Predictor

    if list_methods:
        for line in method_lines():
            typer.echo(line)
        return
    if not inputs:
        raise ConfigurationError("name images or a folder of them, or --list-methods")
    if benchmark:
        given: dict[str, Any] = {"--label": label, "--against": against, "--section": section}
        given |= {"--word": word, "--report": report, "--set": set_}
        if odd := [option for option, value in given.items() if value]:
            raise ConfigurationError(
                "--benchmark explains true classes against the reference, by methods at their defaults: "
                f"leave out {', '.join(odd)}"
            )
        predictor = Predictor.from_pretrained(weights, device=device)
        names = None if method is None or "all" in split_names(method) else split_names(method)
        studies = read_benchmarked(inputs, format=reader, options=reader_options(column, uncertain))
        run_benchmark(predictor, studies, aspect, names, few=few, seed=seed, out=out, json_=json_)
        return
    if reader or column or uncertain:
        raise ConfigurationError("--reader, --column and --uncertain read a data set: add --benchmark")
    formats = split_formats(format)
    named = [name for name, given in (("--section", section), ("--report", report)) if given]
    if len(named) > 1 or (named and (aspect or label or against)) or (word is not None and section is None):
        raise ConfigurationError(
            "explain one thing: --aspect, --label and --against, or --section and maybe --word, or --report"
        )
    if word is not None and word < 1:
        raise ConfigurationError(f"--word {word}: words count from 1")
    target: Target | Callable[[Finding], Target] = ClassTarget(aspect, label, against)
    kind: type = ClassTarget
    if word is not None and section is not None:
        target, kind = partial(WordTarget.of, section=section, position=word - 1), WordTarget
    elif section is not None:
        target, kind = partial(SectionTarget.of, section=section), SectionTarget
    elif report:
        target, kind = ReportTarget.of, ReportTarget
    settings = settings_of(method or [usual_method(kind)], set_ or [], kind)
    paths = find_images(inputs)
    predictor = Predictor.from_pretrained(weights, device=device)
    broken: list[str] = []
    pages = ExplanationFolder(out, formats, paths)
    for path, explanations in explained(predictor, paths, settings, target, seed, broken):
        for file in pages.write(path, explanations):
            if not json_:
                typer.echo(str(file))
        if json_:
            for each in explanations:
                typer.echo(json.dumps(each.to_dict()))
    if (index := pages.write_index()) and not json_:
        typer.echo(str(index))
    for message in broken:
        typer.echo(f"mdnet: {message}", err=True)
    if broken:
        raise typer.Exit(1)


def read_benchmarked(inputs: list[str], *, format: str | None, options: ReaderOptions) -> StudySet:
    """The one data set that a benchmark takes."""
    from mdnet.data.readers import read_studies
    from mdnet.errors import ConfigurationError

    if len(inputs) != 1:
        raise ConfigurationError(f"--benchmark takes one data set, not {len(inputs)} paths")
    return read_studies(Path(inputs[0]), format=format, options=options)


def run_benchmark(
    predictor: Predictor,
    data: StudySet,
    aspect: str | None,
    methods: list[str] | None,
    *,
    few: int,
    seed: int,
    out: Path,
    json_: bool,
) -> None:
    """Measures methods on a data set; prints the table and saves it."""
    from mdnet.errors import ConfigurationError
    from mdnet.explain.faithfulness.benchmark import benchmark

    name = aspect or predictor.model.config.space.diagnosis
    if name is None:
        raise ConfigurationError("the model has no diagnosis: name an --aspect")
    table = benchmark(predictor, data.studies, aspect=name, methods=methods, few=few, seed=seed)
    files = table.save(out)
    typer.echo(files[0].read_text(encoding="utf-8") if json_ else table.markdown())
    for file in files:
        typer.echo(str(file), err=True)


def method_lines() -> list[str]:
    """Every method with what it draws, its settings and its unit."""
    from mdnet.explain.registry import get_method, list_methods

    lines = []
    for method in map(get_method, list_methods()):
        mark = " (by design)" if method.by_design else ""
        lines.append(f"{method.name}{mark}: {method.summary}")
        settings = ", ".join(f"{name}={value}" for name, value in method.parameters.items())
        lines.append(
            f"    {settings or 'no settings'}; unit: {method.unit.format(unit='that of the target')}"
        )
    return lines


def split_names(texts: list[str]) -> list[str]:
    """The names of an option that takes several by commas."""
    return [name.strip() for text in texts for name in text.split(",")]


def split_formats(text: str) -> list[str]:
    """The formats of `--format`."""
    from mdnet.errors import ConfigurationError

    formats = split_names([text])
    if odd := [name for name in formats if name not in ("html", "png", "npz")]:
        raise ConfigurationError(f"--format {odd[0]} is none of html, png, npz")
    return formats


def usual_method(kind: type) -> str:
    """The map by design of a kind of target."""
    by_kind = {
        "WordTarget": "attention",
        "SectionTarget": "section_attention",
        "ReportTarget": "report_attention",
    }
    return by_kind.get(kind.__name__, "evidence")


def settings_of(methods: list[str], pairs: list[str], kind: type) -> dict[str, dict[str, Any]]:
    """Each chosen method with the settings that `--set METHOD.NAME=VALUE` gives it."""
    import yaml

    from mdnet.errors import ConfigurationError
    from mdnet.explain.registry import get_method, list_methods

    names = split_names(methods)
    if "all" in names:
        names = [name for name in list_methods() if kind in get_method(name).targets]
    chosen: dict[str, dict[str, Any]] = {get_method(name).name: {} for name in names}
    for pair in pairs:
        place, equals, value = pair.partition("=")
        method, dot, name = place.partition(".")
        if not (equals and dot):
            raise ConfigurationError(f"--set {pair}: write METHOD.NAME=VALUE, as in occlusion.window=16")
        if method not in chosen:
            raise ConfigurationError(f"--set {pair}: {method} is not among --method {', '.join(chosen)}")
        try:
            chosen[method][name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"--set {pair}: the value is no YAML") from error
    return chosen


def explained(
    predictor: Predictor,
    paths: list[Path],
    settings: Mapping[str, Mapping[str, Any]],
    target: Target | Callable[[Finding], Target],
    seed: int,
    broken: list[str],
) -> Iterator[tuple[Path, list[Explanation]]]:
    """Each readable image with one explanation a method, a batch of images at a time."""
    from dataclasses import replace

    from tqdm import tqdm

    from mdnet.data.images import load_image
    from mdnet.errors import ImageError
    from mdnet.explain.registry import explain as explain_images

    hidden = True if sys.stdout.isatty() else None
    with tqdm(total=len(paths), disable=hidden, unit="image") as bar:
        for start in range(0, len(paths), predictor.batch_size):
            batch = paths[start : start + predictor.batch_size]
            pictures: dict[Path, npt.NDArray[np.uint8]] = {}
            for path in batch:
                try:
                    pictures[path] = load_image(path)
                except ImageError as error:
                    broken.append(str(error))
            drawn = [
                explain_images(
                    predictor, list(pictures.values()), method=method, target=target, seed=seed, **chosen
                )
                for method, chosen in settings.items()
            ]
            for path, explanations in zip(pictures, zip(*drawn, strict=True), strict=True):
                yield path, [replace(each, source=str(path)) for each in explanations]
            bar.update(len(batch))


class ExplanationFolder:
    """Files of explanations in one folder: a page, a picture and arrays for each image, and an index."""

    def __init__(self, folder: Path, formats: list[str], paths: list[Path]) -> None:
        from mdnet.inference.bulk.pages import PageNames

        self.folder = folder
        self.formats = formats
        self.names = PageNames(paths)
        self.entries: list[Entry] = []

    def write(self, path: Path, explanations: list[Explanation]) -> list[Path]:
        """The files of one image, written."""
        from mdnet.report.explain_page import Entry, write_explain_page
        from mdnet.report.explanation_picture import save_picture

        stem = self.names.of(path)
        files = []
        if "html" in self.formats:
            files.append(write_explain_page(explanations, self.folder / f"{stem}.html"))
            self.entries.append(Entry.of(files[0], explanations[0]))
        if "png" in self.formats:
            files.append(save_picture(explanations, self.folder / f"{stem}.png"))
        if "npz" in self.formats:
            files += [each.save_npz(self.folder / f"{stem}_{each.method}.npz") for each in explanations]
        return files

    def write_index(self) -> Path | None:
        """The index of the pages, where there are several."""
        from mdnet.report.explain_page import write_explain_index

        if len(self.entries) < 2:
            return None
        return write_explain_index(self.entries, self.folder / "index.html")
