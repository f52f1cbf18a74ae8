"""A run on studies of one, two and three images, from the folder to the evaluated run."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdnet.data.readers import read_studies
from mdnet.evaluation.run import evaluate_run
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet
from mdnet.training.configuration import TrainingConfig
from mdnet.training.run import train_run

SMALL = {
    "image_size": 32,
    "views": 2,
    "widths": [4, 6],
    "depths": [1, 1],
    "strides": [1, 2],
    "embedding_size": 4,
    "hidden_size": 6,
    "maximum_words": 5,
}


@pytest.fixture(scope="module")
def two_view_folder(phantom_folder, tmp_path_factory) -> Path:
    """The phantom set with a second tile a study, its own turned over; one has none, and one has two."""
    folder = tmp_path_factory.mktemp("views") / "set"
    shutil.copytree(phantom_folder, folder)
    records = [json.loads(line) for line in (folder / "studies.jsonl").read_text().splitlines()]
    for number, record in enumerate(records):
        (first,) = record["images"]
        tile = np.asarray(Image.open(folder / first))
        for turn in range(0 if number == 0 else 2 if number == 1 else 1):
            name = f"images/{record['id']}_{turn}.png"
            Image.fromarray(tile[::-1, :: 1 - 2 * turn]).save(folder / name)
            record["images"].append(name)
    (folder / "studies.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture(scope="module")
def run(two_view_folder, tmp_path_factory) -> tuple[Path, list[str]]:
    """A trained run, and what its log said."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("mdnet")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    out = tmp_path_factory.mktemp("runs") / "run"
    try:
        config = TrainingConfig(
            data=str(two_view_folder), out=str(out), model_options=SMALL, epochs=2, batch_size=8, seed=3,
            augmentation="mirror",
        )  # fmt: skip
        train_run(config)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return out, messages


def test_the_log_says_how_many_studies_have_how_many_images(run):
    messages = run[1]
    assert any(
        "studies by number of images: 1 with 1, 22 with 2, 1 with 3; the model looks at 2" in m
        for m in messages
    )
    assert any(
        "1 studies have more images than the model has views; the first 2 of each" in m for m in messages
    )


def test_a_run_on_studies_of_several_views_is_evaluated(run, two_view_folder):
    out, _ = run
    assert MDNet.from_pretrained(out).views == 2
    result = evaluate_run(out, split="test")
    data = read_studies(two_view_folder)
    assert len(result.records) == len(data.split("test"))
    predictor = Predictor.from_pretrained(out, device="cpu")
    for record, line in zip(result.records, result.predictions, strict=True):
        finding = predictor(record.study)
        assert len(finding.views) == min(2, len(record.study.images))
        assert line["image"] == " + ".join(map(str, record.study.images[:2]))
        assert line["logits"]["mitosis"] == pytest.approx(dict(finding.aspects["mitosis"].logits), abs=1e-4)
    assert (out / "index.html").exists()
    assert json.loads((out / "checks.json").read_text())["attention_used"]


def test_the_second_image_matters_to_the_diagnosis(run, two_view_folder):
    predictor = Predictor.from_pretrained(run[0], device="cpu")
    study = next(s for s in read_studies(two_view_folder).studies if len(s.images) == 2)
    both, first = predictor(study), predictor(study.images[0])
    total = sum(float(both.evidence("mitosis", "rare", view=view).sum()) for view in range(2))
    bias = both.aspect_evidence["mitosis"].bias[1]
    assert total + bias == pytest.approx(both.aspects["mitosis"].logits["rare"], abs=1e-4)
    assert both.aspects["mitosis"].logits != first.aspects["mitosis"].logits
