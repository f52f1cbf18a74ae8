"""Explanations of studies of several views: every method on the strip, and studies that lack a view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.data.study import Study
from mdnet.explain.attention_use import UniformAttention, attention_replaced, measure_attention_use
from mdnet.explain.by_design import batch_evidence
from mdnet.explain.faithfulness.benchmark import benchmark
from mdnet.explain.overview.observations import observe
from mdnet.explain.registry import explain, get_method, list_methods
from mdnet.explain.targets import ClassTarget, ReportTarget, Scorer, SectionTarget, WordTarget
from mdnet.inference.predictor import Predictor

TARGET = ClassTarget("mitosis", "rare", "absent")
CHEAP = {
    "gradient_shap": {"samples": 2},
    "kernel_shap": {"parts": 9, "samples": 40},
    "lime": {"parts": 9, "samples": 40},
    "integrated_gradients": {"steps": 4},
    "smooth_grad": {"samples": 2},
}


@pytest.fixture(scope="module")
def two(make_predictor) -> Predictor:
    return make_predictor(views=2)


@pytest.fixture(scope="module")
def studies(pictures):
    """Two studies of two views, and one that has its first alone."""
    return [pictures[:2], [pictures[2]], [pictures[1], pictures[2]]]


def target_for(name: str):
    kinds = get_method(name).targets
    if ClassTarget in kinds:
        return TARGET
    if WordTarget in kinds:
        return lambda finding: WordTarget.of(finding, "mitosis", 0)
    return ReportTarget.of if ReportTarget in kinds else lambda finding: SectionTarget.of(finding, "mitosis")


@pytest.mark.parametrize("name", list_methods())
def test_every_method_draws_the_views_that_a_study_has(two, studies, name):
    found = explain(two, studies, method=name, target=target_for(name), **CHEAP.get(name, {}))
    assert [each.image.shape for each in found] == [(32, 64, 3), (32, 32, 3), (32, 64, 3)]
    for each in found:
        rows, columns = each.map.shape
        assert columns == rows * each.image.shape[1] // 32
        assert np.isfinite(each.map).all()
        if each.offset is not None and get_method(name).by_design:
            assert float(each.map.sum()) + each.offset == pytest.approx(each.score, abs=1e-6)


def test_a_study_that_lacks_a_view_is_scored_as_the_model_scores_it(two, studies):
    findings = two(studies)
    for each, finding in zip(explain(two, studies, target=TARGET), findings, strict=True):
        logits = finding.aspects["mitosis"].logits
        assert each.score == pytest.approx(logits["rare"] - logits["absent"], abs=1e-9)
        expected = finding.evidence("mitosis", "rare", against="absent")
        np.testing.assert_allclose(each.map, np.asarray(expected), atol=1e-6)  # nothing over the border


def test_attention_of_a_word_is_that_of_the_finding(two, studies):
    section = "mitosis"
    found = explain(two, studies, method="attention", target=lambda f: WordTarget.of(f, section, 0))
    for each, finding in zip(found, two(studies), strict=True):
        np.testing.assert_allclose(each.map, finding.attention(section)[0], atol=1e-9)


def test_grad_cam_of_a_class_is_the_rectified_cam_of_each_view(two, studies):
    """One class's gradient is the same at every place, so the two agree in sign and up to a factor."""
    cam, grad_cam = (explain(two, studies, method=name, target=TARGET) for name in ("cam", "grad_cam"))
    for plain, rectified in zip(cam, grad_cam, strict=True):
        expected = np.maximum(plain.map, 0)
        np.testing.assert_allclose(rectified.map / rectified.map.max(), expected / expected.max(), atol=1e-6)


def test_all_evidence_of_a_batch_of_strips_sums_to_the_logits(two, pictures):
    batch = batch_evidence(two.model, two.pixel_values([pictures[:2], pictures[1:]]))
    for aspect in two.model.config.space.names:
        assert batch.residual(aspect).abs().max() < 1e-9
    finding = two([pictures[:2]])[0]
    summed = batch.summed("mitosis", "rare")
    np.testing.assert_allclose(summed[0].numpy(), np.asarray(finding.evidence("mitosis", "rare")), atol=1e-6)


