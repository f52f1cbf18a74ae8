"""How a run gets its model: measured or inherited normalisation, and a note of what it started from."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mdnet.torchvision_compat  # noqa: F401

import pytest
import torch
import torchvision

from mdnet.data.phantom import LABEL_SPACE
from mdnet.data.study import Aspect, LabelSpace, StudySet
from mdnet.errors import ConfigurationError, WeightsError
from mdnet.models.backbones.shapes import IMAGENET_MEAN, IMAGENET_STD
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model
from mdnet.models.weights import sha256
from mdnet.training.configuration import TrainingConfig
from mdnet.training.starting import starting_model

SHIPPED = "mdnet_tiny/phantom"
SMALL = {"image_size": 32, "widths": [4, 6], "depths": [1, 1], "strides": [1, 2], "hidden_size": 6}


@pytest.fixture
def start(phantom_data, tmp_path):
    """Gets the model of a new run, or of one that goes on."""

    def make(data: StudySet = phantom_data, *, resume: bool = False, **options: Any) -> MDNet:
        config = TrainingConfig(data=str(data.root), out=str(tmp_path / "run"), **options)
        return starting_model(config, data, data.split("train"), tmp_path / "run", resume=resume)

    return make


@pytest.fixture
def other_labels(phantom_data) -> StudySet:
    """The phantom with two aspects, of which one has lost a class and one is new."""
    space = LabelSpace(
        (Aspect("mitosis", ("absent", "present")), Aspect("stain", ("pale", "dark"))), diagnosis="mitosis"
    )
    return replace(phantom_data, label_space=space)


def test_a_new_model_is_normalised_as_measured_and_leaves_no_note(start, tmp_path):
    model = start(model_options=SMALL)
    assert model.preprocessing.size == 32
    assert model.preprocessing.intensity is not None
    assert model.preprocessing.mean != IMAGENET_MEAN
    assert set(model.tokenizer.sections) == set(model.config.sections)
    assert not (tmp_path / "run").exists()


def test_a_pretrained_backbone_gets_the_normalisation_that_it_knows(start, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    options = {"image_size": 64, "backbone_weights": str(path)}
    model = start(model="mdnet_resnet18", model_options=options)
    assert (model.preprocessing.mean, model.preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert model.preprocessing.intensity is not None
    note = json.loads((tmp_path / "run" / "transfer.json").read_text())
    assert note == {"backbone": "resnet18", "backbone_weights": str(path), "sha256": sha256(path)}
    measured = start(model="mdnet_resnet18", model_options={"image_size": 64})
    assert measured.preprocessing.mean != IMAGENET_MEAN


def test_weights_keep_architecture_and_preprocessing_and_brightness_is_measured_anew(start, tmp_path):
    original = MDNet.from_pretrained(SHIPPED)
    model = start(weights=SHIPPED, model="mdnet_base")  # which is not looked at
    assert model.config.widths == original.config.widths
    assert replace(model.preprocessing, intensity=original.preprocessing.intensity) == original.preprocessing
    assert model.preprocessing.intensity != original.preprocessing.intensity
    assert model.calibration is None
    for aspect in LABEL_SPACE.names:
        assert torch.equal(model.heads[aspect].weight, original.heads[aspect].weight)
    note = json.loads((tmp_path / "run" / "transfer.json").read_text())
    assert note["weights"] == SHIPPED
    assert note["sha256"] == sha256(Path(original.name_or_path) / "model.safetensors")
    assert note["report"] == "kept"
    before, after = (set(each.tokenizer.fast.get_vocab()) for each in (original, model))
    specials = 3 + len(model.config.sections)
    assert note["vocabulary"] == {
        "words": len(after) - specials,
        "kept": len(before & after) - specials,
        "dropped": len(before - after),
    }


def test_weights_take_on_other_labels_and_it_is_said(start, other_labels, caplog):
    with caplog.at_level(logging.INFO, logger="mdnet"):
        model = start(other_labels, weights=SHIPPED)
    assert model.config.space == other_labels.label_space
    assert f"starting from {SHIPPED}" in caplog.messages
    assert "aspect 'mitosis': kept absent; new present; dropped rare, frequent" in caplog.messages
    assert "aspect 'stain': new head" in caplog.messages


def test_a_run_that_goes_on_takes_its_own_model_not_the_weights(start, tmp_path):
    model = start(weights=SHIPPED, model_options={"maximum_words": 9})
    with torch.no_grad():
        model.image.stem.weight.zero_()
    model.save_pretrained(tmp_path / "run" / "model")
    before = (tmp_path / "run" / "transfer.json").read_bytes()
    resumed = start(weights=SHIPPED, resume=True)
    assert not resumed.image.stem.weight.any()
    assert resumed.config.maximum_words == 9
    assert (tmp_path / "run" / "transfer.json").read_bytes() == before
    shutil.rmtree(tmp_path / "run" / "model")  # ended before its first epoch did
    assert start(weights=SHIPPED, resume=True).image.stem.weight.any()


def test_what_cannot_be_started_from_is_named(start, tmp_path):
    with pytest.raises(ConfigurationError, match=r"widths is \[4, 6\], that of the weights \[16, 40, 64\]"):
        start(weights=SHIPPED, model_options={"widths": [4, 6]})
    with pytest.raises(WeightsError, match="no such folder"):
        start(weights=str(tmp_path / "nowhere"))
    create_model("mdnet_tiny", label_space=LABEL_SPACE, **SMALL).save_pretrained(tmp_path / "bare")
    with pytest.raises(WeightsError, match=r"bare: has no preprocessor_config.json"):
        start(weights=str(tmp_path / "bare"))
    assert not (tmp_path / "run").exists()


def test_reports_that_the_model_could_never_write_whole_are_said(start, caplog):
    start(model_options=SMALL | {"maximum_words": 5})
    assert any("longer than the 5 tokens" in message for message in caplog.messages)


def test_a_vocabulary_of_byte_pairs_is_built_where_asked_for(start):
    plain, pieces = (
        start(model_options=SMALL),
        start(model_options=SMALL, tokenizer="bpe", vocabulary_size=400),
    )
    assert len(pieces.tokenizer) <= 400
    assert pieces.config.vocabulary_size == len(pieces.tokenizer) != len(plain.tokenizer)
