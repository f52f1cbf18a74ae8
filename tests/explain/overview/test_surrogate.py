"""The tree in the model's place: a known rule is found, noise is not, and the rule reads in class names."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from overview_records import SPACE, record

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import ConfigurationError, DataError
from mdnet.explain.overview.surrogate import fit_surrogate


def known_rule(labels):
    return "tumor" if labels["mitosis"] == "frequent" or labels["findings"] == "nodule" else "normal"


def records(count, conclude):
    """Every combination of classes again and again, with a conclusion."""
    combinations = list(product(SPACE["mitosis"].classes, ("oedema", "nodule")))
    made = []
    for number in range(count):
        mitosis, finding = combinations[number % len(combinations)]
        conclusion = conclude({"mitosis": mitosis, "findings": finding})
        said = {"mitosis": mitosis, "findings": (finding,), "conclusion": conclusion}
        made.append(record(number, said=said, truth={"conclusion": "tumor"}))
    return made


def test_a_known_rule_is_found_and_read_in_class_names():
    made = records(120, known_rule)
    found = fit_surrogate(made, SPACE, rule=known_rule)
    assert found.fidelity == 1
    assert found.depth == 2
    assert found.fitted_on + found.held_out == 120
    assert found.rule.fidelity == found.rule.agreement == found.rule.tree_there == 1
    tumors = np.mean([each.labels["conclusion"] == ("tumor",) for each in made])
    assert found.majority == pytest.approx(tumors, abs=0.1)
    assert found.model_accuracy == found.accuracy == pytest.approx(tumors, abs=0.1)
    text = "\n".join(found.rules)
    assert "mitosis is frequent" in text
    assert "mitosis is absent or rare" in text
    assert "findings is nodule" in text or "findings is not oedema" in text
    assert found.leaves == sum(line.endswith(")") for line in found.rules) == 3


def test_noise_is_mimicked_no_better_than_chance():
    random = np.random.default_rng(0)
    found = fit_surrogate(records(1000, lambda _: str(random.choice(["normal", "tumor"]))), SPACE)
    assert abs(found.fidelity - 0.5) < 0.08  # a deviation of 0.02 in 500 studies
    assert found.fidelity < found.majority + 0.05


def test_one_diagnosis_for_all_needs_no_question():
    found = fit_surrogate(records(60, lambda _: "normal"), SPACE)
    assert found.rules == ("always: normal (100% of 30)",)
    assert (found.depth, found.fidelity, found.majority) == (0, 1, 1)


def test_a_second_question_on_one_aspect_names_only_the_classes_that_are_left():
    space = LabelSpace(
        (SPACE["mitosis"], Aspect("conclusion", ("normal", "tumor", "benign"))), diagnosis="conclusion"
    )
    answers = {"absent": "normal", "rare": "tumor", "frequent": "benign"}
    made = [replace(each, labels=dict(each.labels)) for each in records(60, known_rule)]
    for each in made:
        each.labels["conclusion"] = (answers[each.labels["mitosis"][0]],)
    found = fit_surrogate(made, space)
    assert {line.strip().split(":")[0] for line in found.rules if line.endswith(")")} == {
        "if mitosis is absent",
        "if mitosis is rare",
        "if mitosis is frequent",
    }


def test_no_patient_stands_on_both_sides():
    made = records(500, known_rule)  # one patient of 300 studies, 40 of 5
    patients = ["big"] * 300 + [f"p{number // 5}" for number in range(200)]
    made = [
        replace(each, study=replace(each.study, patient=patient))
        for each, patient in zip(made, patients, strict=True)
    ]
    found = fit_surrogate(made, SPACE)
    assert (found.fitted_on, found.held_out) in {(400, 100), (105, 395)}  # 21 patients to fit on


def test_what_cannot_be_mimicked_is_refused():
    with pytest.raises(DataError, match="at least 40"):
        fit_surrogate(records(39, known_rule), SPACE)
    with pytest.raises(ConfigurationError, match="needs one diagnosis"):
        fit_surrogate(records(60, known_rule), replace(SPACE, diagnosis=None))
    with pytest.raises(ConfigurationError, match="needs one diagnosis"):
        fit_surrogate(records(60, known_rule), replace(SPACE, diagnosis="findings"))
