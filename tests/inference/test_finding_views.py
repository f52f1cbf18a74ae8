"""Findings of studies of several views: maps view by view, and studies that lack some."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.data.study import Study
from mdnet.errors import ConfigurationError
from mdnet.evaluation.maps import score_maps, tissue_share
from mdnet.inference.finding import spread
from mdnet.inference.predictor import Predictor
from mdnet.models.configuration import ATTENTION_NAMES


@pytest.fixture(scope="module")
def make_predictor(build_model, draw_batch, let_sections_end):
    def make(views: int = 2, batch_size: int = 3, **options) -> Predictor:
        model = build_model(views=views, dtype=torch.float32, **options)
        let_sections_end(model, draw_batch(4, size=(32, 32 * views)).pixel_values.float())
        return Predictor(model, name="small", device="cpu", batch_size=batch_size)

    return make


@pytest.fixture(scope="module")
def predictor(make_predictor) -> Predictor:
    return make_predictor()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Five images of several sizes."""
    folder, random = tmp_path_factory.mktemp("views"), np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(40, 50), (61, 45), (32, 32), (40, 50), (25, 30)]):
        paths.append(folder / f"{number}.png")
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def assert_alike(first, second, tolerance: float = 1e-5) -> None:
    assert first.source == second.source
    assert first.report.text == second.report.text
    assert first.image.shape == second.image.shape
    for name, aspect in first.aspects.items():
        assert aspect.logits == pytest.approx(dict(second.aspects[name].logits), rel=tolerance, abs=tolerance)
        maps = [each.evidence(name, aspect.aspect.classes[0]) for each in (first, second)]
        np.testing.assert_allclose(*maps, atol=tolerance)
    for name in first.report.sections:
        np.testing.assert_allclose(first.attention(name), second.attention(name), atol=tolerance)


def test_studies_as_lists_records_and_arrays_give_one_finding_each(predictor, files):
    two = predictor([[files[0], files[1]]])
    assert len(two) == 1
    assert two[0].source == f"{files[0]} + {files[1]}"
    assert_alike(two[0], predictor(Study("s", (files[0], files[1], files[2]))))  # the third is beyond
    arrays = [np.asarray(Image.open(path)) for path in files[:2]]
    assert predictor([tuple(arrays)])[0].diagnosis.logits == two[0].diagnosis.logits
    assert predictor([tuple(arrays)])[0].source == "image 0"
    single = predictor(files[0])
    assert len(single.views) == 1
    assert_alike(single, predictor([[files[0]]])[0])
    assert_alike(single, predictor([Study("s", (files[0],))])[0])


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_a_list_of_mixed_studies_gives_what_each_gives_alone(make_predictor, files, attention):
    predictor = make_predictor(attention=attention)
    studies = [[files[0], files[1]], files[2], [files[3], files[4]], [files[1]]]
    for study, finding in zip(studies, predictor(studies), strict=True):
        assert_alike(finding, predictor([study])[0])


@pytest.mark.parametrize("attention", ["sharpened", "additive"])
def test_one_image_to_a_model_of_two_views_is_an_image_to_a_model_of_one(
    make_predictor, build_model, files, attention
):
    several = make_predictor(attention=attention)
    model = build_model(attention=attention, dtype=torch.float32)
    model.load_state_dict(several.model.state_dict())
    single = Predictor(model, device="cpu")
    for path in files:
        assert_alike(several(path), single(path))
        assert several(path).report.sections["mitosis"].sharpness == pytest.approx(
            single(path).report.sections["mitosis"].sharpness, abs=1e-5
        )
    pooled = [np.stack([*p.pooled_features(files)]) for p in (several, single)]
    np.testing.assert_allclose(*pooled, atol=1e-5)


def test_evidence_of_the_views_and_the_bias_give_the_logit(predictor, files):
    finding = predictor([[files[0], files[1]]])[0]
    assert [view.shape for view in finding.views] == [(40, 50, 3), (61, 45, 3)]
    assert finding.image.shape == (40, 100, 3)
    np.testing.assert_array_equal(finding.image[:, :50], finding.views[0])
    for name, aspect in finding.aspects.items():
        bias = finding.aspect_evidence[name].bias
        for number, (label, logit) in enumerate(aspect.logits.items()):
            whole = finding.evidence(name, label)
            maps = [finding.evidence(name, label, view=view) for view in range(2)]
            assert [each.shape for each in maps] == [(40, 50), (61, 45)]
            assert whole.shape == (40, 100)
            assert float(sum(each.sum() for each in maps)) + bias[number] == pytest.approx(logit, abs=1e-4)
            for each, half in zip(maps, (whole[:, :50], whole[:, 50:]), strict=True):
                assert float(each.sum()) == pytest.approx(float(half.sum()), abs=1e-9)
                assert float(each.sum()) + each.bias == pytest.approx(each.total)
                assert each.total == pytest.approx(logit, abs=1e-4)
            np.testing.assert_allclose(np.asarray(maps[0]), np.asarray(whole[:, :50]), atol=1e-12)
            assert [block.shape for block in maps[1].blocks] == [(16, 16), (8, 8), (4, 4)]
            assert [block.shape for block in whole.blocks] == [(16, 32), (8, 16), (4, 8)]
            contrast = finding.evidence(name, label, against=aspect.aspect.classes[0], view=1)
            reference = finding.evidence(name, aspect.aspect.classes[0], view=1)
            np.testing.assert_allclose(
                np.asarray(contrast), np.asarray(maps[1]) - np.asarray(reference), atol=1e-12
            )


