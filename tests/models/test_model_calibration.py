"""`Calibration`: distances by the formula, and the same bits after a save."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mdnet.errors import WeightsError
from mdnet.models.calibration import Calibration, FeatureReference
from mdnet.models.mdnet import MDNet


def make_reference(channels: int, *, images: int = 30, seed: int = 0) -> FeatureReference:
    random = np.random.default_rng(seed)
    root = random.normal(size=(channels, channels))
    distances = np.sort(random.random(images)) * 10
    return FeatureReference(random.normal(size=channels), root @ root.T, distances, threshold=0.9)


def test_the_distance_is_mahalanobis() -> None:
    reference = make_reference(5)
    features = np.random.default_rng(1).normal(size=(7, 5))
    for row, distance in zip(features, reference.distance(features), strict=True):
        difference = row - reference.mean
        squared = sum(
            difference[i] * reference.precision[i, j] * difference[j] for i in range(5) for j in range(5)
        )
        assert distance == pytest.approx(np.sqrt(squared), rel=1e-12)
    assert reference.distance(reference.mean[None]).tolist() == [0.0]


def test_the_score_counts_the_images_that_are_less_unusual() -> None:
    reference = FeatureReference(np.zeros(1), np.eye(1), np.array([1.0, 2.0, 2.0, 3.0]))
    assert reference.score([0.5, 1.0, 2.0, 2.5, 3.5]).tolist() == [0.0, 0.0, 0.2, 0.6, 0.8]
    assert reference.score([np.nan]).tolist() == [0.8]  # what is no number is no familiar image


@pytest.mark.parametrize(("images", "reached"), [(198, False), (199, True)])
def test_too_few_images_never_call_one_out_of_distribution(images: int, reached: bool) -> None:
    reference = FeatureReference(np.zeros(1), np.eye(1), np.linspace(1, 2, images))
    assert bool(reference.score([1e9])[0] >= reference.threshold) is reached


@pytest.mark.parametrize("with_reference", [True, False])
def test_a_model_keeps_its_calibration_to_the_bit(build_model, tmp_path, with_reference) -> None:
    model = build_model(dtype=torch.float32)
    temperatures = {name: 1.0 + np.pi * i for i, name in enumerate(model.config.space.names)}
    reference = make_reference(sum(model.config.widths)) if with_reference else None
    model.calibration = Calibration(temperatures, reference, "30 studies")
    model.save_pretrained(tmp_path)
    loaded = MDNet.from_pretrained(tmp_path).calibration
    assert loaded is not None
    assert loaded.temperatures == temperatures
    assert loaded.fitted_on == "30 studies"
    if reference is None:
        assert loaded.reference is None
        return
    for name in ("mean", "precision", "distances"):
        assert getattr(loaded.reference, name).tobytes() == getattr(reference, name).tobytes()
    assert loaded.reference.threshold == 0.9
    model.calibration = Calibration(temperatures)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "calibration.safetensors").exists()


def test_a_model_that_was_never_calibrated_has_none(build_model, tmp_path) -> None:
    build_model(dtype=torch.float32).save_pretrained(tmp_path)
    assert MDNet.from_pretrained(tmp_path).calibration is None


def change(**values):
    def apply(folder) -> None:
        file = folder / "calibration.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return apply


def narrow(folder) -> None:
    Calibration(
        dict.fromkeys(("mitosis", "cell.type", "findings", "conclusion"), 1.0), make_reference(3)
    ).save(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "calibration.json").write_text("{"), "damaged"),
        (lambda folder: (folder / "calibration.json").write_text("{}"), "damaged .KeyError"),
        (lambda folder: (folder / "calibration.safetensors").unlink(), "damaged"),
        (lambda folder: (folder / "calibration.safetensors").write_bytes(b"x"), "damaged .SafetensorError"),
        (change(temperatures={"mitosis": 2.0}), "has temperatures of mitosis, but the model's aspects are"),
        (
            change(temperatures=dict.fromkeys(("mitosis", "cell.type", "findings", "conclusion"), 0)),
            "above 0",
        ),
        (narrow, r"shapes \(\(3,\), \(3, 3\)\), but the model's C\(I\) has 18 channels"),
    ],
)
def test_a_calibration_that_is_damaged_or_another_model_s_is_refused_in_one_line(
    build_model, tmp_path, damage, message
) -> None:
    model = build_model(dtype=torch.float32)
    reference = make_reference(sum(model.config.widths))
    model.calibration = Calibration(dict.fromkeys(model.config.space.names, 1.0), reference)
    model.save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(WeightsError, match=message) as caught:
        MDNet.from_pretrained(tmp_path)
    assert "delete it, and fit it anew with `mdnet calibrate`" in str(caught.value)