def test_a_change_of_one_view_moves_no_gradient_of_the_evidence_of_the_other(two, pictures):
    pixel_values = two.pixel_values([pictures[:2]]).requires_grad_()
    (gradient,) = torch.autograd.grad(Scorer(two.model, TARGET)(pixel_values).sum(), pixel_values)
    other = pixel_values.detach().clone()
    other[..., 32:] = two.pixel_values([[pictures[0], pictures[2]]])[..., 32:]
    other.requires_grad_()
    (changed,) = torch.autograd.grad(Scorer(two.model, TARGET)(other).sum(), other)
    torch.testing.assert_close(gradient[..., :32], changed[..., :32])  # the logit is a sum over views
    assert not torch.equal(gradient[..., 32:], changed[..., 32:])


@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
@torch.no_grad()
def test_uniform_attention_leaves_out_what_is_missing(build_model, draw_batch, attention):
    model = build_model(views=2, attention=attention)
    batch = draw_batch(2, size=(32, 64))
    present = torch.tensor([[True, True], [False, True]])
    with attention_replaced(model, UniformAttention):
        maps = model(batch.pixel_values, None, batch.tokens, present=present).attention.unflatten(-1, (4, 8))
    torch.testing.assert_close(maps[0], torch.full_like(maps[0], 1 / 32))
    torch.testing.assert_close(maps[1, ..., 4:], torch.full_like(maps[1, ..., 4:], 1 / 16))
    assert not maps[1, ..., :4].any()


@pytest.fixture(scope="module")
def on_disk(pictures, tmp_path_factory) -> list[Study]:
    """Studies of two images and of one, with reports, and masks on the first."""
    folder, found = tmp_path_factory.mktemp("studies"), []
    for number in range(4):
        paths = []
        for view in range(1 if number == 2 else 2):
            paths.append(folder / f"{number}_{view}.png")
            Image.fromarray(np.roll(pictures[view], number, axis=0)).save(paths[-1])
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 4 * number : 4 * number + 12] = 255
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        report = {"mitosis": ("mitotic figures are frequent .",)}
        labels = {"mitosis": ("rare", "frequent")[number % 2]}
        masks = {"mitosis": folder / f"{number}_mask.png"}
        found.append(Study(str(number), tuple(paths), labels=labels, report=report, masks=masks))
    return found


def test_the_use_of_attention_is_measured_on_what_each_study_has(build_model, on_disk):
    model = build_model(views=2, dtype=torch.float32)
    before = measure_attention_use(model, on_disk)["uniform"].report.mean
    lone = [Study(s.id, s.images[:1], report=s.report) for s in on_disk]
    single = build_model(dtype=torch.float32)
    single.load_state_dict(model.state_dict())
    found, expected = (measure_attention_use(each, lone)["uniform"].report.mean for each in (model, single))
    assert found == pytest.approx(expected, abs=1e-5)
    assert before != pytest.approx(found)


def test_the_benchmark_takes_masks_on_the_first_view(build_model, on_disk):
    predictor = Predictor(build_model(views=2, dtype=torch.float32), device="cpu", batch_size=4)
    whole = [study for study in on_disk if len(study.images) == 2]
    table = benchmark(predictor, whole, methods=["evidence"], few=2, checked=1, steps=3, progress=False)
    (row,) = table.rows
    inside = []
    for study in whole:
        target = ClassTarget("mitosis", str(study.labels["mitosis"]), "absent")
        heat = np.maximum(explain(predictor, [study], target=target)[0].map, 0)
        mask = np.asarray(Image.open(study.masks["mitosis"])) > 0
        inside.append(heat[:, :32][mask].sum() / heat.sum())
    assert dict(row)["energy"] == pytest.approx(np.mean(inside), abs=1e-6)


def test_an_overview_keeps_what_each_study_has(build_model, on_disk):
    model = build_model(views=2, dtype=torch.float32)
    single = build_model(dtype=torch.float32)
    single.load_state_dict(model.state_dict())
    observed = observe(Predictor(model, device="cpu"), on_disk, progress=False)
    (alone,) = observe(Predictor(single, device="cpu"), on_disk[2:3], progress=False)
    np.testing.assert_allclose(observed[2].record.features, alone.record.features, atol=1e-5)
    np.testing.assert_allclose(observed[2].states, alone.states, atol=1e-5)
    assert observed[2].record.text == alone.record.text
