"""Are images of another kind told from those that the model knows?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mdnet.data.images import SUFFIXES
from mdnet.errors import DataError, WeightsError
from mdnet.evaluation.record import Metrics, StudyRecord
from mdnet.inference.predictor import Predictor
from mdnet.models.calibration import FeatureReference

__all__ = ["unfamiliar_images", "unfamiliarity"]


def unfamiliar_images(predictor: Predictor, folder: Path) -> list[Path]:
    """The images of a folder, for a model that can tell how unusual they are.

    Raises:
        WeightsError: The model is not calibrated, or on too few patients.
        DataError: There is no image in the folder.
    """
    _reference_of(predictor)
    paths = sorted(p for p in folder.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file())
    if not paths:
        raise DataError(folder, "no image there", f"give a folder with {', '.join(SUFFIXES)}")
    return paths


def unfamiliarity(predictor: Predictor, records: Sequence[StudyRecord], images: Sequence[Path]) -> Metrics:
    """How well the out-of-distribution distance tells images of another kind from the studies scored.

    Args:
        predictor: Of a calibrated model.
        records: What it said of familiar studies.
        images: As `unfamiliar_images` gives them.

    Returns:
        `images`, `studies`, `auroc`, and the shares `flagged` (of the images) and `flagged_studies` (of
        the studies) that the model calls out-of-distribution.

    Raises:
        WeightsError: The model is not calibrated, or on too few patients.
        ImageError: An image cannot be decoded.
    """
    from sklearn.metrics import roc_auc_score

    reference = _reference_of(predictor)
    other = reference.distance(np.stack([*predictor.pooled_features(images)]))
    known = [record.unusualness for record in records if record.unusualness is not None]
    distances = np.concatenate([other, [each.distance for each in known]])
    return {
        "images": len(other),
        "studies": len(known),
        "auroc": float(roc_auc_score(np.arange(len(distances)) < len(other), distances)),
        "flagged": float((reference.score(other) >= reference.threshold).mean()),
        "flagged_studies": float(np.mean([each.beyond_threshold for each in known])),
    }


def _reference_of(predictor: Predictor) -> FeatureReference:
    calibration = predictor.model.calibration
    if calibration is None:
        raise WeightsError(f"{predictor.name}: not calibrated; run `mdnet calibrate` first")
    if calibration.reference is None:
        raise WeightsError(
            f"{predictor.name}: calibrated on too few patients for an out-of-distribution score; run "
            "`mdnet calibrate` on more"
        )
    return calibration.reference
