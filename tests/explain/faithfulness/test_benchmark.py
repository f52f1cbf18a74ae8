"""The benchmark against each number taken by itself, study by study."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mdnet.data.images import load_mask
from mdnet.data.study import Study, StudySet
from mdnet.errors import ConfigurationError, DataError
from mdnet.explain.baselines import baseline_images
from mdnet.explain.faithfulness.benchmark import benchmark
from mdnet.explain.faithfulness.benchmark_table import BenchmarkTable
from mdnet.explain.faithfulness.curves import deletion, insertion
from mdnet.explain.registry import explain
from mdnet.explain.targets import ClassTarget, Scorer
from mdnet.inference.predictor import Predictor
from mdnet.metrics.grounding import energy_in_mask, pointing_hit
from mdnet.models.mdnet import MDNet

METHODS = ["evidence", "saliency", "section_attention", "feature_ablation", "random"]
FEW = 3


@pytest.fixture(scope="module")
def predictor(build_model: Callable[..., MDNet]) -> Predictor:
    return Predictor(build_model(dtype=torch.float32), name="small", device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def studies(phantom_data: StudySet) -> list[Study]:
    return [s for s in phantom_data.studies if s.labels.get("mitosis") in ("rare", "frequent")]


@pytest.fixture(scope="module")
def table(predictor: Predictor, phantom_data: StudySet) -> BenchmarkTable:
    return benchmark(
        predictor, phantom_data.studies, methods=METHODS, few=FEW, checked=2, steps=5, progress=False
    )


def rows_of(table: BenchmarkTable) -> dict[str, dict]:
    return {row["method"]: dict(row) for row in table.rows}


@pytest.mark.parametrize("method", ["evidence", "saliency"])
def test_every_number_is_the_mean_over_studies(
    method: str, table: BenchmarkTable, predictor: Predictor, studies: list[Study]
) -> None:
    areas: dict[str, list[float]] = {"deletion": [], "insertion": []}
    scores, emptied, hits, energies, probabilities = [], [], [], [], []
    for study in studies:
        target = ClassTarget("mitosis", str(study.labels["mitosis"]), "absent")
        (explanation,) = explain(predictor, [study.images[0]], method=method, target=target)
        images = predictor.pixel_values([explanation.image])
        maps, grey = torch.tensor(explanation.map)[None], baseline_images("mean", predictor.model, images)
        scorer = Scorer(predictor.model, target)
        for kind, curve_of in (("deletion", deletion), ("insertion", insertion)):
            curve = curve_of(scorer, images, maps, baseline=grey, steps=5)
            areas[kind].append(float(curve.area))
        p = 1 / (1 + np.exp(-curve.scores[0].double().numpy()))
        probabilities.append(np.mean((p[1:] + p[:-1]) / 2))
        scores.append(explanation.score)
        emptied.append(float(scorer(grey).detach()))
        mask = load_mask(study.masks["mitosis"], (32, 32))
        hits.append(pointing_hit(explanation.map, mask))
        energies.append(float(energy_in_mask(explanation.map[None], mask[None])[0]))
    row = rows_of(table)[method]
    assert row["studies"] == len(studies) > FEW
    assert row["pointing"] == pytest.approx(np.mean(hits))
    assert row["insertion_probability_mean"] == pytest.approx(np.mean(probabilities), rel=1e-3)
    assert row["energy"] == pytest.approx(np.mean(energies), rel=1e-4)
    for kind, values in areas.items():
        assert row[f"{kind}_mean_area"] == pytest.approx(np.mean(values), rel=1e-3, abs=1e-4)
        relative = (np.mean(values) - np.mean(emptied)) / (np.mean(scores) - np.mean(emptied))
        assert row[f"{kind}_mean"] == pytest.approx(relative, rel=1e-3, abs=1e-4)


def test_methods_of_many_passes_see_the_first_studies_and_are_compared_there(
    table: BenchmarkTable, predictor: Predictor, studies: list[Study]
) -> None:
    row = rows_of(table)["feature_ablation"]
    assert row["studies"] == FEW
    assert row["checked"] == 1
    assert rows_of(table)["saliency"]["checked"] == 2
    first = benchmark(
        predictor, studies[:FEW], methods=["evidence", "feature_ablation"], checked=1, steps=5, progress=False
    )
    evidence, ablation = (rows_of(first)[name] for name in ("evidence", "feature_ablation"))
    assert row["behind_evidence_blur"] == pytest.approx(ablation["behind_evidence_blur"], rel=1e-3)
    apart = ablation["deletion_blur"] - evidence["deletion_blur"]
    assert ablation["behind_evidence_blur"] == pytest.approx(apart, rel=1e-3, abs=1e-5)
    assert "behind_evidence_blur" not in evidence


def test_by_design_keeps_the_sum_and_a_random_map_survives(table: BenchmarkTable) -> None:
    rows = rows_of(table)
    assert rows["evidence"]["residual"] < 1e-4
    assert rows["saliency"]["residual"] is None
    assert [row["method"] for row in table.rows if row["by_design"]] == ["evidence", "section_attention"]
    assert rows["random"]["survives"]  # it never asked the model
    assert rows["random"]["random_weights"] == pytest.approx(1)
    assert rows["random"]["maximum_sensitivity"] == 0
    assert rows["random"]["cost"] is None
    assert list(rows["evidence"]["random_weights_by_part"])[-1] == "stem"
    # Sharpened attention ranks the places by the evidence, whatever the LSTM: only ties take from 1.
    assert rows["section_attention"]["random_weights_by_part"]["report"] > 0.9
    assert rows["section_attention"]["random_weights"] < 0.9


def test_the_table_is_saved_whole_and_says_what_it_shows(table: BenchmarkTable, tmp_path) -> None:
    record, page = table.save(tmp_path)
    saved = json.loads(record.read_text())
    assert saved == {"settings": dict(table.settings), "rows": [dict(row) for row in table.rows]}
    lines = page.read_text().splitlines()
    assert lines[0].startswith("| method | studies | pointing |")
    assert {line.count("|") for line in lines[: 2 + len(METHODS)]} == {lines[0].count("|")}
    assert lines[2].startswith("| evidence * |")
    assert lines[6].startswith("| random ! |")
    assert any(line.startswith("- deletion") for line in lines)
    assert "- steps: 5" in lines


def test_studies_without_masks_are_measured_without_localisation(
    predictor: Predictor, phantom_data: StudySet
) -> None:
    chosen = [s for s in phantom_data.studies if s.labels.get("conclusion") in ("low grade", "high grade")][
        :3
    ]
    (row,) = benchmark(
        predictor, chosen, aspect="conclusion", methods=["evidence"], checked=1, steps=2, progress=False
    ).rows
    assert row["pointing"] is None
    assert row["deletion_mean"] is not None


def test_what_cannot_be_benchmarked_is_refused_in_words(predictor: Predictor, phantom_data: StudySet) -> None:
    with pytest.raises(ConfigurationError, match="'word_evidence' cannot be benchmarked on a class"):
        benchmark(predictor, phantom_data.studies, methods=["word_evidence"], progress=False)
    with pytest.raises(ConfigurationError, match="multi-label"):
        benchmark(predictor, phantom_data.studies, aspect="findings", progress=False)
    with pytest.raises(ConfigurationError, match="few 0"):
        benchmark(predictor, phantom_data.studies, few=0, progress=False)
    with pytest.raises(DataError, match="has a class to find"):
        benchmark(predictor, [], progress=False)
