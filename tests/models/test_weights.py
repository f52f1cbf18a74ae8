"""Any name becomes a folder on disk, or one line that says what there is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mdnet.errors import WeightsError
from mdnet.inference.predictor import Predictor
from mdnet.models import weights
from mdnet.models.weights import get_weights, list_weights, resolve_weights, sha256, verify_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(build_model, tmp_path, monkeypatch) -> Path:
    """A local cache that holds the model `nobody/tissue` as huggingface_hub lays it out."""
    repository = tmp_path / "hub" / "models--nobody--tissue"
    build_model(dtype=torch.float32).save_pretrained(repository / "snapshots" / COMMIT)
    for name in ("main", "v1"):
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


@pytest.fixture
def shipped(build_model, tmp_path, monkeypatch) -> Path:
    """A package that ships the weights `mdnet_tiny/tissue`."""
    folder = tmp_path / "shipped" / "mdnet_tiny" / "tissue"
    build_model(dtype=torch.float32).save_pretrained(folder)
    card = dict.fromkeys(("model", "data", "recipe", "licence", "version"), "x")
    card |= {"name": "mdnet_tiny/tissue", "metrics": {"diagnosis": {"accuracy": 1.0}}, "parameters": 1}
    (folder / "weights.json").write_text(json.dumps(card | {"sha256": sha256(folder / "model.safetensors")}))
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path / "shipped")
    return folder


@pytest.mark.parametrize("revision", [None, "v1", COMMIT])
def test_a_hub_id_is_found_in_the_local_cache(hub_cache, revision):
    predictor = Predictor.from_pretrained("nobody/tissue", revision=revision, local_files_only=True)
    assert predictor.name == "nobody/tissue"
    assert predictor.model.tokenizer is not None


@pytest.mark.parametrize(("name", "revision"), [("nobody/other", None), ("nobody/tissue", "v2")])
def test_a_hub_id_that_is_not_in_the_cache_is_one_line(hub_cache, name, revision):
    with pytest.raises(WeightsError, match="and the hub gave none: ") as caught:
        resolve_weights(name, revision=revision, offline=True)
    assert "\n" not in str(caught.value)


def test_no_weights_are_fetched_but_those_files_that_a_model_has(hub_cache, monkeypatch):
    asked = {}

    def snapshot_download(name, **arguments):
        asked.update(arguments, name=name)
        return str(hub_cache / "snapshots" / COMMIT)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    resolve_weights("nobody/tissue", revision="v1")
    assert asked["name"] == "nobody/tissue"
    assert asked["revision"] == "v1"
    assert not asked["local_files_only"]
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in asked["allow_patterns"])


def test_shipped_weights_are_listed_and_load_by_name(shipped):
    assert list_weights() == ["mdnet_tiny/tissue"]
    assert list_weights("mdnet_base/*") == []
    assert get_weights("mdnet_tiny/tissue").metrics == {"diagnosis": {"accuracy": 1.0}}
    assert Predictor.from_pretrained("mdnet_tiny/tissue").name == "mdnet_tiny/tissue"
    with pytest.raises(WeightsError, match="there are: mdnet_tiny/tissue"):
        get_weights("mdnet_tiny/lung")


def test_a_folder_goes_before_shipped_weights_of_its_name(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shipped, tmp_path / "mdnet_tiny" / "tissue")
    assert resolve_weights("mdnet_tiny/tissue") == Path("mdnet_tiny/tissue")


def test_a_run_folder_stands_for_its_model(shipped, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copytree(shipped, tmp_path / "run" / "model")
    assert resolve_weights(tmp_path / "run") == tmp_path / "run" / "model"


@pytest.mark.parametrize("name", ["tissue", "./runs/none", "/none/here", "a/b/c", "~/runs/x"])
def test_a_path_that_is_not_there_is_never_looked_for_on_the_hub(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(WeightsError, match="no such folder"):
        resolve_weights(name)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"holds a config\.json; name a run or model folder"):
        resolve_weights(tmp_path)


def test_a_folder_without_safetensors_is_refused_whatever_else_it_holds(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"what torch.save wrote")
    with pytest.raises(WeightsError, match=r"model\.safetensors: missing"):
        verify_weights(tmp_path)
