"""What a weights card carries of `metrics.json`, and whether fresh data bear it out.

A card's numbers come from a few hundred studies, and so do those that they are checked by: two samples
differ, of one model too. They bear each other out where they differ by at most three standard errors of the
difference, which has a part from each sample. A share p of n studies has the variance p (1 - p) / n, and so
has, at most, the mean over studies of any number between 0 and 1. What is no such mean (BLEU, CIDEr) has the
error that its bootstrap interval tells.

Compared are numbers over all aspects and classes: they have more studies behind them than one aspect's, and
they are few. Of nine of them, fewer than one in 40 checks goes wrong by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

from mdnet.models.weights_card import WeightsCard, flat_metrics

__all__ = ["Comparison", "compare_with_card", "headline"]

_SIGMAS = 3.0
_NORMAL_95 = 1.959964  # half a 95% interval, in standard deviations
_TEXT = ("bleu_4", "rouge_l", "cider")


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `metrics.json` that a card carries; of what was not measured, nothing."""
    found: dict[str, Any] = {
        "studies": metrics["studies"],
        "aspects": {name: {"accuracy": aspect["accuracy"]} for name, aspect in metrics["aspects"].items()},
        "mean_aspect_accuracy": metrics["mean_aspect_accuracy"],
    }
    if "statements" in metrics:
        found["statements"] = {"true": metrics["statements"]["true"]}
    if "text" in metrics:
        found["text"] = {name: metrics["text"][name] for name in (*_TEXT, "distinct_share")}
    if "grounding" in metrics:
        found["grounding"] = {
            aspect: {kind: _grounding(classes) for kind, classes in kinds.items()}
            for aspect, kinds in metrics["grounding"].items()
        }
    found["baselines"] = _baselines(metrics["baselines"])
    told = {name for name, _ in flat_metrics(found)}
    found["intervals"] = {name: bounds for name, bounds in metrics["intervals"].items() if name in told}
    return found


@dataclass(frozen=True)
class Comparison:
    """One number on a card and on fresh data.

    Attributes:
        name: As in `metrics.json`; of several classes or aspects, their mean.
        card: What the card says.
        fresh: What was measured.
        tolerance: By how much they may differ.
    """

    name: str
    card: float
    fresh: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether they bear each other out."""
        return abs(self.fresh - self.card) <= self.tolerance + 1e-9  # rounding, where both are of one sample


def compare_with_card(card: WeightsCard, metrics: Mapping[str, Any]) -> list[Comparison]:
    """The numbers of a card beside those of fresh data.

    Args:
        card: With metrics as `headline` gives them.
        metrics: Of the fresh data, as in `metrics.json`.
    """
    told, fresh = dict(_shares(card.metrics)), dict(_shares(metrics))
    found = [
        Comparison(name, told[name].value, fresh[name].value, _SIGMAS * _share_error(told[name], fresh[name]))
        for name in told
        if name in fresh
    ]
    ratio = card.metrics["studies"] / metrics["studies"]
    for name in _TEXT:
        bounds = card.metrics.get("intervals", {}).get(f"text.{name}")
        if bounds is not None:
            error = (bounds[1] - bounds[0]) / (2 * _NORMAL_95)  # of the card's sample
            tolerance = _SIGMAS * error * sqrt(1 + ratio)
            values = card.metrics["text"][name], metrics["text"][name]
            found.append(Comparison(f"text.{name}", *values, tolerance))
    return found


class _Share(NamedTuple):
    """A mean over so many studies (or maps) of numbers between 0 and 1."""

    value: float
    of: int


def _share_error(first: _Share, second: _Share) -> float:
    """Standard error of the difference of two shares, were they of one and the same probability."""
    pooled = (first.value * first.of + second.value * second.of) / (first.of + second.of)
    return sqrt(pooled * (1 - pooled) * (1 / first.of + 1 / second.of))


def _shares(metrics: Mapping[str, Any]) -> Iterator[tuple[str, _Share]]:
    """What is compared; the pointing of every aspect and kind of map, whatever the class."""
    studies = metrics["studies"]
    yield "mean_aspect_accuracy", _Share(metrics["mean_aspect_accuracy"], studies)
    if "statements" in metrics:
        yield "statements.true", _Share(metrics["statements"]["true"], studies)
    for aspect, kinds in metrics.get("grounding", {}).items():
        for kind, classes in kinds.items():
            if isinstance(classes, Mapping):
                of = sum(each["studies"] for each in classes.values())
                hits = sum(each["pointing"] * each["studies"] for each in classes.values())
                yield f"grounding.{aspect}.{kind}.pointing", _Share(hits / of, of)


def _grounding(classes: Any) -> Any:
    """Class by class; the tissue's shares are numbers and stay."""
    if not isinstance(classes, Mapping):
        return classes
    kept = ("studies", "pointing", "energy", "chance")
    return {label: {name: measured[name] for name in kept} for label, measured in classes.items()}


def _baselines(baselines: Mapping[str, Any]) -> dict[str, Any]:
    """Of the commonest class, and of one report for all."""
    found: dict[str, Any] = {
        "majority": {name: {"accuracy": each["accuracy"]} for name, each in baselines["majority"].items()}
    }
    if "constant_report" in baselines:
        found["constant_report"] = {name: baselines["constant_report"][name] for name in _TEXT}
    return found
