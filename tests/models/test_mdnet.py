"""The whole model: what stands in for missing labels, and one folder that gives back the same bits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mdnet.data.study import MISSING, Aspect, LabelSpace
from mdnet.data.text import ReportTokenizer
from mdnet.errors import WeightsError
from mdnet.models.configuration import ATTENTION_NAMES
from mdnet.models.mdnet import MDNet
from mdnet.models.weights_card import make_card, write_card


def evidence_of(model: MDNet, images, labels=None) -> torch.Tensor:
    """The c that guides attention: (B, S, P)."""
    output = model(images)
    return model.prepare(output.features, model.guides(output.logits, labels)).evidence


def test_output_names_every_part_and_leaves_out_what_was_not_asked_for(build_model, draw_batch):
    model = build_model()
    images, labels, tokens = draw_batch(2)
    plain = model(images)
    assert set(plain.keys()) == {"logits", "block_logits", "features"}
    assert plain.loss is None
    assert model(images, labels).losses.keys() == {"classification"}
    assert model(images, None, tokens).losses.keys() == {"language"}
    full = model(images, labels, tokens)
    assert full.losses.keys() == {"classification", "language"}
    torch.testing.assert_close(full.loss, full.losses["classification"] + full.losses["language"])
    assert full.report_logits.shape == (2, 4, 6, model.config.vocabulary_size)


@pytest.mark.parametrize("attention", ["sharpened", "additive"])
def test_evidence_of_a_section_is_the_contrast_of_its_aspects_true_class(build_model, draw_batch, attention):
    model = build_model(attention=attention)
    images, labels, _ = draw_batch(3)
    found, grid = evidence_of(model, images, labels), model.encode(images).grid
    guiding = {
        0: "mitosis",
        1: "conclusion",
        3: "conclusion",
    }  # "remarks" is no aspect: the diagnosis guides it
    for section, name in guiding.items():
        weight = model.heads[name].weight
        for study in range(3):
            true_class = int(labels[name][study])
            if true_class == 0:  # the reference of both
                contrast = weight[1:].mean(dim=0) - weight[0]
            else:
                contrast = weight[true_class] - weight[0]
            torch.testing.assert_close(found[study, section], grid[study] @ contrast, rtol=1e-10, atol=1e-10)


def test_evidence_of_the_literal_variant_is_that_of_the_class_itself(build_model, draw_batch):
    model = build_model(attention="mdnet")
    images, labels, _ = draw_batch(3)
    found, grid = evidence_of(model, images, labels), model.encode(images).grid
    for study in range(3):
        weight = model.heads["mitosis"].weight[labels["mitosis"][study]]  # w^c, no reference
        torch.testing.assert_close(found[study, 0], grid[study] @ weight, rtol=1e-10, atol=1e-10)


def test_the_predicted_class_stands_in_for_a_missing_label(build_model, draw_batch):
    model = build_model()
    images, labels, _ = draw_batch(3)
    logits = model(images).logits
    labels["conclusion"][1] = MISSING
    labels["findings"][2] = torch.tensor([1, MISSING, 0])
    del labels["mitosis"]
    guides = model.guides(logits, labels)
    predicted = logits["conclusion"].argmax(dim=1)
    assert guides["conclusion"].tolist() == [labels["conclusion"][0], predicted[1], labels["conclusion"][2]]
    assert guides["findings"][2].tolist() == [1, float(logits["findings"][2, 1] > 0), 0]
    assert torch.equal(guides["mitosis"], logits["mitosis"].argmax(dim=1))
    assert model.guides(logits).keys() == model.guides(logits, labels).keys()


def test_a_section_may_be_guided_by_an_aspect_of_another_name_or_by_none(build_model, draw_batch):
    images, labels, _ = draw_batch(2)
    named = build_model(section_aspects={"remarks": "mitosis"})
    found = evidence_of(named, images, labels)
    assert torch.equal(found[:, 1], found[:, 0])
    without = build_model(label_space=LabelSpace((Aspect("mitosis", ("absent", "rare", "frequent")),)))
    found = evidence_of(without, images, labels)
    assert found[:, 0].any()
    assert not found[:, 1:].any()


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_a_set_with_no_labels_trains_and_attends_without_evidence(build_model, draw_batch, attention):
    model = build_model(label_space=None, attention=attention).train()
    images, _, tokens = draw_batch(3)
    output = model(images, {}, tokens)
    assert model.config.attention == ("soft" if attention == "soft" else "additive")
    assert model.heads is None
    assert output.logits is None
    assert output.losses.keys() == {"language"}
    output.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.image.parameters())


def test_a_set_with_no_reports_trains_and_writes_nothing(build_model, draw_batch):
    model = build_model(sections=(), tokenizer=None).train()
    images, labels, _ = draw_batch(3)
    output = model(images, labels, None)
    assert model.report is None
    assert output.losses.keys() == {"classification"}
    output.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_new_weights_prefer_no_class_and_keep_activations_in_range():
    from mdnet.models.registry import create_model

    torch.manual_seed(0)
    space = LabelSpace((Aspect("mitosis", ("absent", "rare", "frequent")),))
    model = create_model("mdnet_tiny", label_space=space).train()
    output = model(torch.randn(4, 3, 64, 64))
    assert output.logits["mitosis"].abs().max() < 0.5
    assert 0.1 < output.features.grid.mean() < 1.0


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@torch.no_grad()
def test_saved_and_loaded_gives_the_same_bits(build_model, draw_batch, tmp_path, attention):
    model = build_model(attention=attention, dtype=torch.float32)
    images, labels, tokens = draw_batch(2)
    model.save_pretrained(tmp_path)
    loaded = MDNet.from_pretrained(tmp_path)
    assert not loaded.training
    expected, found = (m(images.float(), labels, tokens) for m in (model, loaded))
    for name in ("loss", "report_logits", "attention", "log_likelihood"):
        assert torch.equal(found[name], expected[name]), name
    assert all(torch.equal(found.logits[name], logits) for name, logits in expected.logits.items())
    assert loaded.config.to_dict().items() >= {"sections": list(model.config.sections)}.items()
    assert loaded.config.space == model.config.space
    assert loaded.config.section_aspects == model.config.section_aspects
    assert loaded.preprocessing == model.preprocessing
    assert loaded.tokenizer.encode("nuclei are small") == model.tokenizer.encode("nuclei are small")


def test_a_fresh_process_without_the_data_gives_the_same_bits(build_model, draw_batch, tmp_path):
    model = build_model(dtype=torch.float32)
    images = draw_batch(2).pixel_values.float()
    model.save_pretrained(tmp_path / "model")
    save_file({"images": images}, tmp_path / "images.safetensors")
    code = """
