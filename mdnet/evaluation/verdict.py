"""The evaluation in words: short sentences, each drawn from numbers in `metrics.json` and their intervals.

A difference counts when its 95% interval leaves out 0; too few patients are said to be too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import pi, sqrt
from typing import Any

from mdnet.evaluation.record import count_in_words

__all__ = ["verdict"]

_FEW = 20  # fewer patients than these prove nothing by not differing
_HARDLY = 0.1  # share of the reports' score that must be lost on other studies' references
_ALIKE = 0.1  # share of studies with the same report that is worth a sentence
_OFF = 0.1  # calibration error, above that of true probabilities, that is worth a sentence

Metrics = Mapping[str, Any]


def verdict(metrics: Metrics) -> list[str]:
    """Sentences in order of weight: do the reports come from the image, are they better than one for all,
    is the diagnosis, do the maps lie on what was found.

    Args:
        metrics: As in `metrics.json`, with `comparisons` and `baselines`; what is not there is not spoken of.
    """
    return [
        *_dependence(metrics),
        *_constant(metrics),
        *_sameness(metrics),
        *_diagnosis(metrics),
        *_maps(metrics),
        *_statements(metrics),
    ]


def _dependence(metrics: Metrics) -> Iterator[str]:
    compared = metrics["comparisons"].get("own_minus_other_references")
    if compared is None:
        return
    own, other = metrics["text"]["cider"], metrics["baselines"]["shuffled"]["cider"]
    numbers = (
        f"they score CIDEr {own:.2f} against their own studies' references and {other:.2f} against other "
        f"studies' ({_interval(compared)})"
    )
    likelihood = metrics["comparisons"].get("own_minus_other_images")
    if _above(compared):
        hardly = compared["difference"] < _HARDLY * own
        yield f"The reports {'hardly depend' if hardly else 'depend'} on the image: {numbers}."
    elif _few(compared):
        yield f"{_counted(compared)} are too few to tell whether the reports depend on the image: {numbers}."
    elif likelihood is None:
        yield f"The reports do not depend on the image: {numbers}."
    else:
        gain = f"by {likelihood['difference']:.2f} nats, {_interval(likelihood)}"
        if _above(likelihood):
            yield (
                f"The written reports do not depend on the image: {numbers}; yet a study's own image makes "
                f"its reference likelier than other images do ({gain})."
            )
        else:
            yield (
                f"The reports do not depend on the image: {numbers}; nor does a study's own image make its "
                f"reference likelier than other images do ({gain})."
            )


def _constant(metrics: Metrics) -> Iterator[str]:
    compared = metrics["comparisons"].get("report_minus_constant")
    if compared is None:
        return
    ours, theirs = metrics["text"], metrics["baselines"]["constant_report"]
    numbers = " and ".join(
        f"{title} {theirs[name]:.3f} (the model's: {ours[name]:.3f})"
        for name, title in (("bleu_4", "BLEU-4"), ("cider", "CIDEr"))
    )
    if any(_below(each) for each in compared.values()):
        yield f"One report for all studies would score higher: {numbers}."
    elif not all(_above(each) for each in compared.values()):
        yield f"One report for all studies would not surely score lower: {numbers}."
    else:
        yield f"One report for all studies would score lower: {numbers}."


def _sameness(metrics: Metrics) -> Iterator[str]:
    text = metrics.get("text")
    if text is None or metrics["studies"] < 2:
        return
    share, people = text["commonest_share"], text["reference_commonest_share"]
    if share >= _ALIKE and share * metrics["studies"] > 1.5:
        same = f"{share:.0%} of the studies got word for word the same report"
        yield f"{same} (in the references: {people:.0%})."


def _diagnosis(metrics: Metrics) -> Iterator[str]:
    compared = metrics["comparisons"].get("diagnosis_minus_majority")
    if compared is None:
        return
    accuracy = metrics["diagnosis"]["accuracy"]
    # The baseline of the same studies as the difference.
    numbers = f"{accuracy:.1%} right against {accuracy - compared['difference']:.1%} ({_interval(compared)})"
    better = (
        "better"
        if _above(compared)
        else "worse"
        if _below(compared)
        else "not surely better"
        if _few(compared)
        else "no better"
    )
    yield f"The diagnosis is {better} than the commonest class for all: {numbers}."
    error = metrics["diagnosis"].get("ece")
    if error is not None and error >= _OFF + _chance_error(metrics) and not _few(compared):
        yield (
            f"The diagnosis's probabilities cannot be taken at their word: they are off by {error:.0%} on "
            "average (ECE)."
        )


def _maps(metrics: Metrics) -> Iterator[str]:
    for kind, subject in (("evidence", "The evidence"), ("attention", "The attention")):
        compared = metrics["comparisons"].get(f"{kind}_minus_chance")
        if compared is None:
            continue
        gain = f"{100 * compared['difference']:+.0f} points, {_interval(compared, scale=100)}"
        if _above(compared):
            yield f"{subject} peaks on the masks more often than chance ({gain})."
        else:
            proven = "surely " if _few(compared) else ""
            yield f"{subject} does not {proven}peak on the masks more often than chance ({gain})."


def _statements(metrics: Metrics) -> Iterator[str]:
    statements = metrics.get("statements")
    if not statements:
        return
    sentence = (
        f"The text states the true class in {statements['true']:.1%} of the cases and none in "
        f"{statements['silent']:.1%}"
    )
    if statements["contradiction"] is not None:
        contradicted = f"{statements['contradiction']:.1%}"
        sentence += f"; where it states one, it contradicts the model's own class in {contradicted}"
    yield f"{sentence}."


def _chance_error(metrics: Metrics) -> float:
    """About the calibration error that as many answers would show if every probability were true.

    The mean distance of a bin's accuracy from its expectation p is sqrt(2 p (1 - p) / (pi n)).
    """
    bins = [each for each in metrics.get("calibration", {}).get("reliability", ()) if each["count"]]
    spread = (each["count"] * each["confidence"] * (1 - each["confidence"]) for each in bins)
    total = sum(each["count"] for each in bins)
    return sum(sqrt(2 * max(each, 0.0) / pi) for each in spread) / total if total else 0.0


def _few(compared: Metrics) -> bool:
    return compared["low"] is None or compared["patients"] < _FEW


def _counted(compared: Metrics) -> str:
    return count_in_words(compared["studies"], compared["patients"])


def _above(compared: Metrics) -> bool:
    return compared["low"] is not None and compared["low"] > 0


def _below(compared: Metrics) -> bool:
    return compared["high"] is not None and compared["high"] < 0


def _interval(compared: Metrics, *, scale: float = 1.0) -> str:
    """The interval of a difference in words."""
    if compared["low"] is None:
        return f"{_counted(compared)}, too few for an interval"
    low, high = scale * compared["low"], scale * compared["high"]
    digits = 0 if scale > 1 else 2
    return f"95% interval of the difference {low:.{digits}f} to {high:.{digits}f}, {_counted(compared)}"
