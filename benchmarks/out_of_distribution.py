"""Which score tells images that are no tissue from tissue: the one in use beside those it was chosen from.

    mdnet data phantom --out /tmp/phantom --studies 10000 --seed 11
    python benchmarks/out_of_distribution.py --data /tmp/phantom

Every candidate is fitted on the val split; the numbers are AUROC of unfamiliar images against the test
split, and the share of each kind that the shipped calibration calls out-of-distribution. Photographs are
left out where `../shared/data` (or `$MDNET_REAL_DATA`) is absent.

References: largest softmax, Hendrycks & Gimpel 2017; energy, Liu et al. 2020; Mahalanobis, Lee et al.
2018; relative Mahalanobis, Ren et al. 2021; nearest neighbours, Sun et al. 2022.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from recording import record
from sklearn.metrics import roc_auc_score

from mdnet.data.images import load_image
from mdnet.data.readers import read_studies
from mdnet.inference.calibration import fit_reference, gaussian
from mdnet.inference.predictor import Predictor
from mdnet.models.calibration import FeatureReference

REAL_DATA = Path(os.environ.get("MDNET_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIDE, MOST, NEIGHBOURS = 128, 300, 10
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # features (N, D), logits (N, K) -> (N,)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.weights)
    data = read_studies(options.data)
    val, test = ([load_image(s.images[0]) for s in data.split(split)] for split in ("val", "test"))
    familiar = look(predictor, test)
    scores = candidates(*look(predictor, val))
    unfamiliar = {name: look(predictor, images) for name, images in pictures(test[:MOST]).items()}
    assert predictor.model.calibration is not None
    reference = predictor.model.calibration.reference
    assert reference is not None
    rows = []
    for name, seen in {"tissue (test split)": familiar, **unfamiliar}.items():
        beyond = (reference.score(reference.distance(seen[0])) >= reference.threshold).mean()
        areas = {each: area(score(*familiar), score(*seen)) for each, score in scores.items()}
        rows.append({"images": name} | areas | {"called": float(beyond)})
    record(
        "out_of_distribution",
        rows,
        title=f"Images that are no tissue: `{options.weights}`",
        reading="AUROC against the test split, higher is better; `called`: the share that the shipped "
        "calibration calls out-of-distribution. The method in use was chosen on these very sets, so its "
        "column flatters.",
        peers=("scikit-learn",),
    )


def area(familiar: np.ndarray, unfamiliar: np.ndarray) -> float:
    """AUROC of a score."""
    truth = np.r_[np.zeros(len(familiar)), np.ones(len(unfamiliar))]
    return float(roc_auc_score(truth, np.r_[familiar, unfamiliar]))


@torch.inference_mode()
def look(predictor: Predictor, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """C(I) pooled over positions, (N, D), and the diagnosis's logits, (N, K)."""
    features, logits = [], []
    for start in range(0, len(images), 64):
        output = predictor.model(predictor.pixel_values(images[start : start + 64]))
        features.append(output.features.grid.mean(dim=1).cpu().double().numpy())
        logits.append(output.logits[predictor.model.config.space.diagnosis].cpu().double().numpy())
    return np.concatenate(features), np.concatenate(logits)


def candidates(features: np.ndarray, logits: np.ndarray) -> dict[str, Score]:
    """Scores by name, larger where an image is less familiar."""
    labels = logits.argmax(axis=1)
    classes = [features[labels == index] for index in np.unique(labels)]
    within = np.concatenate([members - members.mean(axis=0) for members in classes])
    _, precision = gaussian(within)
    groups = [FeatureReference(members.mean(axis=0), precision, np.empty(0)) for members in classes]
    whole = fit_reference(features, [str(number) for number in range(len(features))])
    assert whole is not None
    scale = features.std(axis=0) + 1e-12

    def nearest_class(values: np.ndarray) -> np.ndarray:
        return np.min([group.distance(values) ** 2 for group in groups], axis=0)

    def neighbours(values: np.ndarray, _: np.ndarray) -> np.ndarray:
        apart = torch.cdist(torch.from_numpy(values / scale), torch.from_numpy(features / scale))
        return apart.kthvalue(NEIGHBOURS, dim=1).values.numpy()

    return {
        "softmax": lambda _, z: -torch.from_numpy(z).softmax(dim=1).amax(dim=1).numpy(),
        "energy": lambda _, z: -torch.from_numpy(z).logsumexp(dim=1).numpy(),
        "neighbours": neighbours,
        "relative Mahalanobis": lambda f, _: nearest_class(f) - whole.distance(f) ** 2,
        "Mahalanobis by class": lambda f, _: nearest_class(f),
        "Mahalanobis (in use)": lambda f, _: whole.distance(f),
    }


def pictures(tiles: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Unfamiliar images by kind: photographs, things drawn, and tiles that were altered."""
    random = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0, 1, SIDE)[:, None, None], (SIDE, SIDE, 1))
    ends = random.integers(0, 256, (MOST, 2, 3))
    kinds = photographs(random) | {
        "noise": list(random.integers(0, 256, (MOST, SIDE, SIDE, 3), dtype=np.uint8)),
        "flat colour": [np.full((SIDE, SIDE, 3), first, np.uint8) for first, _ in ends],
        "gradients": [(first + (last - first) * ramp).astype(np.uint8) for first, last in ends],
        "tiles, inverted": [255 - tile for tile in tiles],
        "tiles at 0.6 of their brightness": [(0.6 * tile).astype(np.uint8) for tile in tiles],
        "tiles in grey": [
            np.repeat(np.asarray(Image.fromarray(t).convert("L"))[..., None], 3, 2) for t in tiles
        ],
        "tiles, red and blue exchanged": [tile[..., ::-1].copy() for tile in tiles],
        "tiles, blurred by 2 pixels": [
            np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(2))) for tile in tiles
        ],
        "tiles at twice the scale": [np.asarray(resized(Image.fromarray(t[32:96, 32:96]))) for t in tiles],
    }
    for shift in (0.3, 0.6):
        power = np.array([1 + shift, 1.0, 1 / (1 + shift)])  # of the light that passes: a stain's strength
        kinds[f"tiles, stain shifted by {shift}"] = [
            (255 * (tile / 255.0) ** power).astype(np.uint8) for tile in tiles
        ]
    return kinds


def photographs(random: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Real pictures of other things, where they are."""
    kinds = {}
    for name, folder in (("fundus photographs", "csdi_cataract/images"), ("CT and MR", "medpix2/images")):
        paths = sorted(path for path in (REAL_DATA / folder).rglob("*.*") if path.is_file())
        chosen = random.permutation(len(paths))[:MOST]
        kinds[name] = [np.asarray(resized(Image.open(paths[index]))) for index in chosen]
    archive = REAL_DATA / "cifar10_jpeg" / "cifar10_jpeg.npz"
    if archive.is_file():
        with np.load(archive) as stored:
            data, offsets = stored["test_bytes"], stored["test_offsets"]
        chosen = random.permutation(len(offsets) - 1)[:MOST]
        streams = (io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes()) for i in chosen)
        kinds["CIFAR-10"] = [np.asarray(resized(Image.open(stream))) for stream in streams]
    return {name: images for name, images in kinds.items() if images}


def resized(picture: Image.Image) -> Image.Image:
    """RGB of the tiles' size."""
    return picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)


if __name__ == "__main__":
    main()
