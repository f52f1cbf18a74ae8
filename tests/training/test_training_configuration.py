"""A run's configuration: kept whole, and every mistake in it named."""

from __future__ import annotations

import dataclasses

import pytest

from mdnet.errors import ConfigurationError
from mdnet.training.configuration import TrainingConfig

OTHER = {  # a value for every field that is not its default
    "data": "some/set",
    "out": "runs/x",
    "model": "mdnet_small",
    "model_options": {"widths": [4, 6, 8], "attention": "additive"},
    "weights": "mdnet_tiny/phantom",
    "freeze": ("image", "report.embedding.*"),
    "format": "r2gen",
    "columns": {"image": "file", "label.grade": "who"},
    "uncertain": "present",
    "diagnosis": "grade",
    "epochs": 3,
    "batch_size": 7,
    "accumulate": 4,
    "learning_rate": 0.01,
    "learning_rates": {"image": 0.1, "report": 2},
    "warmup": 0.2,
    "weight_decay": 0.5,
    "beta": (0.1, 0.9),
    "eta": (2.0, 3.0),
    "schedule": "cosine",
    "clip": 1.5,
    "label_smoothing": 0.1,
    "imbalance": "weights",
    "scheduled_sampling": (0.0, 0.25),
    "ema": 0.999,
    "augmentation": "tissue",
    "tokenizer": "bpe",
    "minimum_count": 2,
    "vocabulary_size": 500,
    "precision": "bf16",
    "compile": True,
    "workers": 2,
    "cache": False,
    "metric": "val_cider",
    "patience": 3,
    "validated": 50,
    "checkpoint_steps": 100,
    "seed": 11,
}


def test_everything_comes_back_from_yaml(tmp_path):
    config, default = TrainingConfig(**OTHER), TrainingConfig(data="", out="")
    for field in dataclasses.fields(config):
        assert getattr(config, field.name) != getattr(default, field.name), (
            f"{field.name} is not in this test"
        )
    config.save(tmp_path / "config.yaml")
    assert TrainingConfig.load(tmp_path / "config.yaml") == config
    assert TrainingConfig.load(tmp_path / "config.yaml", epochs=9, seed=1).epochs == 9


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate: 1e-3", "learning_rate", 0.001),  # YAML 1.1 reads a text here
        ("epochs: '4'", "epochs", 4),
        ("epochs: 4.0", "epochs", 4),
        ("beta: 0.4", "beta", (0.4, 0.4)),
        ("eta: [1, 2]", "eta", (1.0, 2.0)),
        ("scheduled_sampling: 0.1", "scheduled_sampling", (0.1, 0.1)),
        ("freeze: image", "freeze", ("image",)),
        ("freeze: [image, 'heads.*']", "freeze", ("image", "heads.*")),
        ("warmup: 0", "warmup", 0.0),
        ("weights: null", "weights", None),
    ],
)
def test_numbers_are_read_as_people_write_them(tmp_path, text, name, value):
    path = tmp_path / "config.yaml"
    path.write_text(f"data: a\nout: b\n{text}\n")
    found = getattr(TrainingConfig.load(path), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batchsize", 3, "unknown key 'batchsize'; did you mean batch_size?"),
        ("zzz", 3, "unknown key 'zzz'; the keys: data, out"),
        ("epochs", 2.5, "epochs is 2.5; it takes a whole number"),
        ("epochs", "many", "epochs is 'many'; it takes a whole number"),
        ("epochs", [3], r"epochs is \[3\]; it takes a whole number"),
        ("epochs", 0, "must be at least 1"),
        ("workers", -1, "at least 0"),
        ("learning_rate", "fast", "learning_rate is 'fast'; it takes a number"),
        ("learning_rate", 0, "must be positive"),
        ("learning_rate", float("nan"), "learning_rate is nan; it takes a number"),
        ("beta", [0.1, 0.2, 0.3], "it takes two numbers"),
        ("beta", "high", "it takes two numbers"),
        ("beta", 1.5, r"beta is \(1.5, 1.5\); it must lie in 0..1"),
        ("scheduled_sampling", [0.0, 1.1], r"scheduled_sampling is \(0.0, 1.1\); it must lie in 0..1"),
        ("warmup", -0.1, "warmup is -0.1; it must lie in 0..1"),
        ("model", 3, "model is 3; it takes text"),
        ("model_options", "wide", "model_options is 'wide'; it takes names"),
        ("format", 3, "format is 3; it takes text"),
        ("weights", 3, "weights is 3; it takes text"),
        ("freeze", 3, "freeze is 3; it takes names"),
        ("freeze", ["image", 3], r"freeze is \['image', 3\]; it takes names"),
        ("columns", "image", "columns is 'image'; it takes names"),
        ("columns", {"picture": "file"}, "no column can be 'picture'"),
        ("uncertain", "maybe", "uncertain is 'maybe'; it is one of missing, present, absent, class"),
        ("seed", -1, "seed is -1; it must be at least 0"),
        ("accumulate", 0, "accumulate is 0; it must be at least 1"),
        ("patience", -1, "patience is -1; it must be at least 0"),
        ("checkpoint_steps", 1.5, "checkpoint_steps is 1.5; it takes a whole number"),
        ("learning_rates", 0.1, "learning_rates is 0.1; it takes names with their values"),
        ("learning_rates", {"lstm": 0.1}, "learning_rates has 'lstm': 0.1; give image, heads, report"),
        ("learning_rates", {"image": -1}, "learning_rates has 'image': -1; give image, heads, report"),
        (
            "learning_rates",
            {"image": "slow"},
            "learning_rates has 'image': 'slow'; give image, heads, report",
        ),
        ("label_smoothing", 1, "label_smoothing is 1.0; it must be at least 0 and below 1"),
        ("ema", 1.0, "ema is 1.0; it must be at least 0 and below 1"),
        ("imbalance", "smote", "imbalance 'smote' is none of none, weights, logits"),
        ("tokenizer", "characters", "tokenizer 'characters' is none of words, bpe"),
        ("compile", "yes", "compile is 'yes'; it takes true or false"),
        ("schedule", "step", "schedule 'step' is none of constant, linear, cosine, phases"),
        ("precision", "fp8", "precision 'fp8' is none of no, bf16, fp16"),
        ("augmentation", "mixup", "augmentation 'mixup' is none of none, shift"),
    ],
)
def test_a_mistake_is_named(key, value, message):
    with pytest.raises(ConfigurationError, match=message):
        TrainingConfig.from_dict({"data": "a", "out": "b", key: value})


def test_what_must_be_given_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="data and out must be given"):
        TrainingConfig.from_dict({"epochs": 1})
    path = tmp_path / "config.yaml"
    path.write_text("out: b\n")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: data must be given"):
        TrainingConfig.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n- b\n", "holds no mapping"), ("data: [a\n", "no YAML"), (None, "No such file or directory")],
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        TrainingConfig.load(path)
    assert "\n" not in str(caught.value)
