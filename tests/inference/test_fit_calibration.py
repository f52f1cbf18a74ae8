"""What calibration changes (probabilities), what it leaves alone, and what it warns of."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.covariance import LedoitWolf

from mdnet.data.images import load_image
from mdnet.data.study import Study
from mdnet.errors import DataError
from mdnet.inference.calibration import fit_calibration, fit_reference
from mdnet.inference.predictor import Predictor
from mdnet.metrics.calibration import fit_temperature
from mdnet.models.calibration import Calibration, FeatureReference

REPOSITORY = Path(__file__).parents[2]
REAL_DATA = Path(os.environ.get("MDNET_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> list[Study]:
    """30 noise images, each with a label of every aspect but the last one of `cell.type`."""
    from PIL import Image

    folder, random = tmp_path_factory.mktemp("studies"), np.random.default_rng(0)
    made = []
    for number in range(30):
        path = folder / f"{number}.png"
        level = random.integers(20, 256)
        Image.fromarray(random.integers(0, level, (32, 32, 3), dtype=np.uint8)).save(path)
        labels = {
            "mitosis": str(random.choice(["absent", "rare", "frequent"])),
            "findings": tuple(n for n in ("oedema", "effusion", "nodule") if random.random() < 0.5),
            "conclusion": str(random.choice(["normal", "low grade", "high grade"])),
        }
        made.append(Study(f"s{number}", (path,), labels=labels))
    return made


@pytest.fixture
def predictor(build_model) -> Predictor:
    return Predictor(build_model(dtype=torch.float32), name="small", device="cpu", batch_size=8)


def test_a_fit_is_that_of_the_findings_own_logits_and_features(predictor, studies):
    calibration = fit_calibration(predictor, studies, fitted_on="30 studies")
    findings = predictor([str(study.images[0]) for study in studies])
    mitosis = np.array([list(finding.aspects["mitosis"].logits.values()) for finding in findings])
    targets = [predictor.model.config.space["mitosis"].index(s.labels["mitosis"]) for s in studies]
    assert calibration.temperatures["mitosis"] == pytest.approx(fit_temperature(mitosis, targets), rel=1e-4)
    several = np.array([list(finding.aspects["findings"].logits.values()) for finding in findings])
    present = [[int(n in s.labels["findings"]) for n in ("oedema", "effusion", "nodule")] for s in studies]
    assert calibration.temperatures["findings"] == pytest.approx(fit_temperature(several, present), rel=1e-4)
    assert calibration.temperatures["cell.type"] == 1.0  # no label of it
    assert calibration.fitted_on == "30 studies"
    features = np.stack(list(predictor.pooled_features([s.images[0] for s in studies])))
    np.testing.assert_allclose(calibration.reference.mean, features.mean(axis=0), rtol=1e-4, atol=1e-6)
    assert len(calibration.reference.distances) == 30


def test_probabilities_are_those_of_cooled_logits_and_nothing_else_changes(predictor, studies):
    images = [str(study.images[0]) for study in studies[:3]]
    before = predictor(images)
    predictor.model.calibration = Calibration(
        {"mitosis": 2.5, "cell.type": 0.5, "findings": 4.0, "conclusion": 1.0}
    )
    for plain, cooled in zip(before, predictor(images), strict=True):
        assert cooled.report.text == plain.report.text
        assert cooled.out_of_distribution is None
        for name, temperature in predictor.model.calibration.temperatures.items():
            aspect = cooled.aspects[name]
            assert aspect.logits == plain.aspects[name].logits
            assert aspect.labels == plain.aspects[name].labels
            logits = np.array(list(aspect.logits.values()))
            shares = expit(logits / temperature) if name == "findings" else softmax(logits / temperature)
            np.testing.assert_allclose(list(aspect.probabilities.values()), shares, rtol=1e-12)
            for block, values in cooled.aspect_evidence[name].blocks.items():
                np.testing.assert_array_equal(values, plain.aspect_evidence[name].blocks[block])
            label = next(iter(aspect.logits))
            total = cooled.evidence(name, label).total
            assert total == pytest.approx(aspect.logits[label], rel=1e-4, abs=1e-4)


def test_a_calibration_that_is_there_already_plays_no_part_in_a_new_one(predictor, studies):
    first = fit_calibration(predictor, studies)
    predictor.model.calibration = Calibration(dict.fromkeys(first.temperatures, 7.0), first.reference)
    again = fit_calibration(predictor, studies)
    assert again.temperatures == first.temperatures
    assert again.reference.distances.tobytes() == first.reference.distances.tobytes()


def test_a_gaussian_is_shrunk_over_features_of_unit_variance():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 4)) @ random.normal(size=(4, 4)) * [1.0, 1e3, 1e-3, 1.0] + 5
    reference = fit_reference(features, [str(n) for n in range(60)])
    mean, scale = features.mean(axis=0), features.std(axis=0)
    shrunk = LedoitWolf(assume_centered=True).fit((features - mean) / scale).covariance_
    expected = np.linalg.inv(shrunk * np.outer(scale, scale))
    np.testing.assert_allclose(reference.mean, mean)
    np.testing.assert_allclose(reference.precision, expected, rtol=1e-4)


def test_the_distances_of_the_reference_are_those_of_images_it_has_not_seen():
    random = np.random.default_rng(0)
    mixed = random.normal(size=(40, 40)) * 0.8 ** np.arange(40)[:, None]  # correlated, as features are
    familiar, fresh = random.normal(size=(150, 40)) @ mixed, random.normal(size=(2000, 40)) @ mixed
    reference = fit_reference(familiar, [str(n) for n in range(150)])
    scores = reference.score(reference.distance(fresh))
    own = FeatureReference(reference.mean, reference.precision, np.sort(reference.distance(familiar)))
    assert (scores >= 0.9).mean() < 0.13
    assert (own.score(own.distance(fresh)) >= 0.9).mean() > 0.2  # what cross-fitting is for


def test_images_of_one_patient_are_held_out_together():
    random = np.random.default_rng(0)
    patients = random.normal(size=(40, 10))
    features = np.repeat(patients, 5, axis=0) + 1e-3 * random.normal(size=(200, 10))
    names = [str(n) for n in np.repeat(np.arange(40), 5)]
    together = fit_reference(features, names).distances
    apart = fit_reference(features, [str(n) for n in range(200)]).distances
    assert np.median(together) > 1.02 * np.median(apart)


def test_features_that_never_vary_leave_a_reference():
    features = np.random.default_rng(0).normal(size=(50, 3))
    features[:, 1] = 4.0
    reference = fit_reference(features, [str(n) for n in range(50)])
    assert np.isfinite(reference.precision).all()
    assert reference.distance([[0.0, 4.0, 0.0]])[0] < reference.distance([[0.0, 6.0, 0.0]])[0]


def test_too_few_patients_give_no_reference_and_a_line(caplog):
    with caplog.at_level(logging.WARNING):
        assert fit_reference(np.zeros((50, 2)), [str(n % 19) for n in range(50)]) is None
    assert "19 patients are too few for an out-of-distribution score" in caplog.text


def test_few_patients_leave_every_temperature_at_one(predictor, studies, caplog):
    with caplog.at_level(logging.WARNING):
        calibration = fit_calibration(predictor, studies[:19], fitted_on="19 studies")
    assert set(calibration.temperatures.values()) == {1.0}
    assert "no temperature is fitted: 19 patients are fewer than 20" in caplog.text


def test_what_is_not_finite_or_not_there_is_refused_in_words(predictor):
    with pytest.raises(DataError, match="1 not finite; the model diverged"):
        fit_reference([[np.nan, 1.0]], ["a"])
    with pytest.raises(DataError, match="there is none"):
        fit_calibration(predictor, [])


def not_tissue() -> dict[str, np.ndarray]:
    """Pictures of anything but tissue, each with a warning of its own."""
    random = np.random.default_rng(0)
    row, column = np.mgrid[:128, :128]
    ramp = np.stack([2 * row, 2 * column, 255 - 2 * row], axis=-1)
    stripes = np.repeat(255 * ((row // 8) % 2)[..., None], 3, axis=-1)
    disc = np.where(((row - 64) ** 2 + (column - 64) ** 2 < 55**2)[..., None], [190, 90, 30], 0)
    flat = np.broadcast_to(np.array([60, 140, 90]), (128, 128, 3))
    noise = random.integers(0, 256, (128, 128, 3))
    drawn = {"ramp": ramp, "stripes": stripes, "disc": disc, "flat": flat, "noise": noise}
    return {name: picture.astype(np.uint8) for name, picture in drawn.items()}


def test_the_shipped_weights_tell_tissue_from_what_is_none(caplog):
    predictor = Predictor.from_pretrained("mdnet_tiny/phantom", device="cpu")
    paths = sorted((REPOSITORY / "data" / "sample" / "images").glob("*.png"))
    with caplog.at_level(logging.WARNING, logger="mdnet"):
        tiles = predictor([load_image(path) for path in paths])
    assert sum(tile.unusualness.beyond_threshold for tile in tiles) == len(caplog.messages) <= 1
    assert np.median([tile.out_of_distribution for tile in tiles]) == pytest.approx(0.5, abs=0.2)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="mdnet"):
        others = predictor([*not_tissue().values(), 255 - load_image(paths[0])])
    assert all(other.unusualness.beyond_threshold for other in others)
    assert sum("out of distribution, more unusual than 99.9%" in line for line in caplog.messages) == 6
    assert min(other.out_of_distribution for other in others) > max(t.out_of_distribution for t in tiles)
    farthest = max(tile.unusualness.distance for tile in tiles)
    assert min(other.unusualness.distance for other in others) > 1.5 * farthest


@pytest.mark.parametrize("folder", ["csdi_cataract/images", "medpix2/images", "iu_xray/sample_images"])
def test_the_shipped_weights_know_no_other_kind_of_medical_image(folder):
    paths = sorted(path for path in (REAL_DATA / folder).rglob("*.*") if path.is_file())[:12]
    if not paths:
        pytest.skip(f"no real images in {REAL_DATA / folder}")
    findings = Predictor.from_pretrained("mdnet_tiny/phantom", device="cpu")([str(path) for path in paths])
    assert all(finding.unusualness.beyond_threshold for finding in findings)


def test_a_finding_abstains_below_what_is_asked_and_keeps_its_report(predictor, studies):
    plain = predictor(str(studies[0].images[0]))
    probability = plain.diagnosis.probability
    assert not plain.abstained
    assert plain.to_dict()["abstained"] is False
    assert plain.verdict == f"{plain.diagnosis.label} ({probability:.2f})"
    at, above = (replace(plain, abstain_below=below) for below in (probability, probability + 1e-9))
    assert not at.abstained
    assert at.to_dict()["diagnosis"] == plain.diagnosis.label
    assert above.abstained
    assert above.verdict == f"no diagnosis ({probability:.2f}, below {probability:.2f})"
    record = json.loads(json.dumps(above.to_dict()))
    assert record["diagnosis"] is None
    assert record["abstained"] is True
    assert record["report"] == plain.report.text
    assert record["out_of_distribution"] is None


def test_without_a_diagnosis_there_is_nothing_to_abstain_from(build_model, studies):
    predictor = Predictor(build_model(dtype=torch.float32, label_space=None), device="cpu")
    finding = replace(predictor(str(studies[0].images[0])), abstain_below=0.9)
    assert finding.to_dict()["abstained"] is False
