"""Scores another system's answers, from a file, by the very metrics and baselines of our own.

A line a study, JSON:

    {"id": "p00017", "report": "text", or {"section": "text", ...},
     "labels": {"mitosis": "rare"}, "probabilities": {"mitosis": {"absent": 0.1, ...}}, "logits": {...}}

All but `id` is optional, but what one line has every line must have; of a missing answer a metric
would have to be silent, and silence flatters. `predictions.jsonl` of a run is such a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mdnet.data.images import load_image
from mdnet.data.statements import statement_reader
from mdnet.data.study import Aspect, LabelSpace, Study, StudySet
from mdnet.errors import DataError
from mdnet.evaluation.evaluate import Evaluation, judge, prediction_lines, shown_studies
from mdnet.evaluation.record import StudyRecord
from mdnet.evaluation.scores import score
from mdnet.inference.finding import AspectFinding, Finding, ReportFinding, SectionFinding

__all__ = ["evaluate_predictions", "read_predictions"]

_NAMED = 3  # ids that a message names
_LARGEST = 1e300  # of a number in a file: the difference of two is still finite
_ROUNDING = 1e-2  # by which the probabilities of the classes may miss a sum of 1


def evaluate_predictions(
    file: Path, studies: Sequence[Study], data: StudySet, *, show: int = 0
) -> Evaluation:
    """Scores a file of answers; what needs the model (maps, likelihoods, image features) is left out.

    Args:
        file: A line a study; lines of the data set's other studies are passed over.
        studies: What to score on.
        data: The set they are of: its training split gives the baselines.
        show: How many studies to give with their images, half of them the worst, half the best.

    Raises:
        DataError: The file cannot be read, or does not answer for every study exactly once.
        ImageError: The image of a study to show cannot be read.
    """
    space = data.label_space
    records, passed_over = read_predictions(file, studies, data)
    scored = score(records, space, statement_reader(data))
    scored.metrics["lines_of_other_studies"] = passed_over
    judge(scored, records, data, space)
    shown = shown_studies(
        scored,
        records,
        space,
        show,
        findings_of=lambda chosen: (finding_of(record, space, file.name) for record in chosen),
    )
    return Evaluation(scored.metrics, records, prediction_lines(records, scored), shown)


def finding_of(record: StudyRecord, space: LabelSpace, system: str) -> Finding:
    """The answers as a finding without maps; without probabilities where the system gives classes alone."""
    texts = record.sections or ({} if record.text is None else {"report": record.text})
    nothing = np.zeros(0)
    return Finding(
        source=str(record.study.images[0]),
        image=load_image(record.study.images[0]),
        label_space=space,
        aspects={
            name: AspectFinding(
                space[name],
                labels,
                dict(zip(space[name].classes, record.probabilities.get(name, ()), strict=False)),
                logits={},
            )
            for name, labels in record.labels.items()
        },
        report=ReportFinding(
            {
                name: SectionFinding(name, text, (), np.zeros((0, 1, 1)), nothing, nothing)
                for name, text in texts.items()
            }
        ),
        aspect_evidence={},
        model=system,
    )


def read_predictions(file: Path, studies: Sequence[Study], data: StudySet) -> tuple[list[StudyRecord], int]:
    """The records in the order of the studies, and how many lines were of other studies.

    Arguments and errors: `evaluate_predictions`.
    """
    known = {study.id for study in data.studies}
    wanted = {study.id: study for study in studies}
    found: dict[str, StudyRecord] = {}
    line_of: dict[str, int] = {}
    unknown: list[str] = []
    for number, line in json_lines(file):
        where = f"{file}:{number}"
        name = line.get("id")
        if not isinstance(name, str):
            raise DataError(where, "no id", 'write {"id": "...", ...}')
        if name in line_of:
            raise DataError(where, f"study {name!r} stands on line {line_of[name]} too", "keep one of them")
        line_of[name] = number
        if name not in known:
            unknown.append(name)
        elif name in wanted:
            found[name] = record_of_line(line, wanted[name], data.label_space, where)
    if unknown:
        raise DataError(
            file, f"{some(unknown)} not in {data.root}", "name the data that they are of with --data"
        )
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            file,
            f"no line for {some(missing)} of {len(wanted)}",
            "answer for every study of the split; an empty report counts as one",
        )
    records = [found[study.id] for study in studies]
    check_even(file, records, line_of, data.label_space)
    return records, len(line_of) - len(found)


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects; empty lines are passed over."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise DataError(file, str(reason), "name a file of JSON lines") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}:{number}", f"no JSON ({error})", "write one object a line") from error
        if not isinstance(record, dict):
            raise DataError(f"{file}:{number}", "no JSON object", 'write {"id": "...", ...}')
        yield number, record


def record_of_line(line: Mapping[str, Any], study: Study, space: LabelSpace, where: str) -> StudyRecord:
    """The record of one line; a run's own `aspects` and `sections` are read too."""
    report, sections = line.get("report"), line.get("sections") or {}
    if isinstance(report, dict):
        report, sections = "", report
    texts = list(sections.values()) if isinstance(sections, dict) else [None]
    if not (report is None or isinstance(report, str)) or not all(isinstance(text, str) for text in texts):
        raise DataError(where, "a report that is no text", "write a text, or a text a section")
    if sections and not report:
        report = " ".join(text for text in texts if text)
    given = {name: mapping(line, name, where) for name in ("aspects", "labels", "probabilities", "logits")}
    if strange := sorted({name for each in given.values() for name in each} - set(space.names)):
        raise DataError(
            where,
            f"aspect {strange[0]!r} is none of the data's",
            f"they are {', '.join(space.names) or 'none'}",
        )
    labels: dict[str, tuple[str, ...]] = {}
    probabilities: dict[str, tuple[float, ...]] = {}
    for aspect in space.aspects:
        answer = mapping(given["aspects"], aspect.name, where)
        shares = given["probabilities"].get(aspect.name, answer.get("probabilities"))
        scores = given["logits"].get(aspect.name)
        named = given["labels"].get(aspect.name, answer.get("labels"))
        if shares is not None:
            probabilities[aspect.name] = checked_shares(values_of(shares, aspect, where), aspect, where)
        elif scores is not None:
            probabilities[aspect.name] = shares_of(values_of(scores, aspect, where), aspect)
        if named is not None:
            labels[aspect.name] = classes_of(named, aspect, where)
        elif aspect.name in probabilities:
            labels[aspect.name] = likeliest(probabilities[aspect.name], aspect)
    return StudyRecord(study, labels, probabilities, text=report, sections=sections, line=dict(line))


