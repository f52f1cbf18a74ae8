"""One card, and the model card that is made of it: the same facts in both, whatever is not known."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

from mdnet.errors import WeightsError
from mdnet.models.weights_card import WeightsCard, make_card, model_card, read_card, write_card

METRICS = {
    "studies": 12,
    "aspects": {"mitosis": {"accuracy": 0.75}, "conclusion": {"accuracy": 0.5}},
    "text": {"bleu_4": 0.12345, "distinct_share": 0.25},
    "intervals": {"aspects.mitosis.accuracy": [0.5, 0.91]},
}


@pytest.fixture
def folder(build_model, tmp_path) -> Path:
    build_model(dtype=torch.float32).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def card(build_model, folder) -> WeightsCard:
    model = build_model(dtype=torch.float32)
    facts = {"data": "nine tiles", "dataset": "tiles", "recipe": "make tiles", "metrics": METRICS}
    return make_card(model, folder, name="a/tiles", licence="Apache-2.0", measured_on="12 tiles", **facts)


def front_matter(card: WeightsCard) -> dict:
    return yaml.safe_load(model_card(card).split("---\n")[1])


def test_the_card_is_read_as_it_was_written(card, folder):
    write_card(folder, card)
    assert read_card(folder) == card
    assert (folder / "README.md").read_text() == model_card(card)
    assert json.loads((folder / "weights.json").read_text()) == json.loads(json.dumps(asdict(card)))


def test_the_model_tells_its_input_its_aspects_and_its_sections(card, folder, build_model):
    model = build_model()
    assert card.parameters == sum(p.numel() for p in model.parameters())
    assert card.size == (folder / "model.safetensors").stat().st_size
    assert (card.input.size, card.input.mode, card.input.views) == ((32, 32), "RGB", 1)
    assert card.input.mean == (0.6, 0.6, 0.6)
    assert card.aspects["mitosis"] == ["absent", "rare", "frequent"]
    assert card.diagnosis == "conclusion"
    assert card.sections == ["mitosis", "remarks", "findings", "conclusion"]


def test_the_hub_reads_licence_library_data_and_results(card):
    front = front_matter(card)
    assert (front["license"], front["library_name"], front["datasets"]) == ("apache-2.0", "mdnet", ["tiles"])
    assert front["pipeline_tag"] == "image-to-text"
    assert {"mdnet", "mdnet_tiny", "report-generation"} <= set(front["tags"])
    results = {
        metric["name"]: (result["task"]["type"], metric["type"], metric["value"])
        for result in front["model-index"][0]["results"]
        for metric in result["metrics"]
    }
    assert results == {
        "accuracy of mitosis": ("image-classification", "accuracy", 0.75),
        "accuracy of conclusion": ("image-classification", "accuracy", 0.5),
        "bleu_4": ("image-to-text", "bleu", 0.1235),
    }


def test_people_read_use_limits_and_every_number_with_its_interval(card):
    text = model_card(replace(card, limits="Nine tiles teach nothing."))
    for line in (
        "no medical device",
        "## Limits\n\nNine tiles teach nothing.",
        "On 12 tiles:",
        "| studies | 12 |  |",
        "| aspects.mitosis.accuracy | 0.750 | 0.500 to 0.910 |",
        "| text.bleu_4 | 0.123 |  |",
        "- Recipe: `make tiles`",
    ):
        assert line in text
    assert "intervals" not in text


def test_what_nobody_knows_is_left_out_and_no_result_is_made_up(card):
    bare = replace(
        card, data="", dataset="", recipe="", metrics={}, measured_on="", calibrated_on="", sections=[]
    )
    front, text = front_matter(bare), model_card(bare)
    assert not {"datasets", "metrics", "model-index"} & set(front)
    assert front["pipeline_tag"] == "image-classification"
    assert "## Measured" not in text
    assert "Recipe" not in text
    assert "it writes no report" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("licence"), "missing or unknown: licence"),
        (lambda record: record.update(colour="red"), "missing or unknown: colour"),
        (lambda record: record.update(input={"size": [1, 1]}), "input is damaged"),
    ],
)
def test_a_card_with_entries_lost_or_added_is_refused(card, folder, change, message):
    write_card(folder, card)
    record = json.loads((folder / "weights.json").read_text())
    change(record)
    (folder / "weights.json").write_text(json.dumps(record))
    with pytest.raises(WeightsError, match=message):
        read_card(folder)


def test_a_model_that_nobody_could_use_gets_no_card(build_model, folder):
    model = build_model(dtype=torch.float32)
    model.preprocessing = None
    with pytest.raises(WeightsError, match="has no preprocessing"):
        make_card(model, folder, name="a/b", licence="MIT")
