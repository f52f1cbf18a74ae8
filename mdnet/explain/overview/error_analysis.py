"""Where the model errs: rates by aspect and class with intervals, and the errors it was surest of.

Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927 (the interval,
which keeps its level for rates near 0, where the textbook one does not). It counts studies as
independent; several of one patient make the truth less certain than it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mdnet.data.study import MISSING, Aspect
from mdnet.evaluation.record import StudyRecord, is_right, target_of

__all__ = ["AspectErrors", "ErrorCase", "ErrorRate", "aspect_errors", "confident_errors", "error_rate"]

NO_LABEL = "no label"


@dataclass(frozen=True)
class ErrorRate:
    """Errors among studies: the share, and its 95% interval by Wilson."""

    errors: int
    studies: int
    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.rate:.1%} ({self.errors} of {self.studies}; 95% {self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class AspectErrors:
    """Errors of one aspect.

    Attributes:
        aspect: Its name.
        overall: Over every study with a label; of a multi-label aspect all classes must be right.
        by_class: By true class; of a multi-label aspect each class by itself, wrong either way.
        by_answer: By predicted class: how far an answer can be trusted; empty if multi-label.
        by_aspect: Another aspect to its true class to the rate among those studies. Who has no label
            there stands under `NO_LABEL`.
        classes: In the order of `confusion`.
        confusion: (classes, classes), rows truth, columns prediction; None if multi-label.
    """

    aspect: str
    overall: ErrorRate
    by_class: Mapping[str, ErrorRate]
    by_answer: Mapping[str, ErrorRate]
    by_aspect: Mapping[str, Mapping[str, ErrorRate]]
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...] | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ErrorCase:
    """One wrong answer.

    Attributes:
        place: The study's, among those given.
        study: Its id.
        aspect: The aspect's name.
        said: The model's answer; of a multi-label aspect one class, with "no" before it where the model
            missed it.
        truth: The same of the truth.
        confidence: The model's probability of its answer.
        label: Class whose evidence shows why.
        against: Class to read it against; None if multi-label.
    """

    place: int
    study: str
    aspect: str
    said: str
    truth: str
    confidence: float
    label: str
    against: str | None


def error_rate(wrong: Sequence[bool]) -> ErrorRate:
    """The rate of at least one study, with Wilson's interval."""
    from scipy.stats import binomtest

    errors, studies = int(sum(wrong)), len(wrong)
    interval = binomtest(errors, studies).proportion_ci(confidence_level=0.95, method="wilson")
    return ErrorRate(errors, studies, errors / studies, float(interval.low), float(interval.high))


def aspect_errors(records: Sequence[StudyRecord], aspects: Sequence[Aspect]) -> dict[str, AspectErrors]:
    """Errors of every aspect that some study has a label of."""
    found = {}
    for aspect in aspects:
        judged = [
            (record, not right) for record in records if (right := is_right(record, aspect)) is not None
        ]
        if judged:
            found[aspect.name] = _errors_of(aspect, judged, aspects)
    return found


def confident_errors(records: Sequence[StudyRecord], aspect: Aspect, *, most: int) -> list[ErrorCase]:
    """Wrong answers, the surest first, at most so many; of a multi-label aspect every class counts."""
    cases = []
    for place, record in enumerate(records):
        if is_right(record, aspect) is not False:
            continue
        probabilities = dict(zip(aspect.classes, record.probabilities[aspect.name], strict=True))
        truth, said = record.study.labels[aspect.name], record.labels[aspect.name]
        answers: list[tuple[str, str, float, str, str | None]]
        if not aspect.multi_label:
            answers = [(said[0], str(truth), probabilities[said[0]], said[0], str(truth))]
        else:
            answers = [
                (name, f"no {name}", probabilities[name], name, None)
                if name in said
                else (f"no {name}", name, 1.0 - probabilities[name], name, None)
                for name in aspect.classes
                if (name in said) != (name in truth)
            ]
        cases += [ErrorCase(place, record.study.id, aspect.name, *answer) for answer in answers]
    return sorted(cases, key=lambda case: -case.confidence)[:most]


def _errors_of(
    aspect: Aspect, judged: Sequence[tuple[StudyRecord, bool]], aspects: Sequence[Aspect]
) -> AspectErrors:
    records = [record for record, _ in judged]
    wrong = [error for _, error in judged]
    confusion = None
    by_answer = {}
    if aspect.multi_label:
        targets = np.array([target_of(record.study, aspect) for record in records])  # (n, classes)
        said = np.array(
            [[name in record.labels[aspect.name] for name in aspect.classes] for record in records]
        )
        missed = (targets != MISSING) & (targets.astype(bool) != said)
        by_class = {name: error_rate(missed[:, k].tolist()) for k, name in enumerate(aspect.classes)}
    else:
        by_class = _rates([str(record.study.labels[aspect.name]) for record in records], wrong, aspect)
        by_answer = _rates([record.labels[aspect.name][0] for record in records], wrong, aspect)
        counts = np.zeros((len(aspect.classes),) * 2, np.int64)
        for record in records:
            counts[target_of(record.study, aspect), aspect.index(record.labels[aspect.name][0])] += 1
        confusion = tuple(map(tuple, counts.tolist()))
    return AspectErrors(
        aspect=aspect.name,
        overall=error_rate(wrong),
        by_class=by_class,
        by_answer=by_answer,
        by_aspect={
            other.name: _rates(
                [str(record.study.labels.get(other.name, NO_LABEL)) for record in records], wrong, other
            )
            for other in aspects
            if other.name != aspect.name and not other.multi_label
        },
        classes=aspect.classes,
        confusion=confusion,
    )


def _rates(groups: Sequence[str], wrong: Sequence[bool], aspect: Aspect) -> dict[str, ErrorRate]:
    """The rate in each group that has studies, in the order of the aspect's classes."""
    members = {
        name: [error for group, error in zip(groups, wrong, strict=True) if group == name]
        for name in (*aspect.classes, NO_LABEL)
    }
    return {name: error_rate(errors) for name, errors in members.items() if errors}