def mapping(line: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """An optional object in a line."""
    value = line.get(name) or {}
    if not isinstance(value, dict):
        raise DataError(where, f"{name} is no object", f'write "{name}": {{...}}')
    return value


def values_of(values: Any, aspect: Aspect, where: str) -> tuple[float, ...]:
    """Numbers in the order of the aspect's classes."""
    if not isinstance(values, dict) or set(values) != set(aspect.classes):
        mend = f"give a number for each of {', '.join(aspect.classes)}"
        raise DataError(where, f"aspect {aspect.name!r} lacks classes or has others", mend)
    numbers = [values[name] for name in aspect.classes]
    if not all(isinstance(n, (int, float)) and abs(n) < _LARGEST for n in numbers):
        raise DataError(where, f"aspect {aspect.name!r} has a value that is no number", "give finite numbers")
    return tuple(map(float, numbers))


def checked_shares(shares: tuple[float, ...], aspect: Aspect, where: str) -> tuple[float, ...]:
    """The probabilities, if they are some."""
    total = sum(shares)
    if min(shares) < 0 or max(shares) > 1 or (not aspect.multi_label and abs(total - 1) > _ROUNDING):
        seen = f"{min(shares):g} to {max(shares):g} that sum to {total:g}"
        mend = "give each in 0 to 1, of exclusive classes with the sum 1, or give logits"
        raise DataError(where, f"aspect {aspect.name!r} has probabilities of {seen}", mend)
    return shares


def shares_of(logits: Sequence[float], aspect: Aspect) -> tuple[float, ...]:
    """Softmax, or the sigmoid of a multi-label aspect."""
    scores = np.asarray(logits)
    if aspect.multi_label:
        return tuple((0.5 * (1 + np.tanh(scores / 2))).tolist())
    powers = np.exp(scores - scores.max())
    return tuple((powers / powers.sum()).tolist())


def classes_of(named: Any, aspect: Aspect, where: str) -> tuple[str, ...]:
    """The classes of an answer, in the aspect's order."""
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or (len(names) != 1 and not aspect.multi_label):
        raise DataError(where, f"aspect {aspect.name!r} has {named!r}", "name one class")
    if strange := [name for name in names if name not in aspect.classes]:
        mend = f"its classes are {', '.join(aspect.classes)}"
        raise DataError(where, f"aspect {aspect.name!r} has no class {strange[0]!r}", mend)
    return tuple(name for name in aspect.classes if name in names)


def likeliest(shares: Sequence[float], aspect: Aspect) -> tuple[str, ...]:
    """The class of the largest probability, or those of at least 0.5."""
    if aspect.multi_label:
        return tuple(name for name, share in zip(aspect.classes, shares, strict=True) if share >= 0.5)
    return (aspect.classes[int(np.argmax(shares))],)


def check_even(
    file: Path, records: Sequence[StudyRecord], line_of: Mapping[str, int], space: LabelSpace
) -> None:
    """Refuses a file without answers, or of which some lines have an answer that others lack."""
    if all(record.text is None and not record.labels for record in records):
        raise DataError(file, "no line has an answer", "give `report`, `labels`, `probabilities` or `logits`")
    for what, has in (
        ("report", lambda record: record.text is not None),
        *(
            (f"{kind} of aspect {name!r}", lambda record, kind=kind, name=name: name in getattr(record, kind))
            for name in space.names
            for kind in ("labels", "probabilities")
        ),
    ):
        lacking = [record for record in records if not has(record)]
        if lacking and len(lacking) < len(records):
            raise DataError(
                f"{file}:{line_of[lacking[0].study.id]}",
                f"no {what}, which other lines have ({len(lacking)} of {len(records)} lack it)",
                "give it on every line or on none",
            )


def some(names: Sequence[str]) -> str:
    """A count with the first names."""
    shown = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} {'study' if len(names) == 1 else 'studies'} ({shown})"
