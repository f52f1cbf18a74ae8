"""`mdnet evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, typer.Option(help="Run folder, as `mdnet train --out` made it.")],
    split: Annotated[str, typer.Option(help="Split to score on.")] = "test",
    data: Annotated[Path | None, typer.Option(help="Another data set than the run's own.")] = None,
    format: Annotated[str | None, typer.Option(help="Reader of that data.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Score a run: metrics.json, predictions.jsonl and index.html in its folder.

    Example: mdnet evaluate --run runs/x --split test
    """
    from mdnet.training.evaluate_run import evaluate_run

    result = evaluate_run(run, split=split, data=data, format=format)
    if json_:
        typer.echo(json.dumps(result.metrics, indent=2))
        return
    for name, value in summary(result.metrics):
        typer.echo(f"{name:<44} {value:>8.3f}")
    for file in ("model", "metrics.json", "predictions.jsonl", "index.html"):
        typer.echo(str(run / file))


def summary(metrics: dict[str, Any]) -> list[tuple[str, float]]:
    """The few numbers that say most, with the baselines that they are read against."""
    baselines = metrics.get("baselines", {})
    rows: list[tuple[str, float | None]] = [("studies", metrics["studies"])]
    for name, aspect in metrics.get("aspects", {}).items():
        rows.append((f"{name}: accuracy", aspect["accuracy"]))
        rows.append(
            (
                f"{name}: accuracy of the majority class",
                baselines.get("majority", {}).get(name, {}).get("accuracy"),
            )
        )
    rows.append(("mean accuracy of the aspects", metrics.get("mean_aspect_accuracy")))
    rows.append(("sections that state the true class", metrics.get("statements", {}).get("true")))
    for metric in ("bleu_4", "rouge_l", "cider"):
        rows.append((f"text: {metric}", metrics.get("text", {}).get(metric)))
        rows.append(
            (f"text: {metric} of a constant report", baselines.get("constant_report", {}).get(metric))
        )
        rows.append((f"text: {metric}, images shuffled", baselines.get("shuffled", {}).get(metric)))
    rows.append(("text: share of distinct reports", metrics.get("text", {}).get("distinct_share")))
    for aspect, kinds in metrics.get("grounding", {}).items():
        for kind, classes in kinds.items():
            if not isinstance(classes, dict):
                rows.append((f"{aspect}: {kind}", classes))
                continue
            for label, values in classes.items():
                rows.append((f"{aspect} {label}: {kind} peak in mask", values["pointing"]))
                rows.append((f"{aspect} {label}: mask's share of the area", values["chance"]))
    seen: dict[str, float] = {}
    for name, value in rows:
        if value is not None:
            seen.setdefault(name, float(value))
    return list(seen.items())
