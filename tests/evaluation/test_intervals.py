"""Intervals against the plain loop: score every resample from its texts and answers, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from answers import SPACE, make_record, make_study

from mdnet.evaluation.comparisons import bleu_difference, difference
from mdnet.evaluation.intervals import intervals
from mdnet.evaluation.record import StudyRecord, groups_of
from mdnet.evaluation.scores import score
from mdnet.metrics.bleu import bleu_of_counts
from mdnet.metrics.bootstrap import resampled_sums
from mdnet.metrics.language import language_scores

WORDS = ("no", "some", "many", "mitoses", "are", "seen", "in", "field", "of", "normal", "tumor", "tissue")


@pytest.fixture(scope="module")
def records():
    random = np.random.default_rng(5)

    def text() -> str:
        return " ".join(random.choice(WORDS, random.integers(4, 12)))

    found = []
    for number in range(14):
        truth, said = random.choice(SPACE["mitosis"].classes, 2)
        study = make_study(
            f"s{number}",
            report={"mitosis": (text(), text())},
            labels={"mitosis": str(truth)},
            patient=f"p{number // 2}" if number < 10 else None,
        )
        found.append(make_record(study, study.references()[0][::1] + " " + text(), mitosis=str(said)))
    return found


def draws(records) -> np.ndarray:
    """How often every record stands in each of the resamples: (1000, records)."""
    sums = resampled_sums(np.eye(len(records)), groups=groups_of(records))
    assert sums is not None
    return sums.astype(int)


def bounds(values) -> pytest.approx:
    return pytest.approx(np.quantile(values, [0.025, 0.975]).tolist(), abs=1e-12)


def macro_f1(said, truth) -> float:
    """Mean F1 of the classes that were said or are true."""
    scores = []
    for label in set(said) | set(truth):
        hits = ((said == label) & (truth == label)).sum()
        scores.append(2 * hits / ((said == label).sum() + (truth == label).sum()))
    return float(np.mean(scores))


def test_patients_are_drawn_whole(records):
    counts = draws(records)
    assert (counts[:, 0:10:2] == counts[:, 1:10:2]).all()
    assert not (counts[:, 10] == counts[:, 11]).all()
    assert (counts[:, :10].sum(axis=1) / 2 + counts[:, 10:].sum(axis=1) == 5 + 4).all()


def test_bleu_is_that_of_the_resampled_corpus(records):
    found = intervals(records, score(records, SPACE), SPACE)
    values = []
    for count in draws(records):
        drawn = [record for record, times in zip(records, count, strict=True) for _ in range(times)]
        # CIDEr and METEOR are not looked at; BLEU sums its counts over the corpus drawn.
        scored = language_scores([r.text for r in drawn], [r.study.references() for r in drawn])
        values.append([scored.corpus["bleu_1"], scored.corpus["bleu_4"]])
        if len(values) == 40:
            break
    counts = score(records, SPACE).text.bleu_counts.astype(float)
    sums = resampled_sums(counts, groups=groups_of(records))
    np.testing.assert_allclose(bleu_of_counts(sums)[:40, [0, 3]], values, atol=1e-12)
    assert found["text.bleu_4"] == bounds(bleu_of_counts(sums)[:, 3])


def test_means_and_confusions_are_those_of_the_resampled_studies(records):
    scored = score(records, SPACE)
    found = intervals(records, scored, SPACE)
    counts = draws(records)
    rouge = scored.text.studies["rouge_l"]
    assert found["text.rouge_l"] == bounds(counts @ rouge / counts.sum(axis=1))
    classes = SPACE["mitosis"].classes
    truth = np.array([classes.index(r.study.labels["mitosis"]) for r in records])
    said = np.array([list(r.probabilities["mitosis"]) for r in records])
    right = said.argmax(1) == truth
    assert found["aspects.mitosis.accuracy"] == bounds(counts @ right / counts.sum(axis=1))
    assert found["aspects.mitosis.macro_f1"] == bounds(
        [macro_f1(np.repeat(said.argmax(1), count), np.repeat(truth, count)) for count in counts]
    )
    assert "diagnosis.accuracy" not in found  # nobody was asked for it


def test_one_patient_bounds_nothing(records):
    alone = [make_record(make_study("a", patient="p", labels={"mitosis": "rare"}), mitosis="rare")] * 3
    assert intervals(alone, score(alone, SPACE), SPACE) == {}


@pytest.mark.parametrize(("patients", "bounded"), [(5, False), (6, True)])
def test_a_difference_of_fewer_than_six_patients_has_no_interval(patients, bounded):
    studies = [make_record(make_study(f"s{n}", patient=f"p{n % patients}")) for n in range(30)]
    found = difference(np.arange(1.0, 31.0), studies)
    assert (found["low"] is not None) is bounded
    assert (found["studies"], found["patients"]) == (30, patients)


def test_a_difference_of_bleu_is_paired(records):
    ours = score(records, SPACE).text
    assert bleu_difference(ours, ours, records) == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "studies": len(records),
        "patients": 9,
    }


def test_labels_of_a_multi_label_aspect_count_each():
    answers = [((), ()), (("oedema",), ("nodule",)), (("oedema", "nodule"), ("nodule",)), (("nodule",), None)]
    records = [
        StudyRecord(
            make_study(f"s{n}", labels={} if true is None else {"findings": true}),
            {"findings": said},
            {"findings": [float(name in said) for name in ("oedema", "nodule")]},
        )
        for n, (said, true) in enumerate(answers)
    ]
    found = intervals(records, score(records, SPACE), SPACE)
    counts = draws(records[:3])
    assert found["aspects.findings.accuracy"] == bounds(counts @ [1.0, 0.0, 0.5] / counts.sum(axis=1))
