"""Comparisons of two run folders: pairs, draws, words, and what may not be compared."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from run_folders import make_studies, write_run

from mdnet.cli.main import main
from mdnet.errors import ConfigurationError, DataError
from mdnet.evaluation.compare import compare_runs, read_records
from mdnet.evaluation.record import groups_of
from mdnet.evaluation.run_folder import read_evaluated_run
from mdnet.metrics.bleu import bleu_of_counts
from mdnet.metrics.bootstrap import resampled_sums
from mdnet.metrics.language import language_scores
from mdnet.metrics.significance import holm, mcnemar_exact

STUDIES = make_studies(40)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "poor": write_run(folder / "poor", STUDIES, skill=0.3, seed=1),
        "good": write_run(folder / "good", STUDIES, skill=0.9, seed=2, epochs=9),
        "again": write_run(folder / "again", STUDIES, skill=0.3, seed=3),
        "short": write_run(folder / "short", STUDIES[5:], skill=0.5, seed=4),
    }


@pytest.fixture(scope="module")
def found(runs):
    return compare_runs(runs["poor"], runs["good"])


def by_name(comparison):
    return {each.name: each for each in comparison.differences}


def test_a_run_does_not_differ_from_itself_and_its_intervals_have_no_width(runs):
    same = compare_runs(runs["poor"], runs["poor"])
    assert len(same.differences) == 6
    for each in same.differences:
        assert (each.difference, each.low, each.high, each.p, each.p_holm) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert same.sentences()[0].startswith("The two runs do not differ in any number: the diagnosis")
    assert not same.seed_only


def test_values_are_those_that_the_evaluation_wrote(runs, found):
    for place, name in ((0, "poor"), (1, "good")):
        metrics = json.loads((runs[name] / "metrics.json").read_text())
        for each in found.differences:
            group, *path = each.name.split(".")
            value = metrics[group]
            for key in path:
                value = value[key]
            assert (each.first, each.second)[place] == pytest.approx(value, abs=1e-12)


def test_accuracies_have_mcnemars_p(runs, found):
    ours, theirs = (list(read_records(read_evaluated_run(runs[name])).values()) for name in ("poor", "good"))
    for aspect in ("mitosis", "conclusion"):
        right = [
            [record.labels[aspect][0] == record.study.labels[aspect] for record in records]
            for records in (ours, theirs)
        ]
        pairs = list(zip(*right, strict=True))
        each = by_name(found)[f"aspects.{aspect}.accuracy"]
        assert each.test == "McNemar"
        assert each.p == mcnemar_exact(pairs.count((True, False)), pairs.count((False, True)))


def test_bleu_is_bounded_by_both_runs_on_the_same_resampled_studies(runs, found):
    ours, theirs = (list(read_records(read_evaluated_run(runs[name])).values()) for name in ("poor", "good"))
    counts = resampled_sums(np.eye(40), groups=groups_of(ours), samples=1000)
    assert counts is not None
    values = []
    for count in counts.astype(int)[:1000:25]:
        drawn = np.repeat(np.arange(40), count)
        first, second = (
            language_scores(
                [records[i].text for i in drawn], [records[i].study.references() for i in drawn], meteor=None
            ).corpus["bleu_4"]
            for records in (ours, theirs)
        )
        values.append(second - first)
    each = by_name(found)["text.bleu_4"]
    scores = [
        language_scores([r.text for r in records], [r.study.references() for r in records], meteor=None)
        for records in (ours, theirs)
    ]
    sums = [counts @ one.bleu_counts for one in scores]
    differences = bleu_of_counts(sums[1])[:, 3] - bleu_of_counts(sums[0])[:, 3]
    np.testing.assert_allclose(differences[:1000:25], values, atol=1e-12)
    assert [each.low, each.high] == pytest.approx(
        np.quantile(differences, [0.025, 0.975]).tolist(), abs=1e-12
    )


def test_holm_is_taken_over_all_metrics(found):
    assert [each.p_holm for each in found.differences] == holm([each.p for each in found.differences])


def test_the_better_run_is_named_with_its_gain_either_way_round(runs, found):
    bleu = by_name(found)["text.bleu_4"]
    assert bleu.p_holm < 0.001
    gain = f"BLEU-4 by {bleu.difference:.3f} [{bleu.low:.3f}, {bleu.high:.3f}], p < 0.001 after Holm."
    words = found.sentences()
    assert f"{runs['good']} is better in {gain}" in words
    turned = compare_runs(runs["good"], runs["poor"])
    assert [s for s in turned.sentences() if "is better" in s] == [s for s in words if "is better" in s]
    assert any("one seed of its recipe" in sentence for sentence in words)


def test_noise_is_called_noise_and_a_seed_a_seed(runs):
    alike = compare_runs(runs["poor"], runs["again"])
    assert all(each.difference for each in alike.differences)
    assert alike.sentences()[0].startswith("The two runs do not differ beyond noise")
    assert alike.sentences()[-1].startswith("The runs differ in the seed only")


def test_studies_in_one_run_only_are_counted_and_named(runs):
    some = compare_runs(runs["poor"], runs["short"])
    assert (some.studies, some.only_first, some.only_second) == (35, tuple(f"s{i}" for i in range(5)), ())
    assert f"as only {runs['poor']} answers for them: 5 studies ('s0', 's1', 's2', ...)." in " ".join(
        some.sentences()
    )


def test_patients_are_swapped_and_drawn_whole_and_their_absence_is_said(found, tmp_path):
    assert found.patients is None
    assert "No patient is recorded: studies are taken as independent." in found.sentences()
    studies = make_studies(16, patient=True)
    first, second = (
        write_run(tmp_path / str(skill), studies, skill=skill, seed=int(10 * skill)) for skill in (0.2, 0.8)
    )
    by_patient = compare_runs(first, second)
    assert by_patient.patients == 8
    assert {each.test for each in by_patient.differences} == {"randomisation"}
    assert all(each.p * 2**8 == pytest.approx(round(each.p * 2**8)) for each in by_patient.differences)
    assert any("equally good: 16 studies of 8 patients." in sentence for sentence in by_patient.sentences())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"data_hash": "e" * 64}, "scored on data eeeeeeeeeeee"), ({"split": "val"}, "scored on split val")],
)
def test_other_data_or_another_split_are_refused(runs, tmp_path, change, message):
    other = write_run(tmp_path / "other", STUDIES, skill=0.5, **change)
    with pytest.raises(DataError, match=message):
        compare_runs(runs["poor"], other)


def test_folders_that_cannot_be_compared_are_one_line(runs, tmp_path):
    with pytest.raises(ConfigurationError, match="no such folder"):
        compare_runs(runs["poor"], tmp_path / "none")
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(ConfigurationError, match="not evaluated; run `mdnet evaluate --run"):
        compare_runs(runs["poor"], bare)
    (bare / "metrics.json").write_text('{"provenance": {"split": "test"}}')
    with pytest.raises(DataError, match="lacks configuration, data_hash, seed"):
        compare_runs(runs["poor"], bare)
    (bare / "metrics.json").write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        compare_runs(runs["poor"], bare)
    cut = tmp_path / "cut"
    shutil.copytree(runs["poor"], cut)
    lines = (cut / "predictions.jsonl").read_text().splitlines(keepends=True)
    (cut / "predictions.jsonl").write_text("".join(lines[:7]))
    with pytest.raises(DataError, match=r"7 studies, metrics\.json has 40"):
        compare_runs(runs["poor"], cut)
    (cut / "predictions.jsonl").write_text('{"id": "s0", "truth": {"labels": {}}}\n')
    with pytest.raises(DataError, match=r"jsonl:1: no id or no truth"):
        compare_runs(runs["poor"], cut)


def test_the_command_prints_words_a_table_or_json(runs, capsys):
    shown = []
    for words in ([], ["--json"]):
        with pytest.raises(SystemExit) as exit_:
            main(["compare", str(runs["poor"]), str(runs["good"]), *words])
        assert not exit_.value.code
        shown.append(capsys.readouterr().out)
    assert "is better in" in " ".join(shown[0].split())
    assert "McNemar" in shown[0]
    record = json.loads(shown[1])
    assert record["studies"] == 40
    assert record["differences"][0]["name"] == "aspects.conclusion.accuracy"
    assert record["verdict"]
