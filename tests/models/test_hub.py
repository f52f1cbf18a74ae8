"""To the hub and back: the same bits, nothing unpickled, and one line for whatever goes wrong.

The hub is a small server on this machine (`hub_stand_in.py`); huggingface_hub talks to it as to the real one.
"""

from __future__ import annotations

from collections.abc import Iterator

import huggingface_hub
import pytest
import torch
import yaml
from hub_stand_in import READ_ONLY, TOKEN, HubStandIn
from huggingface_hub import constants

from mdnet.errors import ConfigurationError, WeightsError
from mdnet.inference.predictor import Predictor
from mdnet.models.calibration import Calibration
from mdnet.models.mdnet import MDNet
from mdnet.models.weights_card import read_card, sha256

# huggingface_hub 2.4 sends a large file as `data=`, which its own httpx2 asks to be called `content=`.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

NAME = "tissue-lab/mdnet-tissue"
WHOLE = {
    "README.md", "calibration.json", "config.json", "model.safetensors", "preprocessor_config.json",
    "tokenizer.json", "tokenizer_config.json", "weights.json",
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubStandIn]:
    server = HubStandIn()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    huggingface_hub.close_session()  # one that was opened knows the proxies of its time
    yield server
    huggingface_hub.close_session()
    server.close()


@pytest.fixture(scope="module")
def model(build_model) -> MDNet:
    built = build_model(dtype=torch.float32)
    built.calibration = Calibration(dict.fromkeys(built.config.space.names, 1.5), fitted_on="ten studies")
    return built


def push(model: MDNet, **arguments) -> str:
    return model.push_to_hub(NAME, **{"licence": "Apache-2.0", "token": TOKEN} | arguments)


