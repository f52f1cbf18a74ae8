"""Two evaluated runs on the same studies: differences, their intervals, and whether they are more than noise.

Nothing is computed from images: the answers are those of `predictions.jsonl`, scored as `mdnet evaluate`
scores them. Every metric is a function of sums over studies, so that

- the interval comes from 1000 resamples of the patients, both runs on the same draw;
- p comes from McNemar's exact test where a metric is one right or wrong answer a study and no patient has
  two studies, else from randomisation: a patient's answers are swapped between the runs or not.

CIDEr's document frequencies come from the references, which are the same for both runs and stay those of
all compared studies. Holm's correction is taken over the metrics. The runs are taken as they are: another
seed of the same recipe may differ as much, of which no test on two runs can know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdnet.data.statements import StatementReader, statement_reader
from mdnet.data.study import Aspect, LabelSpace, Study, StudySet
from mdnet.errors import DataError
from mdnet.evaluation.intervals import bounds
from mdnet.evaluation.predictions import json_lines, mapping, record_of_line, some
from mdnet.evaluation.record import StudyRecord, count_in_words, groups_of, target_of
from mdnet.evaluation.run_folder import EvaluatedRun, read_evaluated_run, recipe
from mdnet.evaluation.scores import Scored, score
from mdnet.metrics.bleu import bleu_of_counts
from mdnet.metrics.bootstrap import resampled_sums
from mdnet.metrics.significance import holm, mcnemar_exact, randomisation_test

__all__ = ["Comparison", "Difference", "Measure", "compare_runs", "difference_of"]

Floats = npt.NDArray[np.float64]

_ALPHA = 0.05
_FEW = 20  # as in `mdnet.evaluation.verdict`
_MEANS = {"rouge_l": "ROUGE-L", "meteor": "METEOR (nltk)", "cider": "CIDEr"}


@dataclass(frozen=True)
class Measure:
    """One metric of two runs on the same studies.

    Attributes:
        name: Dotted, as in `metrics.json`.
        title: For sentences.
        records: The studies that count, for their patients.
        first: Additive statistics of the first run, (N, F), a row a study.
        second: Those of the second.
        value: The metric from sums over studies, (R, F) -> (R,).
        answers: It is one right or wrong answer a study: the first column.
    """

    name: str
    title: str
    records: Sequence[StudyRecord]
    first: Floats
    second: Floats
    value: Callable[[Floats], Floats]
    answers: bool = False


@dataclass(frozen=True)
class Difference:
    """One metric of two runs.

    Attributes:
        difference: Second less first.
        low, high: Its paired 95% interval, not corrected for the number of metrics; None where all
            studies are of one patient.
        p: Of the paired test.
        p_holm: After Holm's correction over the metrics.
        test: `McNemar` (exact) or `randomisation`.
        studies: On how many.
    """

    name: str
    title: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    test: str
    studies: int


@dataclass(frozen=True)
class Comparison:
    """What two runs make of the same studies.

    Attributes:
        first, second: The run folders.
        studies: How many both answered.
        only_first, only_second: Ids of those that one of them answered.
        patients: How many patients; None where none is recorded and each study counts as one.
        seed_only: The runs are of one recipe and differ in the seed.
        differences: Metric by metric.
    """

    first: str
    second: str
    split: str
    data_hash: str
    studies: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    patients: int | None
    seed_only: bool
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the sentences."""
        return asdict(self) | {"verdict": self.sentences()}

    def sentences(self) -> list[str]:
        """The comparison in words."""
        return [*_found(self), *_conditions(self)]


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compares two evaluated run folders.

    Raises:
        ConfigurationError: One of them is no run folder, or not evaluated.
        DataError: They are of other data or another split, share no study, or a file is damaged.
    """
    runs = read_evaluated_run(first), read_evaluated_run(second)
    for what, value in (("data", lambda run: run.data_hash[:12]), ("split", lambda run: run.split)):
        here, there = value(runs[0]), value(runs[1])
        if here != there:
            raise DataError(
                second, f"scored on {what} {there}, {first} on {here}", "evaluate both on the same"
            )
    ours, theirs = (read_records(run) for run in runs)
    common = [name for name in ours if name in theirs]
    if not common:
        raise DataError(second, f"has no study in common with {first}", "evaluate both anew")
    pairs = tuple([records[name] for name in common] for records in (ours, theirs))
    scored = tuple(
        score(records, run.space, reader_of(run)) for run, records in zip(runs, pairs, strict=True)
    )
    found = [difference_of(each) for each in measures(pairs, scored, runs[0].space, runs[1].space)]
    adjusted = holm([each.p for each in found])
    groups = groups_of(pairs[0])
    return Comparison(
        first=str(first),
        second=str(second),
        split=runs[0].split,
        data_hash=runs[0].data_hash,
        studies=len(common),
        only_first=tuple(name for name in ours if name not in theirs),
        only_second=tuple(name for name in theirs if name not in ours),
        patients=len(set(groups)) if any(kind == "patient" for kind, _ in groups) else None,
        seed_only=recipe(runs[0]) == recipe(runs[1]) and runs[0].seed != runs[1].seed,
        differences=tuple(replace(each, p_holm=p) for each, p in zip(found, adjusted, strict=True)),
    )


def read_records(run: EvaluatedRun) -> dict[str, StudyRecord]:
    """The records of `predictions.jsonl` by study id; the truth beside each answer is the line's own.

    Raises:
        DataError: The file is missing or damaged, or is not that of `metrics.json`.
    """
    file = run.folder / "predictions.jsonl"
    records = {}
    for number, line in json_lines(file):
        where = f"{file}:{number}"
        truth = mapping(line, "truth", where)
        labels, report = truth.get("labels"), truth.get("report")
        if not (isinstance(line.get("id"), str) and isinstance(labels, dict) and isinstance(report, dict)):
            raise DataError(where, "no id or no truth", f"run `mdnet evaluate --run {run.folder}` anew")
        study = Study(
            id=line["id"],
            images=(Path(str(line.get("image"))),),
            split=run.split,
            patient=line.get("patient"),
            labels={k: tuple(v) if isinstance(v, list) else v for k, v in labels.items()},
            report={name: tuple(texts) for name, texts in report.items()},
        )
        record = record_of_line(line, study, run.space, where)
        records[study.id] = record if "text" in run.metrics else replace(record, text=None)
    if len(records) != run.metrics["studies"]:
        problem = f"{len(records)} studies, metrics.json has {run.metrics['studies']}"
        raise DataError(file, problem, f"run `mdnet evaluate --run {run.folder}` anew")
    return records


def reader_of(run: EvaluatedRun) -> StatementReader | None:
    """Reads back what the texts say, by the data's own phrases where they are still there."""
    root = Path(run.metrics["provenance"]["data"])
    return statement_reader(StudySet(root, "studies", (), run.space, ()))


