"""What is packed into a page is what the model gave."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
from handmade import TISSUE, make_finding

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import WeightsError
from mdnet.report.view import finding_view, packed


def unpacked(record: dict) -> np.ndarray:
    data = base64.b64decode(record["data"])
    if "steps" not in record:
        return np.frombuffer(data, "<f4").reshape(record["shape"]).astype(float)
    steps = np.array(record["steps"])[:, None, None]
    return np.frombuffer(data, "<i2").reshape(record["shape"]) * steps


def test_exact_maps_are_float32_bit_for_bit() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    assert np.array_equal(unpacked(packed(maps, exact=True)), maps)


@pytest.mark.parametrize("seed", range(5))
def test_sixteen_bit_maps_keep_every_cell_to_a_step_and_every_sum_to_half_a_step(seed: int) -> None:
    maps = (
        np.random.default_rng(seed).normal(size=(4, 64, 64)) ** 3
        * np.array([1e-6, 1.0, 1e3, 0.0])[:, None, None]
    )
    record = packed(maps, exact=False)
    steps = np.array(record["steps"])
    assert (np.abs(unpacked(record) - maps).max(axis=(1, 2)) <= steps * 1.001).all()
    assert (np.abs((unpacked(record) - maps).sum(axis=(1, 2))) <= steps * 0.501).all()
    assert np.abs(maps).max(axis=(1, 2)) == pytest.approx(steps * 32766)


def test_a_map_that_is_not_finite_is_an_error_that_names_the_image() -> None:
    finding = make_finding()
    finding.aspect_evidence["mitosis"].blocks["block 1"][0, 3, 3] = np.nan
    with pytest.raises(WeightsError, match=r"images/p00017\.png.*not finite"):
        finding_view(finding, max_side=64)


def test_the_question_asked_first_is_the_answer_against_the_reference_class() -> None:
    finding = make_finding()
    view = finding_view(finding, max_side=64)
    for payload in view.payload["aspects"]:
        aspect = finding.aspects[payload["name"]]
        assert payload["classes"][payload["label"]] == aspect.label
        if aspect.label != aspect.aspect.reference:
            assert payload["against"] == aspect.aspect.reference_index
        else:  # the reference itself is asked against the runner-up
            others = {label: p for label, p in aspect.probabilities.items() if label != aspect.label}
            assert payload["classes"][payload["against"]] == max(others, key=others.__getitem__)
    assert view.payload["aspects"][0]["name"] == "conclusion"


def test_truth_is_compared_as_a_set_and_missing_truth_is_no_disagreement() -> None:
    space = LabelSpace((Aspect("signs", ("edema", "mass", "nodule"), multi_label=True), TISSUE["mitosis"]))
    finding = make_finding(space=space)
    signs = replace(finding.aspects["signs"], labels=("edema", "nodule"))
    finding = replace(finding, aspects={**finding.aspects, "signs": signs})
    rows = {
        row.name: row
        for row in finding_view(finding, max_side=64, truth={"labels": {"signs": ["nodule", "edema"]}}).rows
    }
    assert rows["signs"].agrees
    assert rows["mitosis"].truth is None
    wrong = finding_view(finding, max_side=64, truth={"labels": {"signs": []}}).rows[0]
    assert not wrong.agrees
    assert wrong.truth == "none"


def test_many_classes_are_folded_but_the_chosen_and_the_true_one_stay_in_sight() -> None:
    space = LabelSpace((Aspect("type", tuple(f"class {i}" for i in range(30))),), diagnosis="type")
    finding = make_finding(space=space, grids={"block 1": 8})
    least = min(finding.aspects["type"].probabilities, key=finding.aspects["type"].probabilities.__getitem__)
    row = finding_view(finding, max_side=64, truth={"labels": {"type": least}}).diagnosis
    assert row is not None
    assert {finding.aspects["type"].label, least} <= {item.name for item in row.classes}
    assert len(row.classes) + len(row.folded) == 30