import sys, torch
from safetensors.torch import load_file, save_file
import mdnet
torch.set_num_threads(1)
model = mdnet.MDNet.from_pretrained(sys.argv[1])  # a run folder: its model/ is taken
with torch.no_grad():
    output = model(load_file("images.safetensors")["images"])
save_file(output.logits, "logits.safetensors")
assert model.tokenizer.decode(model.tokenizer.encode("nuclei are small")) == "Nuclei are small"
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=tmp_path)
    found = load_file(tmp_path / "logits.safetensors")
    with torch.no_grad():
        expected = model(images).logits
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], logits) for name, logits in expected.items())


@pytest.fixture
def folder(build_model, tmp_path) -> Path:
    """A model folder to damage."""
    build_model(dtype=torch.float32).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def weights_error(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that loading `folder` fails with; nothing else is printed."""
    capfd.readouterr()
    with pytest.raises(WeightsError) as caught:
        MDNet.from_pretrained(folder)
    assert capfd.readouterr() == ("", "")
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("kept", [0, 5, -20])
def test_damaged_weights_are_named(folder, capfd, kept):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "model.safetensors: damaged" in weights_error(folder, capfd)


@pytest.mark.parametrize("change", ["missing", "missing statistics", "unexpected", "of another shape"])
def test_weights_that_do_not_fit_their_configuration_are_named(folder, capfd, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if change == "missing":
        name = "heads.heads.0.bias"
        del tensors[name]
    elif change == "missing statistics":
        name = "image.activations.0.0.running_mean"
        del tensors[name]
    elif change == "unexpected":
        name = "image.extra"
        tensors[name] = torch.zeros(1)
    else:
        name = "report.output.bias"
        tensors[name] = torch.zeros(3)
    save_file(tensors, file, metadata={"format": "pt"})
    assert f"do not fit: {name}" in weights_error(folder, capfd)


def test_weights_of_another_vocabulary_are_refused(folder, capfd):
    ReportTokenizer.build(["other words altogether"], ["mitosis"]).save(folder)
    assert "tokenizer.json: 7 tokens, but the model has" in weights_error(folder, capfd)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_json_file_is_named(folder, capfd, name):
    file = folder / name
    file.write_text(file.read_text()[:60])
    assert name in weights_error(folder, capfd)


def test_a_configuration_that_is_none_is_named(folder, capfd):
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"sharpened"', '"dull"'))
    assert "config.json: attention 'dull'" in weights_error(folder, capfd)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 2.0}, "unknown entries: temperature; if a newer mdnet has saved it"),
        ({"model_type": "bert"}, "model_type is 'bert', not 'mdnet'"),
        ({"widths": "abc"}, "damaged (TypeError: "),
        ({"hidden_size": "7"}, "damaged (TypeError: "),
        ({"label_space": {"aspects": [{"name": "mitosis"}]}}, "damaged (TypeError: "),
        ({"label_space": [1]}, "damaged (AttributeError: "),
    ],
)
def test_a_configuration_of_another_version_kind_or_type_is_refused_in_one_line(
    folder, capfd, change, message
):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert f"config.json: {message}" in weights_error(folder, capfd)
    file.write_text(json.dumps([change]))
    assert "no configuration but a list" in weights_error(folder, capfd)


def test_of_a_member_that_is_not_registered_the_mend_is_to_import_its_file(folder, capfd):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architecture": "mine"}))
    message = weights_error(folder, capfd)
    assert "config.json: no model 'mine'" in message
    assert "once the file that registers it is imported" in message
    assert "copy the model folder" not in message


def test_published_weights_must_have_the_hash_on_their_card(folder, capfd):
    card = make_card(MDNet.from_pretrained(folder), folder, name="a/b", licence="Apache-2.0")
    write_card(folder, card)
    MDNet.from_pretrained(folder)
    write_card(folder, replace(card, sha256="0" * 64))
    assert "its card says 000000000000" in weights_error(folder, capfd)
    (folder / "weights.json").write_text('{"name": "a/b"}')
    assert "entries missing or unknown: aspects" in weights_error(folder, capfd)
    (folder / "weights.json").write_text('{"name')
    assert "weights.json" in weights_error(folder, capfd)


def test_loading_needs_no_file_but_those_of_the_folder(folder, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    assert MDNet.from_pretrained(copy).tokenizer is not None
