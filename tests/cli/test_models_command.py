"""`mdnet models`: a table for people and JSON for scripts, of the same facts."""

from __future__ import annotations

import json

import pytest

from mdnet.cli.main import main
from mdnet.models.registry import list_models
from mdnet.models.summary import summarise_model
from mdnet.models.weights import get_weights, list_weights

SHIPPED = "mdnet_tiny/phantom"


def call(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["models", *words])
    assert not exit_.value.code
    return capsys.readouterr().out


def test_the_table_has_a_line_a_model_with_all_columns(capsys):
    header, *lines = call(capsys).splitlines()
    assert " ".join(header.split()) == "model parameters input decoupled from writes weights paper"
    assert [line.split()[0] for line in lines] == list_models()
    tiny = next(line for line in lines if line.startswith("mdnet_tiny "))
    for value in ("0.44M", "128 px", "stage1", "diagnosis + report", SHIPPED, "arXiv 1707.02485"):
        assert value in tiny
    ecnet = next(line for line in lines if line.startswith("ecnet_cifar "))
    assert "report" not in ecnet


def test_json_has_the_documented_keys_and_the_weights_of_the_models_that_match(capsys):
    record = json.loads(call(capsys, "mdnet_t*", "--json"))
    assert list(record) == ["models", "weights"]
    assert list(record["models"]) == ["mdnet_tiny"]
    assert list(record["models"]["mdnet_tiny"]) == [
        "description", "paper", "parameters", "image_size", "image_channels", "widths", "grid_size",
        "decoupled_from", "backbone", "attention", "writes", "weights", "options",
    ]  # fmt: skip
    assert record["models"]["mdnet_tiny"]["weights"] == [SHIPPED]
    assert record["weights"][SHIPPED]["sha256"] == get_weights(SHIPPED).sha256
    assert json.loads(call(capsys, "mdnet_small", "--json"))["weights"] == {}


def test_parameters_counted_without_weights_are_those_of_the_weights():
    """The shipped weights are of the data that the count is made for."""
    for name in list_weights("*/phantom"):
        card = get_weights(name)
        assert summarise_model(card.model).parameters == card.parameters


def test_a_model_by_its_name_is_told_in_a_sentence_too(capsys):
    assert call(capsys, "mdnet_tiny").splitlines()[-1].startswith("About 0.4 million parameters at 128 px")


def test_weights_by_their_name_show_their_card(capsys):
    text = call(capsys, SHIPPED)
    assert text.startswith(f"# {SHIPPED}\n")
    assert "## Limits" in text
    record = json.loads(call(capsys, SHIPPED, "--json"))
    assert list(record["models"]) == [get_weights(SHIPPED).model]
    assert list(record["weights"]) == [SHIPPED]


def test_a_pattern_that_nothing_matches_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["models", "resnet*"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "'resnet*' is none of the models (" in error
    assert error.count("\n") == 1
