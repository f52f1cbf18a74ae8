"""One call for every method: its results in the order of the images, its faults in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdnet.data.study import LabelSpace
from mdnet.errors import ConfigurationError
from mdnet.explain import registry
from mdnet.explain.registry import Maps, explain, get_method, list_methods, register_method
from mdnet.explain.targets import ClassTarget, ReportTarget, SectionTarget, WordTarget


@pytest.fixture
def invented(monkeypatch):
    """Methods that exist for one test."""
    get_method("evidence")  # the real ones are in
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))

    @register_method("brightness", unit="{unit} a pixel", targets=(ClassTarget,))
    def brightness(scorer, pixel_values, *, power: float = 1.0):
        """The image itself.

        Not in the summary.
        """
        return pixel_values.mean(dim=1) ** power

    @register_method("noise", unit="none", randomised=True)
    def noise(scorer, pixel_values):
        """Random."""
        return torch.randn(len(pixel_values), 2, 2)

    @register_method("own_score", unit="none")
    def own_score(scorer, pixel_values):
        """A sum of its own."""
        ones = torch.ones(len(pixel_values), 2, 2)
        return Maps(ones, ones[:, 0, 0], torch.full((len(pixel_values),), 5.0))


def test_methods_by_design_are_listed_first(invented):
    names = list_methods()
    by_design = [get_method(name).by_design for name in names]
    assert by_design == sorted(by_design, reverse=True)
    assert {"evidence", "attention", "word_evidence", "section_attention", "report_attention"} <= set(names)
    assert list_methods("bright*") == ["brightness"]


def test_a_method_tells_its_settings_and_its_first_line(invented):
    method = get_method("brightness")
    assert method.summary == "The image itself."
    assert method.parameters == {"power": 1.0}
    for name in list_methods():
        assert get_method(name).summary, name


def test_results_come_in_the_order_of_the_images_whatever_their_targets(small, pictures, invented):
    images = pictures + pictures[::-1]  # in batches of 2

    def every_other(finding):
        return ClassTarget("mitosis", "rare", "absent" if finding.source in ("image 0", "image 3") else None)

    found = explain(small, images, method="brightness", target=every_other, power=2.0)
    findings = small(images)
    for number, (each, finding) in enumerate(zip(found, findings, strict=True)):
        target = every_other(finding)
        pixels = small.pixel_values([images[number]])
        np.testing.assert_allclose(each.map, pixels.mean(dim=1)[0].numpy() ** 2)
        logits = finding.aspects["mitosis"].logits
        expected = logits["rare"] - (logits["absent"] if target.against else 0.0)
        assert each.score == pytest.approx(expected, rel=1e-9)
        assert (each.target, each.source) == (str(target), f"image {number}")
        assert (each.unit, each.model, each.offset) == ("logit a pixel", "small", None)
        assert each.parameters == {"power": 2.0}
        np.testing.assert_array_equal(each.image, images[number])


def test_a_target_can_follow_from_what_the_model_said_of_each_image(small, pictures, invented):
    found = explain(small, pictures, method="noise", target=ReportTarget.of)
    for each, finding in zip(found, small(pictures), strict=True):
        assert each.target == str(ReportTarget.of(finding))
        assert each.score == pytest.approx(
            sum(section.log_probabilities.sum() for section in finding.report.sections.values()), rel=1e-8
        )


def test_a_method_with_a_sum_of_its_own_keeps_it(small, pictures, invented):
    (found,) = explain(small, pictures[:1], method="own_score")
    assert (found.score, found.offset, found.residual) == (5.0, 1.0, 0.0)


def test_random_methods_follow_the_seed_and_leave_torch_s_generator_alone(small, pictures, invented):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (explain(small, pictures[:1], method="noise", seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(first.map, again.map)
    assert not np.array_equal(first.map, other.map)
    assert first.parameters == {"seed": 1}


def test_a_number_may_be_whole_and_a_list_may_be_one_of_yaml(small, pictures, invented):
    assert explain(small, pictures[:1], method="brightness", power=2)[0].parameters == {"power": 2}
    (found,) = explain(small, pictures[:1], method="gradient_shap", baselines=["mean"], samples=1)
    assert found.parameters["baselines"] == ["mean"]


def test_a_name_is_given_to_one_method_only(invented):
    with pytest.raises(ConfigurationError, match="'noise' is registered already"):
        register_method("noise", unit="none")


def test_a_model_without_labels_has_no_class_to_explain(make_predictor, pictures):
    unlabelled = make_predictor(label_space=LabelSpace())
    for target, message in ((None, "has no diagnosis"), (ClassTarget("mitosis", "rare"), "no aspect")):
        with pytest.raises(ConfigurationError, match=message):
            explain(unlabelled, pictures[:1], target=target)


def test_what_cannot_be_done_is_said_before_any_image_is_explained(small, pictures, invented):
    for arguments, message in (
        ({"method": "magic"}, "no method 'magic'; there are"),
        ({"method": "brightness", "contrast": 1}, "brightness has no setting contrast; its settings: power"),
        ({"method": "noise", "contrast": 1}, "its settings: none"),
        ({"method": "attention"}, "attention cannot explain a ClassTarget"),
        ({"method": "brightness", "power": "abc"}, "brightness: power is 'abc': give a number, such as 1.0"),
        ({"method": "smooth_grad", "samples": 1.5}, "samples is 1.5: give a whole number, such as 32"),
        ({"method": "occlusion", "window": True}, "window is True: give a whole number"),
        ({"method": "gradient_shap", "baselines": "mean"}, "baselines is 'mean': give a list"),
        ({"method": "evidence", "block": 3}, "block is 3: give a name"),
        ({"method": "brightness", "target": ClassTarget("mitosis", "green")}, "no class 'green'"),
        (
            {"method": "evidence", "target": SectionTarget("mitosis", ("a",))},
            "cannot explain a SectionTarget",
        ),
        ({"method": "brightness", "target": WordTarget("mitosis", ("a",))}, "cannot explain a WordTarget"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            explain(small, pictures, **arguments)
    assert explain(small, []) == []
