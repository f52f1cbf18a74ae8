"""Any name becomes a folder on disk, or one line that says what there is."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

from mdnet.errors import WeightsError
from mdnet.inference.predictor import Predictor
from mdnet.models import weights
from mdnet.models.registry import list_models
from mdnet.models.weights import get_weights, list_weights, resolve_weights, verify_weights
from mdnet.models.weights_card import make_card, model_card, sha256, write_card

ROOT = Path(__file__).parents[2]
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
    model = build_model(dtype=torch.float32)
    model.save_pretrained(folder)
    metrics = {"diagnosis": {"accuracy": 1.0}}
    write_card(folder, make_card(model, folder, name="mdnet_tiny/tissue", licence="MIT", metrics=metrics))
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path / "shipped")
    return folder


@pytest.mark.parametrize("revision", [None, "v1", COMMIT])
def test_a_hub_id_is_found_in_the_local_cache(hub_cache, revision):
    predictor = Predictor.from_pretrained("nobody/tissue", revision=revision, local_files_only=True)
    assert predictor.name == "nobody/tissue"
    assert predictor.model.tokenizer is not None


@pytest.mark.parametrize(("name", "revision"), [("nobody/other", None), ("nobody/tissue", "v2")])
def test_a_hub_id_that_is_not_in_the_cache_is_one_line(hub_cache, name, revision):
    with pytest.raises(WeightsError, match="not in the local cache") as caught:
        resolve_weights(name, revision=revision, offline=True)
    assert "\n" not in str(caught.value)


def test_no_weights_are_fetched_but_those_files_that_a_model_has(hub_cache, monkeypatch):
    asked = {}

    def snapshot_download(name, **arguments):
        asked.update(arguments, name=name)
        return str(hub_cache / "snapshots" / COMMIT)

    monkeypatch.setattr("mdnet.models.hub.snapshot_download", snapshot_download)
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
    monkeypatch.setattr("mdnet.models.hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(WeightsError, match="no such folder"):
        resolve_weights(name)


def test_a_file_is_no_folder_and_is_never_looked_for_on_the_hub(shipped, monkeypatch):
    monkeypatch.setattr("mdnet.models.hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.chdir(shipped.parent)
    with pytest.raises(WeightsError, match=r"^tissue/model\.safetensors: a file; name the folder"):
        resolve_weights("tissue/model.safetensors")


@pytest.mark.parametrize("ask", [get_weights, lambda name: resolve_weights(name, offline=True)])
@pytest.mark.parametrize("name", ["mdnet_tiny/tisue", "mdnet_tiny"])
def test_a_name_that_is_nearly_one_is_answered_with_it(shipped, name, ask):
    with pytest.raises(WeightsError, match=r"did you mean 'mdnet_tiny/tissue'\?"):
        ask(name)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"holds a config\.json; name a run or model folder"):
        resolve_weights(tmp_path)


def test_a_folder_without_safetensors_is_refused_whatever_else_it_holds(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"what torch.save wrote")
    with pytest.raises(WeightsError, match=r"model\.safetensors: missing"):
        verify_weights(tmp_path)


def test_shipped_weights_are_as_large_as_a_package_may_be():
    sizes = {
        name: sum(file.stat().st_size for file in resolve_weights(name).iterdir()) for name in list_weights()
    }
    assert "mdnet_tiny/phantom" in sizes
    assert all(size <= 5_000_000 for size in sizes.values())
    assert sum(sizes.values()) <= 20_000_000


@pytest.mark.parametrize("name", list_weights())
def test_a_shipped_card_says_what_its_folder_holds(name):
    folder, card = resolve_weights(name), get_weights(name)
    config = json.loads((folder / "config.json").read_text())
    aspects = {each["name"]: each["classes"] for each in config["label_space"]["aspects"]}
    assert card.name == name
    assert card.model in list_models()
    assert (card.aspects, card.sections) == (aspects, config["sections"])
    assert card.size == (folder / "model.safetensors").stat().st_size
    assert card.sha256 == sha256(folder / "model.safetensors")
    assert card.metrics["studies"] >= 500
    assert (folder / "README.md").read_text() == model_card(card)
    assert all((card.data, card.dataset, card.recipe, card.measured_on, card.limits, card.licence))


def test_whatever_a_folder_of_weights_holds_is_in_the_wheel():
    """setuptools' own matching of `package-data`, as `pip wheel` runs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["mdnet"]
    packed = {path for pattern in patterns for path in (ROOT / "mdnet").glob(pattern)}
    files = {path for name in list_weights() for path in resolve_weights(name).iterdir()}
    assert files
    assert files <= packed
