"""torchvision's weights in a backbone: its own features to the last digit, and one line where they fail."""

from __future__ import annotations

import re
import urllib.error
from pathlib import Path
from typing import Any

import mdnet.torchvision_compat  # noqa: F401

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from mdnet.data.study import Aspect, LabelSpace
from mdnet.errors import WeightsError
from mdnet.models.backbones.shapes import BACKBONES, IMAGENET_MEAN, IMAGENET_STD
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model


def new_model(name: str, **options: Any) -> MDNet:
    space = LabelSpace((Aspect("conclusion", ("normal", "tumor")),), "conclusion")
    return create_model(name, label_space=space, **options)


def published(name: str, seed: int = 0) -> nn.Module:
    """torchvision's own network in evaluation mode, with random weights and BatchNorm statistics."""
    torch.manual_seed(seed)
    network = torchvision.models.get_model(name, weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network


@torch.no_grad()
def published_blocks(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The last three stages' outputs, as torchvision computes them."""
    wanted = ["layer2", "layer3", "layer4"]
    if isinstance(network, torchvision.models.DenseNet):
        # In place, relu and F.relu write over these outputs: what is kept is behind the rectifier.
        wanted = ["features.transition2.norm", "features.transition3.norm", "features.norm5"]
    outputs = []
    handles = [
        network.get_submodule(layer).register_forward_hook(
            lambda module, inputs, output: outputs.append(output)
        )
        for layer in wanted
    ]
    network(images)
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "w.pth"),
        ("resnet50", "w.pt"),
        ("densenet121", "w.safetensors"),
        ("densenet121", "old.pth"),
    ],
)
@torch.no_grad()
def test_features_are_torchvisions_own(tmp_path, name, file):
    network = published(name)
    state = network.state_dict()
    if file == "old.pth":  # names and missing counts as in the published file
        state = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): tensor
            for key, tensor in state.items()
            if not key.endswith("num_batches_tracked")
        }
    path = tmp_path / file
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    model = new_model(f"mdnet_{name}", backbone_weights=str(path)).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    blocks = model.encode(images).blocks
    for block, expected in zip(blocks, published_blocks(network, images), strict=True):
        assert expected.max() > 0.1
        torch.testing.assert_close(block, expected, rtol=1e-6, atol=1e-6)


def test_loading_a_saved_model_asks_for_no_backbone_weights(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(published("resnet18").state_dict(), path)
    model = new_model("mdnet_resnet18", backbone_weights=str(path), image_size=64).eval()
    path.unlink()
    model.save_pretrained(tmp_path / "model")
    loaded = MDNet.from_pretrained(tmp_path / "model")
    assert loaded.config.backbone_weights == str(path)  # where it came from stays known
    ours, theirs = loaded.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(monkeypatch, tmp_path):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(WeightsError) as caught:
        new_model("mdnet_resnet18", backbone_weights="IMAGENET1K_V1")
    message = str(caught.value)
    assert "\n" not in message
    assert "resnet18 IMAGENET1K_V1: cannot be had (<urlopen error no route to host>)" in message
    assert "fetch https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in message


@torch.no_grad()
def test_a_name_of_torchvisions_is_taken_from_the_hub_cache(monkeypatch, tmp_path):
    network = published("resnet18")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    torch.save(network.state_dict(), place)
    model = new_model("mdnet_resnet18", backbone_weights="IMAGENET1K_V1")
    assert torch.equal(model.image.stem.conv1.weight, network.conv1.weight)


class Executed:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; name a state dict"),
        (b"not a file of torch's", "no state dict of tensors"),
        ({"fc.weight": torch.zeros(2)}, "not the weights of resnet18: missing or unexpected: bn1.bias"),
        ({"conv1.weight": Executed()}, "no state dict of tensors"),
        (torch.zeros(3), "no state dict of tensors"),
    ],
    ids=["missing", "bytes", "classifier alone", "code", "a tensor"],
)
def test_a_file_that_is_no_state_dict_is_named(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=re.escape(message)) as caught:
        new_model("mdnet_resnet18", backbone_weights=str(path))
    assert str(path) in str(caught.value)
    assert not Path("executed").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    state = published("resnet18").state_dict()
    torch.save(state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "grey.pth")
    with pytest.raises(WeightsError, match=r"conv1.weight is \(64, 1, 7, 7\), not \(64, 3, 7, 7\)"):
        new_model("mdnet_resnet18", backbone_weights=str(tmp_path / "grey.pth"))
    with pytest.raises(WeightsError, match="not the weights of densenet121: missing or unexpected"):
        new_model("mdnet_densenet121", backbone_weights=str(tmp_path / "grey.pth"))
    with pytest.raises(WeightsError, match=r"no weights 'IMAGENET' of resnet50; it has IMAGENET1K_V1, "):
        new_model("mdnet_resnet50", backbone_weights="IMAGENET")


@pytest.mark.parametrize("name", BACKBONES)
def test_the_normalisation_is_that_of_torchvisions_weights(name):
    for weights in torchvision.models.get_model_weights(name):
        transform = weights.transforms()
        assert (tuple(transform.mean), tuple(transform.std)) == (IMAGENET_MEAN, IMAGENET_STD)