def measures(
    pairs: Sequence[Sequence[StudyRecord]],
    scored: Sequence[Scored],
    first_space: LabelSpace,
    second_space: LabelSpace,
) -> Iterator[Measure]:
    """Every metric that both runs have."""
    aspects = [each for each in first_space.aspects if each in second_space.aspects]
    diagnosis = first_space.diagnosis if first_space.diagnosis == second_space.diagnosis else None
    of_aspects = [each for aspect in aspects for each in aspect_measure(aspect, pairs, diagnosis)]
    yield from sorted(of_aspects, key=lambda each: each.name != f"aspects.{diagnosis}.accuracy")
    if scored[0].text is not None and scored[1].text is not None:
        ours, theirs = scored[0].text, scored[1].text
        yield Measure(
            name="text.bleu_4",
            title="BLEU-4",
            records=scored[0].reported,
            first=ours.bleu_counts.astype(np.float64),
            second=theirs.bleu_counts.astype(np.float64),
            value=lambda sums: bleu_of_counts(sums)[:, 3],
        )
        for name, title in _MEANS.items():
            yield Measure(
                name=f"text.{name}",
                title=title,
                records=scored[0].reported,
                first=counted(ours.studies[name]),
                second=counted(theirs.studies[name]),
                value=ratio,
            )
    first, second = (true_statements(each) for each in scored)
    known = np.flatnonzero((first[:, 1] > 0) & (first[:, 1] == second[:, 1]))
    if len(known):
        yield Measure(
            name="statements.true",
            title="true statements",
            records=[pairs[0][int(place)] for place in known],
            first=first[known],
            second=second[known],
            value=ratio,
        )


def aspect_measure(
    aspect: Aspect, pairs: Sequence[Sequence[StudyRecord]], diagnosis: str | None
) -> Iterator[Measure]:
    """Accuracy of one aspect where both answered; of a multi-label aspect, over all its classes."""
    known = [
        place
        for place, (ours, theirs) in enumerate(zip(*pairs, strict=True))
        if aspect.name in ours.labels and aspect.name in theirs.labels and has_truth(ours.study, aspect)
    ]
    if known:
        first, second = (
            np.array([right_answers(records[place], aspect) for place in known]) for records in pairs
        )
        yield Measure(
            name=f"aspects.{aspect.name}.accuracy",
            title=f"the diagnosis ({aspect.name})" if aspect.name == diagnosis else aspect.name,
            records=[pairs[0][place] for place in known],
            first=first,
            second=second,
            value=ratio,
            answers=not aspect.multi_label,
        )


