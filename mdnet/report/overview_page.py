"""The folder of an overview: numbers as JSON, a page that holds it together, and the pages it links to."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from mdnet.explain.overview.embedding import METHODS
from mdnet.explain.overview.scales import scale_lines
from mdnet.explain.overview.summary import Overview
from mdnet.files import file_name, write_text
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor
from mdnet.report.errors_page import write_errors_page
from mdnet.report.figures import save_figure
from mdnet.report.page import render_page
from mdnet.report.scales_picture import scales_picture
from mdnet.report.scatter_page import METHOD_TITLES, SPACE_TITLES, write_scatter_page

__all__ = ["write_overview"]


def write_overview(overview: Overview, predictor: Predictor, folder: Path, *, data: str) -> list[Path]:
    """Writes index.html, overview.json, scatter.html, scales.png and errors.html with its findings.

    Args:
        overview: What was found.
        predictor: Looks again at the studies whose errors are shown: their maps were not kept.
        folder: Where to; made if need be.
        data: What the index calls the data set.
    """
    files = [
        write_text(folder / "overview.json", json.dumps(overview.to_dict(), indent=1, allow_nan=False) + "\n")
    ]
    files.append(write_scatter_page(overview, folder / "scatter.html"))
    if overview.scales:
        files.append(save_figure(scales_picture(overview.scales), folder / "scales.png"))
    if overview.errors:
        findings = found_again(overview, predictor)
        pages = {
            study: finding.save_html(folder / "errors" / f"{file_name(study)}.html")
            for study, finding in findings.items()
        }
        files.append(
            write_errors_page(
                folder / "errors.html",
                model=overview.model,
                studies=len(overview.observations),
                errors=overview.errors,
                cases=overview.cases,
                findings=findings,
                pages=pages,
            )
        )
    files.append(_write_index(overview, folder, data))
    return files


def found_again(overview: Overview, predictor: Predictor) -> Mapping[str, Finding]:
    """Study id to the finding of every study whose error is shown, with its maps."""
    places = {case.study: case.place for case in overview.cases}
    studies = [overview.observations[place].record.study for place in places.values()]
    return dict(zip(places, predictor.stream(studies), strict=True))


def _write_index(overview: Overview, folder: Path, data: str) -> Path:
    scales = None
    if overview.scales:
        scales = f"data:image/png;base64,{base64.b64encode((folder / 'scales.png').read_bytes()).decode()}"
    # A space's own numbers are the same whatever the method, so one embedding of each will do.
    spaces = {embedding.space: embedding for embedding in overview.embeddings}
    html = render_page(
        "overview_page.html",
        script="scatter.js",
        overview=overview,
        data=data,
        spaces=[(SPACE_TITLES[name], embedding) for name, embedding in spaces.items()],
        methods=[METHOD_TITLES[name] for name in METHODS if name in {e.method for e in overview.embeddings}],
        scales=scales,
        scale_text="\n".join(scale_lines(overview.scales)),
    )
    return write_text(folder / "index.html", html)
