"""Own image against others, from likelihoods set by hand; images of another kind against studies."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from answers import SPACE, make_record, make_study
from PIL import Image

from mdnet.errors import DataError, WeightsError
from mdnet.evaluation import dependence
from mdnet.evaluation.unfamiliar import unfamiliar_images, unfamiliarity
from mdnet.inference.calibration import fit_calibration
from mdnet.inference.finding import Unusualness
from mdnet.inference.predictor import Predictor
from mdnet.models.calibration import Calibration
from mdnet.models.image_module import ImageFeatures

MODEL = SimpleNamespace(
    report=object(), config=SimpleNamespace(sections=("mitosis", "conclusion"), space=SPACE)
)


def records_of(*reports):
    return [
        replace(
            make_record(make_study(str(number), report=report), mitosis="rare", conclusion="tumor"),
            labels={"mitosis": ("rare",), "findings": ("nodule",), "conclusion": ("tumor",)},
        )
        for number, report in enumerate(reports)
    ]


def test_gains_are_own_less_others_and_equal_reports_are_no_others(monkeypatch):
    scores = np.array([[-1.0, -9.0, -3.0], [-4.0, -2.0, -6.0], [-1.5, -9.0, -3.0]])
    monkeypatch.setattr(dependence, "report_log_likelihoods", lambda model, images, reports: scores)
    records = records_of({"mitosis": "few"}, {"mitosis": "none", "conclusion": ""}, {"mitosis": "few"})
    features = dict.fromkeys(range(3), ImageFeatures((), torch.zeros(1, 4, 2), 2, 2))
    found = dependence.measure_dependence(MODEL, records, features)
    assert found.gains == [-1 + 9, -2 + 5, -3 + 9]
    assert found.metrics["likelihood"] == {
        "studies": 3,
        "own_image": pytest.approx(-2.0),
        "other_images": pytest.approx((-9 - 5 - 9) / 3),
    }
    assert found.metrics["retrieval"]["recall_at_1"] == 1.0  # of two images with "few" either is right
    same = dependence.measure_dependence(MODEL, records[:1] * 3, features)
    assert same.gains == []
    assert dependence.measure_dependence(MODEL, records, {0: features[0]}) is None


def test_the_sample_is_bounded_and_only_of_reports_that_the_model_writes(monkeypatch):
    monkeypatch.setattr(dependence, "_SAMPLE", 5)
    studies = [
        make_study(str(n), report={"mitosis": "few"} if n % 2 else {"remarks": "x"}) for n in range(40)
    ]
    places = dependence.sampled_places(MODEL, studies)
    assert len(places) == 5
    assert all(place % 2 for place in places)
    assert places == sorted(dependence.sampled_places(MODEL, studies))
    assert dependence.sampled_places(SimpleNamespace(report=None), studies) == []


def test_guides_are_those_of_the_model(build_model, draw_batch):
    model = build_model()
    output = model(draw_batch(1).pixel_values)
    guides = model.guides(output.logits)
    labels = {
        aspect.name: tuple(np.array(aspect.classes)[guides[aspect.name][0].bool().numpy()])
        if aspect.multi_label
        else (aspect.classes[int(guides[aspect.name])],)
        for aspect in model.config.space.aspects
    }
    record = replace(make_record(make_study("a")), labels=labels)
    ours = dependence.guides_of(record, model.config.space, torch.device("cpu"))
    assert all(torch.equal(ours[name].double(), guides[name].double()) for name in guides)


@pytest.fixture
def calibrated(build_model, phantom_data):
    predictor = Predictor(build_model(dtype=torch.float32, sections=()), device="cpu")
    studies = [replace(s, labels={}) for s in phantom_data.studies]
    predictor.model.calibration = fit_calibration(predictor, studies)
    return predictor


def test_images_of_another_kind_are_told_from_the_studies(calibrated, phantom_data, tmp_path):
    noise = np.random.default_rng(0)
    for number in range(3):
        image = noise.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    studies = phantom_data.studies[:6]
    findings = calibrated([s.images[0] for s in studies])
    records = [
        replace(make_record(study), unusualness=finding.unusualness)
        for study, finding in zip(studies, findings, strict=True)
    ]
    images = unfamiliar_images(calibrated, tmp_path)
    found = unfamiliarity(calibrated, records, images)
    assert (found["images"], found["studies"]) == (3, 6)
    assert found["auroc"] == 1.0
    far = [replace(record, unusualness=Unusualness(0.99, 1e6, True)) for record in records]
    assert unfamiliarity(calibrated, far, images) == {
        "images": 3,
        "studies": 6,
        "auroc": 0.0,
        "flagged": found["flagged"],
        "flagged_studies": 1.0,
    }
    with pytest.raises(DataError, match="no image there"):
        unfamiliar_images(calibrated, tmp_path / "empty")


def test_a_model_without_calibration_is_told_so(build_model, tmp_path):
    predictor = Predictor(build_model(dtype=torch.float32, sections=()), name="x", device="cpu")
    with pytest.raises(WeightsError, match="x: not calibrated"):
        unfamiliar_images(predictor, tmp_path)
    predictor.model.calibration = Calibration({})
    with pytest.raises(WeightsError, match="x: calibrated on too few patients"):
        unfamiliar_images(predictor, tmp_path)
