"""Fits a `Calibration` on held-out studies: a temperature an aspect, and where familiar features lie.

Out-of-distribution scores were compared on the shipped weights (`benchmarks/out_of_distribution.py`):
the Mahalanobis distance to one Gaussian over standardised features was as good as that to a Gaussian a
class, and better than the relative one, than nearest neighbours, and than what the logits say (largest
softmax, energy).

References:
    1. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    2. Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
       Adversarial Attacks", NeurIPS 2018.
    3. Ledoit & Wolf, "A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices",
       Journal of Multivariate Analysis 2004.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdnet.data.loading import StudyDataset, make_loader
from mdnet.data.study import Study, StudySet
from mdnet.errors import DataError
from mdnet.inference.predictor import Predictor
from mdnet.metrics.calibration import fit_temperature
from mdnet.models.calibration import Calibration, FeatureReference
from mdnet.models.weights import resolve_weights

__all__ = ["calibrate_folder", "fit_calibration", "fit_reference", "studies_in_words"]

_log = logging.getLogger(__name__)

_FOLDS = 5
_LEAST_PATIENTS = 20  # fewer say nothing of where familiar features lie, nor of a temperature
_RIDGE = 1e-6  # of a variance of 1: features that never vary leave the covariance invertible

Floats = npt.NDArray[np.float64]


@torch.inference_mode()
def fit_calibration(predictor: Predictor, studies: Sequence[Study], *, fitted_on: str = "") -> Calibration:
    """The calibration of a model, measured on studies that it was not trained on.

    Args:
        predictor: The model; a calibration that it has already plays no part.
        studies: Of their images the first `model.views` are looked at. Of an aspect without a label on
            any of them the temperature is 1, and so are all where there are fewer than 20 patients: one
            wrong answer among a few says nothing of confidence.
        fitted_on: What the studies are, in words.

    Raises:
        DataError: There is no study, or the model's numbers are not finite.
    """
    if not studies:
        raise DataError("studies", "there is none", "calibrate on a split that has some")
    dataset = StudyDataset(
        studies,
        label_space=predictor.model.config.space,
        sections=(),
        tokenizer=None,
        preprocessing=predictor.preprocessing,
        views=predictor.model.views,
    )
    logits: dict[str, list[Tensor]] = defaultdict(list)
    targets: dict[str, list[Tensor]] = defaultdict(list)
    features: list[Tensor] = []
    for batch in make_loader(dataset, batch_size=predictor.batch_size):
        batch = batch.to(predictor.device)
        pixel_values = predictor.preprocessing.normalise(batch.images)
        output = predictor.model(pixel_values, present=batch.present)
        features.append(output.features.pooled().cpu().double())
        for name, values in (output.logits or {}).items():
            logits[name].append(values.cpu().double())
            targets[name].append(batch.labels[name].cpu())
    patients = [study.patient or study.id for study in studies]
    enough = len(set(patients)) >= _LEAST_PATIENTS
    if logits and not enough:
        _log.warning(
            "no temperature is fitted: %d patients are fewer than %d", len(set(patients)), _LEAST_PATIENTS
        )
    return Calibration(
        temperatures={
            name: fit_temperature(torch.cat(values).numpy(), torch.cat(targets[name]).numpy())
            if enough
            else 1.0
            for name, values in logits.items()
        },
        reference=fit_reference(torch.cat(features).numpy(), patients),
        fitted_on=fitted_on,
    )


def fit_reference(features: npt.ArrayLike, patients: Sequence[str]) -> FeatureReference | None:
    """One Gaussian over the features of familiar images, and how far such images lie from it.

    The distances are cross-fitted: those of each fifth of the patients to the Gaussian of the others,
    for an image lies closer to a Gaussian that it helped to place.

    Args:
        features: (N, D), C(I) pooled over positions.
        patients: (N,) names: images of one patient stay together.

    Returns:
        None where there are fewer than 20 patients.
    """
    values = np.asarray(features, np.float64)
    if not np.isfinite(values).all():
        raise DataError("features", f"{(~np.isfinite(values)).sum()} not finite", "the model diverged")
    names, numbers = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < _LEAST_PATIENTS:
        _log.warning(
            "%d patients are too few for an out-of-distribution score; give at least %d",
            len(names),
            _LEAST_PATIENTS,
        )
        return None
    distances = np.empty(len(values))
    for fold in range(_FOLDS):
        held_out = numbers % _FOLDS == fold
        others = FeatureReference(*gaussian(values[~held_out]), distances=np.empty(0))
        distances[held_out] = others.distance(values[held_out])
    return FeatureReference(*gaussian(values), distances=np.sort(distances))


def gaussian(features: Floats) -> tuple[Floats, Floats]:
    """Mean (D,) and precision (D, D) of (N, D) features.

    The covariance is shrunk [3] after each feature was brought to unit variance, so that blocks of
    small numbers count as much as those of large ones.
    """
    from sklearn.covariance import ledoit_wolf

    mean = features.mean(axis=0)
    scale = features.std(axis=0)
    scale[scale == 0] = 1.0
    covariance, _ = ledoit_wolf((features - mean) / scale, assume_centered=True)
    precision = np.linalg.inv(covariance + _RIDGE * np.eye(len(mean)))
    return mean, precision / np.outer(scale, scale)


def calibrate_folder(folder: Path, data: StudySet, *, split: str = "val") -> Calibration:
    """Calibrates the model in a folder, in place of a calibration that it may have.

    Args:
        folder: A model or run folder.
        data: Studies with labels of the model's label space.
        split: The split to measure on; never one that the model was trained on.

    Raises:
        DataError: There is no such split.
        WeightsError: There is no model, or it is damaged.
    """
    predictor = Predictor.from_pretrained(folder)
    studies = data.split(split)
    fitted_on = studies_in_words(data, split)
    calibration = fit_calibration(predictor, studies, fitted_on=fitted_on)
    calibration.save(resolve_weights(folder))
    temperatures = ", ".join(f"{name} {value:.2f}" for name, value in calibration.temperatures.items())
    _log.info("calibrated on %s: temperatures %s", fitted_on, temperatures or "of no aspect")
    return calibration


def studies_in_words(data: StudySet, split: str) -> str:
    """What `Calibration.fitted_on` says of a split."""
    return f"{len(data.split(split))} studies of split {split} of {data.provenance or data.root}"