def test_attention_of_the_views_is_one_distribution(predictor, files):
    findings = predictor([[files[0], files[1]], files[2:4], [files[4], files[0]]])
    words = 0
    for finding, name in product(findings, predictor.model.config.sections):
        section = finding.report.sections[name]
        whole = finding.attention(name)
        parts = [finding.attention(name, view=view) for view in range(2)]
        assert whole.shape == (len(section.words), 4, 8)
        np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)
        np.testing.assert_allclose(whole.sum(axis=(1, 2)), 1.0)
        words += len(section.words)
        assert all((part.sum(axis=(1, 2)) < 1).all() for part in parts)
    assert words > 5


def test_a_missing_view_has_no_map(predictor, files):
    finding = predictor(files[0])
    assert finding.image.shape == (40, 50, 3)
    assert finding.evidence("mitosis").shape == (40, 50)
    assert finding.attention("mitosis").shape[1:] == (4, 4)
    np.testing.assert_allclose(finding.attention("mitosis").sum(axis=(1, 2)), 1.0)
    for call in (finding.evidence, finding.attention):
        with pytest.raises(ConfigurationError, match="no view 1; the study has 1, counted from 0"):
            call("mitosis", view=1)


def test_nothing_of_one_view_is_spread_over_another():
    matrix = spread(12, 6, views=3)
    np.testing.assert_array_equal(matrix[4:8, 2:4], spread(4, 2))
    assert not matrix[:4, 2:].any()
    assert not matrix[8:, :4].any()


def test_studies_of_no_image_or_of_too_many_are_refused(predictor, make_predictor, files):
    with pytest.raises(ConfigurationError, match="a study of 0 images: the model looks at 2"):
        predictor([[]])
    with pytest.raises(ConfigurationError, match="a study of 3 images: the model looks at 2 a study; give 1"):
        predictor([files[:3]])
    with pytest.raises(ConfigurationError, match="a study of 2 images: the model looks at 1"):
        make_predictor(views=1)([files[:2]])
    pictures = [np.asarray(Image.open(path)) for path in files[2:4]]
    assert predictor.pixel_values([pictures]).shape == (1, 3, 32, 64)
    with pytest.raises(ConfigurationError, match="looks at 2 images of a study, and a study has fewer"):
        predictor.pixel_values(pictures)


def test_the_image_that_has_nothing_to_see_is_named(predictor, files, tmp_path, caplog):
    Image.fromarray(np.full((32, 32, 3), 7, np.uint8)).save(tmp_path / "even.png")
    with caplog.at_level(logging.WARNING):
        predictor([[files[0], tmp_path / "even.png"]])
    assert [message.split(":")[0] for message in caplog.messages] == [str(tmp_path / "even.png")]


def test_masks_lie_on_the_first_view(predictor, files, tmp_path):
    mask = np.zeros((40, 50), np.uint8)
    mask[5:30, 10:40] = 255
    for name in ("mitosis", "tissue"):
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    masks = {name: tmp_path / f"{name}.png" for name in ("mitosis", "tissue")}
    study = Study("s", (files[0], files[3]), labels={"mitosis": "rare"}, masks=masks)
    finding = predictor(study)
    scores = {score.kind: score for score in score_maps(finding, study)}
    assert scores["evidence"].chance == pytest.approx((mask > 0).mean() / 2)
    heat = np.maximum(np.asarray(finding.evidence("mitosis", "rare", against="absent")), 0)
    assert scores["evidence"].energy == pytest.approx(heat[:, :50][mask > 0].sum() / heat.sum())
    label = finding.diagnosis.label
    own = np.abs(np.asarray(finding.evidence("conclusion", against=finding.diagnosis.opposite(label))))
    share, area = tissue_share(finding, study)
    assert area == pytest.approx((mask > 0).mean())
    assert share == pytest.approx(own[:, :50][mask > 0].sum() / own[:, :50].sum())


def test_a_page_of_two_views_is_written(predictor, files, tmp_path):
    html = predictor([[files[0], files[1]]])[0].save_html(tmp_path / "two.html").read_text()
    assert 'width="100" height="40"' in html
    assert "<h1>0.png + 1.png</h1>" in html
