"""What synthetic studies show: classes, gaps between their parameters, balance, the conclusion's rule."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from mdnet.data.phantom import LABEL_SPACE, SECTIONS, conclude, draw_study
from mdnet.data.phantom.specification import CONCLUSION, FEATURES, INSUFFICIENT, RANGES, score

SPECS = [draw_study(5, index) for index in range(3000)]
GOOD = [spec for spec in SPECS if spec.quality == "good"]


def test_label_space_names_the_published_aspects_with_their_references() -> None:
    assert SECTIONS == ("pleomorphism", "crowding", "polarity", "mitosis", "nucleoli", "conclusion")
    assert LABEL_SPACE.diagnosis == "conclusion"
    assert LABEL_SPACE["conclusion"].classes == ("normal", "low grade", "high grade", INSUFFICIENT)
    assert not LABEL_SPACE["conclusion"].ordered
    assert all(LABEL_SPACE[name].ordered for name in FEATURES)
    references = {"mild", "absent", "preserved", "inconspicuous", "normal"}
    assert {aspect.reference for aspect in LABEL_SPACE.aspects} == references


def test_study_is_decided_by_seed_and_index() -> None:
    assert draw_study(5, 17) == SPECS[17]
    assert draw_study(6, 17) != SPECS[17]
    assert len({spec.tissue for spec in SPECS}) == len(SPECS)


@pytest.mark.parametrize("name", FEATURES)
def test_ranges_of_neighbouring_classes_leave_a_gap(name: str) -> None:
    """At least as wide as a third of the way between the classes' middles."""
    for lower, upper in itertools.pairwise(LABEL_SPACE[name].classes):
        for parameter, (_, highest) in RANGES[name][lower].items():
            lowest = RANGES[name][upper][parameter][0]
            middles = np.mean(RANGES[name][upper][parameter]) - np.mean(RANGES[name][lower][parameter])
            assert lowest - highest >= middles / 3 > 0


def test_drawn_parameters_lie_in_the_ranges_of_their_labels() -> None:
    for spec in GOOD:
        drawn = asdict(spec.nuclei)
        for name in FEATURES:
            for parameter, (lowest, highest) in RANGES[name][spec.labels[name]].items():
                assert lowest <= drawn[parameter] <= highest


def test_nuclei_are_elongated_enough_to_show_polarity_at_every_pleomorphism() -> None:
    assert min(spec.nuclei.elongation for spec in GOOD) >= 2.0


def test_conclusions_and_classes_are_balanced() -> None:
    shares = Counter(spec.labels[CONCLUSION] for spec in SPECS)
    expected = {"normal": 0.3, "low grade": 0.3, "high grade": 0.3, INSUFFICIENT: 0.1}
    for label, share in expected.items():
        assert shares[label] / len(SPECS) == pytest.approx(share, abs=0.03)
    for name in FEATURES:
        counts = Counter(spec.labels[name] for spec in GOOD)
        assert min(counts[label] for label in LABEL_SPACE[name].classes) >= 0.2 * len(GOOD)


def test_aspects_are_correlated_but_none_decides_another() -> None:
    levels = np.array([[LABEL_SPACE[name].index(spec.labels[name]) for name in FEATURES] for spec in GOOD])
    correlation = np.corrcoef(levels.T)[np.triu_indices(len(FEATURES), 1)]
    assert correlation.min() > 0.2
    assert correlation.max() < 0.6
    for name, other in itertools.permutations(FEATURES, 2):
        pairs = Counter((spec.labels[name], spec.labels[other]) for spec in GOOD)
        assert len(pairs) == len(LABEL_SPACE[name].classes) * len(LABEL_SPACE[other].classes)


def test_conclusion_follows_the_points_of_the_features() -> None:
    for levels in itertools.product(*(range(len(LABEL_SPACE[name].classes)) for name in FEATURES)):
        labels = {
            name: LABEL_SPACE[name].classes[level] for name, level in zip(FEATURES, levels, strict=True)
        }
        points = sum(levels[:4]) + 2 * levels[4]
        assert score(labels) == points
        assert conclude(labels) == ("normal" if points < 3 else "low grade" if points < 6 else "high grade")
    assert conclude({name: LABEL_SPACE[name].reference for name in FEATURES}) == "normal"
    assert conclude({name: LABEL_SPACE[name].classes[-1] for name in FEATURES}) == "high grade"


def test_drawn_conclusions_follow_the_rule_and_keep_off_its_thresholds() -> None:
    for spec in SPECS:
        assert conclude(spec.labels) == spec.labels[CONCLUSION]
    assert {score(spec.labels) for spec in GOOD} == {0, 1, 2, 4, 5, 7, 8, 9, 10}


def test_insufficient_study_has_a_conclusion_only() -> None:
    for spec in SPECS:
        assert (set(spec.labels) == {CONCLUSION}) == (spec.quality != "good")
        assert (spec.labels[CONCLUSION] == INSUFFICIENT) == (spec.quality != "good")