def has_truth(study: Study, aspect: Aspect) -> bool:
    """Whether the study has a label of the aspect that the model can give."""
    return bool(np.min(target_of(study, aspect)) >= 0)


def right_answers(record: StudyRecord, aspect: Aspect) -> tuple[float, float]:
    """(right, asked): one answer, or one a class of a multi-label aspect."""
    targets = np.atleast_1d(target_of(record.study, aspect))
    said = record.labels[aspect.name]
    if not aspect.multi_label:
        return float(aspect.classes[targets[0]] == said[0]), 1.0
    named = [name in said for name in aspect.classes]
    return float((targets == named).sum()), float(len(targets))


def true_statements(scored: Scored) -> Floats:
    """(true, with a truth) of every record, (N, 2)."""
    rows = [[row.stated == row.truth for row in each if row.truth is not None] for each in scored.statements]
    return np.array([(sum(true), len(true)) for true in rows], np.float64)


def counted(values: Floats) -> Floats:
    """(N,) -> (N, 2): beside every study's score a one, so that sums give the mean."""
    return np.stack([values, np.ones(len(values))], axis=1)


def ratio(sums: Floats) -> Floats:
    """Part over whole: (R, 2) -> (R,)."""
    shares: Floats = sums[:, 0] / sums[:, 1]
    return shares


def difference_of(measure: Measure) -> Difference:
    """The difference of one metric, its interval, and p; `p_holm` is still p."""
    groups = groups_of(measure.records)
    first, second = (
        float(measure.value(statistics.sum(axis=0, keepdims=True))[0])
        for statistics in (measure.first, measure.second)
    )
    width = measure.first.shape[1]
    sums = resampled_sums(np.concatenate([measure.first, measure.second], axis=1), groups=groups)
    interval = (
        None if sums is None else bounds(measure.value(sums[:, width:]) - measure.value(sums[:, :width]))
    )
    low, high = interval or (None, None)
    if measure.answers and len(set(groups)) == len(groups):
        ours, theirs = measure.first[:, 0] > 0, measure.second[:, 0] > 0
        test, p = "McNemar", mcnemar_exact(int((ours & ~theirs).sum()), int((theirs & ~ours).sum()))
    else:
        test = "randomisation"
        p = randomisation_test(measure.first, measure.second, measure.value, groups=groups)
    return Difference(
        name=measure.name,
        title=measure.title,
        first=first,
        second=second,
        difference=second - first,
        low=low,
        high=high,
        p=p,
        p_holm=p,
        test=test,
        studies=len(groups),
    )


def _found(comparison: Comparison) -> Iterator[str]:
    """What differs, and what does not."""
    for each in comparison.differences:
        if each.p_holm < _ALPHA:
            better = comparison.second if each.difference > 0 else comparison.first
            yield (
                f"{better} is better in {each.title} by {abs(each.difference):.3f}{_interval(each)}, "
                f"p {_p(each.p_holm)} after Holm."
            )
    same = [each.title for each in comparison.differences if each.p_holm >= _ALPHA]
    if len(same) == len(comparison.differences):
        how = (
            "in any number" if all(not each.difference for each in comparison.differences) else "beyond noise"
        )
        yield f"The two runs do not differ {how}: {', '.join(same)}."
    elif same:
        verb = "does" if len(same) == 1 else "do"
        listed = ", ".join(same)
        yield f"{listed[0].upper()}{listed[1:]} {verb} not differ beyond noise."


def _conditions(comparison: Comparison) -> Iterator[str]:
    """What the reader must know of the tests."""
    patients = comparison.studies if comparison.patients is None else comparison.patients
    if patients < _FEW:
        counted = count_in_words(comparison.studies, patients)
        yield f"Too few to show that two runs are equally good: {counted}."
    for run, names in (
        (comparison.first, comparison.only_first),
        (comparison.second, comparison.only_second),
    ):
        if names:
            yield f"Not compared, as only {run} answers for them: {some(names)}."
    if comparison.patients is None:
        yield "No patient is recorded: studies are taken as independent."
    recipes = (
        "The runs differ in the seed only" if comparison.seed_only else "Each run is one seed of its recipe"
    )
    yield f"{recipes}: of the spread over seeds these tests know nothing."


def _interval(each: Difference) -> str:
    """The 95% interval of the better run's gain."""
    if each.low is None or each.high is None:
        return ""
    low, high = (each.low, each.high) if each.difference > 0 else (-each.high, -each.low)
    return f" [{low:.3f}, {high:.3f}]"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
