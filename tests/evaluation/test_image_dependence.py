"""A model trained on texts that belong to other images is caught, in words; a good one is not."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdnet.data.phantom import make_phantom
from mdnet.evaluation.run import evaluate_run
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import train_run

TEXTS = {
    "dark": ("the tile is dark all over .", "a dark tile .", "little light passes here ."),
    "bright": ("the tile is bright all over .", "a bright tile .", "much light passes here ."),
    "striped": ("the tile has stripes across .", "a striped tile .", "light passes in stripes ."),
}
SMALL = {
    "image_size": 16,
    "stem_stride": 1,
    "widths": [6, 8],
    "depths": [1, 1],
    "strides": [1, 2],
    "embedding_size": 8,
    "hidden_size": 24,
    "maximum_words": 9,
}


def draw(label: str, generator: np.random.Generator) -> np.ndarray:
    image = generator.normal(200 if label == "bright" else 60, 15, (16, 16, 3))
    if label == "striped":
        image[::4] += 130
    return np.clip(image, 0, 255).astype(np.uint8)


def make_tiles(folder: Path, studies: int) -> Path:
    """Tiles of three kinds, half of them for training."""
    generator = np.random.default_rng(2)
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(studies):
        label = str(generator.choice(list(TEXTS)))
        Image.fromarray(draw(label, generator)).save(folder / "images" / f"{number}.png")
        split = "test" if number % 2 else "val" if number % 10 == 0 else "train"
        text = str(generator.choice(TEXTS[label]))
        lines.append(
            {
                "id": f"s{number}",
                "images": [f"images/{number}.png"],
                "split": split,
                "labels": {"kind": label},
                "report": {"kind": [text]},
            }
        )
    write_lines(folder, lines)
    record = {"aspects": [{"name": "kind", "classes": list(TEXTS)}], "diagnosis": "kind"}
    (folder / "dataset.json").write_text(json.dumps(record))
    return folder


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    (folder / "studies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def unpair(folder: Path, out: Path, *, aspect: str | None = None) -> Path:
    """The same set, its training and validation texts each beside the image of another study.

    Args:
        folder: The set.
        out: Where the other one goes.
        aspect: Deal the texts of every class evenly over the images of every class. In a random order
            of few studies an association of the two is left by chance, and a model learns it.
    """
    shutil.copytree(folder, out)
    lines = [json.loads(line) for line in (out / "studies.jsonl").read_text().splitlines()]
    for split in ("train", "val"):
        members = [line for line in lines if line["split"] == split]
        if aspect is not None:
            members.sort(key=lambda line: line["labels"][aspect])
        images = [line["images"] for line in members]
        if aspect is None:
            random.Random(1).shuffle(images)
        else:
            kinds = len(TEXTS)
            images = [image for start in range(kinds) for image in images[start::kinds]]
        for line, image in zip(members, images, strict=True):
            line["images"] = image
            line.pop("masks", None)
    write_lines(out, lines)
    return out


def verdict_of(data: Path, out: Path, *, tested_on: Path, **options: Any) -> list[str]:
    run = train_run(TrainingConfig(data=str(data), out=str(out), seed=1, **options))
    return evaluate_run(run, data=tested_on).metrics["verdict"]


def check(honest: list[str], shuffled: list[str]) -> None:
    assert honest[0].startswith("The reports depend on the image: they score CIDEr")
    assert any(sentence.startswith("The diagnosis is better than") for sentence in honest)
    assert shuffled[0].startswith("The reports do not depend on the image: they score CIDEr")
    assert "nor does a study's own image make its reference likelier" in shuffled[0]
    assert any(sentence.startswith("The diagnosis is no better than") for sentence in shuffled)


def test_a_model_of_shuffled_images_is_caught_and_a_good_one_is_not(tmp_path):
    data = make_tiles(tmp_path / "tiles", 160)
    options = {"epochs": 12, "batch_size": 8, "learning_rate": 0.02, "model_options": SMALL}
    honest = verdict_of(data, tmp_path / "honest", tested_on=data, **options)
    unpaired = unpair(data, tmp_path / "unpaired", aspect="kind")
    check(honest, verdict_of(unpaired, tmp_path / "shuffled", tested_on=data, **options))


@pytest.mark.slow
def test_it_is_caught_on_synthetic_tissue_too(tmp_path):
    data = make_phantom(tmp_path / "data", 700, seed=5, size=48, splits=(0.7, 0.1, 0.2), workers=1)
    small = {"image_size": 48, "widths": [8, 12, 16], "hidden_size": 48, "embedding_size": 24}
    options = {"epochs": 14, "batch_size": 16, "learning_rate": 0.004, "model_options": small}
    honest = verdict_of(data, tmp_path / "honest", tested_on=data, **options)
    unpaired = unpair(data, tmp_path / "unpaired")
    check(honest, verdict_of(unpaired, tmp_path / "shuffled", tested_on=data, **options))