def trouble(name: str = NAME, **arguments) -> str:
    """What loading says; one line."""
    with pytest.raises(WeightsError) as caught:
        MDNet.from_pretrained(name, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same_bits(model: MDNet, other: MDNet) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert other.config.label_space == model.config.label_space
    assert other.preprocessing == model.preprocessing
    words = "mitotic figures are frequent ."
    assert other.tokenizer.encode(words) == model.tokenizer.encode(words)
    assert other.calibration.to_dict() == model.calibration.to_dict()


def test_what_was_pushed_comes_back_bit_by_bit_with_all_that_belongs_to_it(hub, model, tmp_path):
    address = push(model, private=True, commit_message="first")
    assert address == f"{hub.url}/{NAME}/commit/{hub.repositories[NAME].branches['main']}"
    assert hub.repositories[NAME].private
    assert set(hub.files(NAME)) == WHOLE
    assert_same_bits(model, MDNet.from_pretrained(NAME, token=TOKEN))
    assert "not on the hub" in trouble(cache_dir=tmp_path, token=False)  # it is private


def test_the_card_says_what_was_pushed(hub, model, tmp_path):
    push(model, data="nine tiles", dataset="tiles", metrics={"aspects": {"mitosis": {"accuracy": 0.75}}})
    files = hub.files(NAME)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    card = read_card(tmp_path)
    assert (card.name, card.model, card.licence) == (NAME, "mdnet_tiny", "Apache-2.0")
    assert card.size == len(files["model.safetensors"])
    assert card.sha256 == sha256(tmp_path / "model.safetensors")
    assert card.calibrated_on == "ten studies"
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "mdnet"
    result = front["model-index"][0]["results"][0]
    assert result["dataset"]["type"] == "tiles"
    assert result["metrics"] == [{"type": "accuracy", "value": 0.75, "name": "accuracy of mitosis"}]
    assert "no medical device" in files["README.md"].decode()


def test_a_predictor_loads_from_the_hub_and_then_without_it(hub, model, tmp_path):
    push(model)
    cache = tmp_path / "elsewhere"
    assert Predictor.from_pretrained(NAME, cache_dir=cache).name == NAME
    assert (cache / "models--tissue-lab--mdnet-tissue").is_dir()
    before = len(hub.requests)
    again = Predictor.from_pretrained(NAME, cache_dir=cache, local_files_only=True)
    assert len(hub.requests) == before
    assert_same_bits(model, again.model)
    assert "not in the local cache" in trouble(local_files_only=True)  # it is in the other one


def test_hf_hub_offline_asks_nobody(hub, model, monkeypatch):
    push(model)
    MDNet.from_pretrained(NAME)
    before = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same_bits(model, MDNet.from_pretrained(NAME))
    assert "HF_HUB_OFFLINE" in trouble("tissue-lab/other")
    assert len(hub.requests) == before


def test_a_branch_and_a_commit_are_what_was_pushed_there(hub, model, build_model):
    first = push(model).rpartition("/")[2]
    other = build_model(dtype=torch.float32, seed=1)
    other.calibration = model.calibration
    push(other, revision="second")
    push(other)
    assert_same_bits(model, MDNet.from_pretrained(NAME, revision=first))
    assert_same_bits(other, MDNet.from_pretrained(NAME, revision="second"))
    assert_same_bits(other, MDNet.from_pretrained(NAME))
    assert "revision third: no such revision on the hub" in trouble(revision="third")


def test_a_pickle_is_never_fetched_and_the_line_says_why(hub, model):
    push(model)
    files = {name: content for name, content in hub.files(NAME).items() if name != "model.safetensors"}
    hub.put("someone/else", files | {"pytorch_model.bin": b"what torch.save wrote", "modeling.py": b"1 / 0"})
    assert "no model.safetensors, but pytorch_model.bin: a pickle can run any code" in trouble("someone/else")
    fetched = {path.rpartition("/")[2] for method, path in hub.requests if method == "GET"}
    assert "config.json" in fetched
    assert not fetched & {"pytorch_model.bin", "modeling.py", "README.md"}


def test_weights_that_are_not_those_of_their_card_are_refused(hub, model, build_model, tmp_path):
    push(model)
    build_model(dtype=torch.float32, seed=1).save_pretrained(tmp_path)
    other = (tmp_path / "model.safetensors").read_bytes()
    hub.put(NAME, hub.files(NAME) | {"model.safetensors": other})
    assert "its card says" in trouble()


def test_a_download_that_broke_off_is_told_offline_and_mended_online(hub, model, tmp_path):
    push(model)
    MDNet.from_pretrained(NAME)
    weights = next((tmp_path / "cache").rglob("snapshots/*/model.safetensors"))
    weights.resolve().unlink()
    weights.unlink()
    assert "broke off; load it again with a network" in trouble(local_files_only=True)
    assert_same_bits(model, MDNet.from_pretrained(NAME))


def test_a_repository_of_something_else_is_told(hub):
    hub.put("someone/else", {"README.md": b"words", "config.json": b"{}"})
    assert "no model.safetensors on the hub; it is no model that mdnet saved" in trouble("someone/else")
    hub.put("someone/weights", {"model.safetensors": b"x"})
    assert "no config.json" in trouble("someone/weights")


def test_a_gated_repository_and_one_that_is_not_there_are_told_apart(hub, model):
    hub.put("someone/gated", {"config.json": b"{}"}, gated=True)
    assert "gated: ask for access on its page" in trouble("someone/gated")
    message = trouble("someone/none")
    assert "not on the hub" in message
    assert "mdnet_tiny/phantom" in message  # what there is without it


def test_without_a_network_the_line_names_the_hub_but_what_is_cached_loads(hub, model):
    push(model)
    MDNet.from_pretrained(NAME)
    hub.close()
    huggingface_hub.close_session()  # and the connections that were open
    assert_same_bits(model, MDNet.from_pretrained(NAME))
    assert f"the hub at {hub.url} gave no answer" in trouble("someone/else")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": False}, "the hub refuses"),
        ({"token": READ_ONLY}, "the hub refuses"),
        ({"licence": "mine"}, '"license" must be one of'),
    ],
)
def test_a_push_that_the_hub_refuses_is_one_line(hub, model, arguments, message):
    with pytest.raises(WeightsError, match=message) as caught:
        push(model, **arguments)
    assert str(caught.value).startswith(f"{NAME}: not pushed: ")
    assert "\n" not in str(caught.value)
    assert not hub.files(NAME) if NAME in hub.repositories else True


def test_a_name_that_is_no_hub_id_is_refused_before_anything_is_asked(hub, model):
    with pytest.raises(WeightsError, match="no hub id"):
        model.push_to_hub("a/b/c", licence="Apache-2.0", token=TOKEN)
    assert hub.requests == []


def test_saving_never_pushes_the_weights_alone(model, tmp_path):
    with pytest.raises(ConfigurationError, match="call push_to_hub"):
        model.save_pretrained(tmp_path, push_to_hub=True)
