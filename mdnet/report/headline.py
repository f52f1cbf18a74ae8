"""The few numbers of an evaluation that a reader takes home, each less what it must be read against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mdnet.report.digest import Measured, measured

__all__ = ["Headline", "headlines"]

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Headline:
    """One number.

    Attributes:
        against: What stands beside it, and how that scores; None where it is read alone.
        difference: Paired, on the same studies.
    """

    name: str
    value: Measured
    against: str = ""
    reference: Measured | None = None
    difference: Measured | None = None

    @property
    def outcome(self) -> str:
        """What the interval of the difference proves: "better", "worse" or "not proven"; "" without one."""
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return ""
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else "not proven"


def headlines(metrics: Metrics) -> list[Headline]:
    """Diagnosis, report, maps and statements, as far as they were measured.

    Args:
        metrics: As in `metrics.json`.
    """
    compared = metrics.get("comparisons", {})
    return [
        *_diagnosis(metrics, compared),
        *_report(metrics, compared),
        *_maps(metrics, compared),
    ]


def _diagnosis(metrics: Metrics, compared: Metrics) -> Iterator[Headline]:
    accuracy = measured(metrics, "diagnosis.accuracy", metrics.get("diagnosis", {}).get("accuracy"))
    if accuracy is None:
        return
    difference = _difference(compared.get("diagnosis_minus_majority"))
    # The baseline of the same studies as the difference.
    reference = None if difference is None else Measured(accuracy.value - difference.value)
    yield Headline(
        "Diagnosis: accuracy", accuracy, "the commonest class" if reference else "", reference, difference
    )


def _report(metrics: Metrics, compared: Metrics) -> Iterator[Headline]:
    text, baselines = metrics.get("text"), metrics.get("baselines", {})
    if text is not None:
        constant = compared.get("report_minus_constant", {})
        other = {"cider": compared.get("own_minus_other_references")}
        for name, against, scores, differences in (
            ("bleu_4", "one report for all", baselines.get("constant_report"), constant),
            ("cider", "one report for all", baselines.get("constant_report"), constant),
            ("cider", "images shuffled", baselines.get("shuffled"), other),
        ):
            value = measured(metrics, f"text.{name}", text[name])
            if value is not None and scores:
                title = {"bleu_4": "Report: BLEU-4", "cider": "Report: CIDEr"}[name]
                reference = Measured(scores[name])
                yield Headline(title, value, against, reference, _difference(differences.get(name)))
    likelihood = metrics.get("likelihood")
    if likelihood:
        yield Headline(
            "Reference report: log probability, nats",
            Measured(likelihood["own_image"], digits=1),
            "on other images",
            Measured(likelihood["other_images"], digits=1),
            _difference(compared["own_minus_other_images"], digits=1),
        )
    if metrics.get("statements"):
        true = measured(metrics, "statements.true", metrics["statements"]["true"])
        if true is not None:
            yield Headline("Text states the true class", true)


def _maps(metrics: Metrics, compared: Metrics) -> Iterator[Headline]:
    for kind in ("evidence", "attention"):
        groups = [
            values
            for kinds in metrics.get("grounding", {}).values()
            for values in (kinds.get(kind) or {}).values()
        ]
        studies = sum(values["studies"] for values in groups)
        if studies:
            pointing, chance = (
                sum(values["studies"] * values[name] for values in groups) / studies
                for name in ("pointing", "chance")
            )
            yield Headline(
                f"{kind.capitalize()}: peak inside the mask",
                Measured(pointing),
                "the mask’s share of the area",
                Measured(chance),
                _difference(compared.get(f"{kind}_minus_chance")),
            )


def _difference(compared: Metrics | None, *, digits: int = 3) -> Measured | None:
    if compared is None:
        return None
    return Measured(compared["difference"], compared["low"], compared["high"], digits)
