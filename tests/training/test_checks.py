"""A run says so when its attention does not matter."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from mdnet.data.readers import read_studies
from mdnet.models.mdnet import MDNet
from mdnet.training.checks import check_run


@pytest.fixture(scope="module")
def studies():
    return read_studies(Path(__file__).parents[2] / "data" / "sample").studies[:12]


@pytest.fixture
def run_with(tmp_path):
    def make(change) -> Path:
        model = MDNet.from_pretrained("mdnet_tiny/phantom")
        with torch.no_grad():
            change(model)
        model.save_pretrained(tmp_path / "model")
        return tmp_path

    return make


def test_a_model_with_constant_attention_fails_in_words_and_on_disk(run_with, studies, caplog):
    def flatten(model):
        model.report.attention.sharpness.weight.zero_()
        model.report.attention.sharpness.bias.fill_(-1e4)

    run = run_with(flatten)
    with caplog.at_level(logging.WARNING):
        checks = check_run(run, studies)
    assert checks["attention_used"]["passed"] is False
    assert "check failed: the attention is not used. On 12 val studies" in caplog.text
    assert json.loads((run / "checks.json").read_text()) == checks


def test_the_shipped_weights_pass_without_a_word(run_with, studies, caplog):
    run = run_with(lambda model: None)
    with caplog.at_level(logging.WARNING):
        record = check_run(run, studies)["attention_used"]
    assert record["passed"] is True
    assert caplog.text == ""
    assert record["uniform"]["report"]["low"] > 0
    assert set(record["other image"]["sections"]) == set(MDNet.from_pretrained(run).config.sections)


def test_what_cannot_be_told_is_left_out(run_with, studies):
    run = run_with(lambda model: None)
    assert check_run(run, studies[:1]) == {}
    assert check_run(run, []) == {}
    assert not (run / "checks.json").exists()
