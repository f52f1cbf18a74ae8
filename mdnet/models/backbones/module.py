"""A torchvision network as image module: its last three stages are the blocks of C(I).

A block is the stage's output behind the rectifier that the network itself puts there, so the features are
those that it was pretrained with, from the first step on. ResNets end a residual block in a ReLU [1]; what
a dense block of a DenseNet made is read through the BN-ReLU of the transition behind it [2]. The heads are
linear on the blocks' means as ever, and evidence is exact.

Two things differ from torchvision's own modules, and no number does: every ReLU is a module of its own, and
none works in place, since gradient methods hook them.

References:
    1. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385.
    2. Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, arXiv 1608.06993.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import mdnet.torchvision_compat  # noqa: F401

from torch import Tensor, nn
from torchvision.models import DenseNet, ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageModule

__all__ = ["BackboneModule", "Parts", "build_network", "cut"]


class BackboneModule(ImageModule):
    """C(I) from a torchvision network: each stage reads the block before it."""

    def __init__(self, config: MDNetConfig) -> None:
        super().__init__()
        assert config.backbone is not None
        network = build_network(config.backbone)
        if config.image_channels != 3:
            _replace_first_convolution(network, config.image_channels)
        self.stem, self.stages, self.activations = cut(network)

    def blocks(self, pixel_values: Tensor) -> list[Tensor]:
        y, blocks = self.stem(pixel_values), []
        for stage, activation in zip(self.stages, self.activations, strict=True):
            y = activation(stage(y))
            blocks.append(y)
        return blocks


class Parts(NamedTuple):
    """A network in the parts of an image module, under the layers' own names."""

    stem: nn.Sequential
    stages: nn.ModuleList
    activations: nn.ModuleList


def build_network(backbone: str) -> ResNet | DenseNet:
    """The torchvision network with random weights, three input channels and no classifier."""
    network: ResNet | DenseNet
    if backbone == "densenet121":
        network = DenseNet(32, (6, 12, 24, 16), 64)
        network.classifier = nn.Identity()
    else:
        network = ResNet(*_RESNETS[backbone])
        network.fc = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


def cut(network: ResNet | DenseNet) -> Parts:
    """The parts; they share the network's tensors."""
    return _cut_densenet(network) if isinstance(network, DenseNet) else _cut_resnet(network)


class _BasicBlock(BasicBlock):
    """torchvision's, with a ReLU module for each use."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        del self.relu
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + (x if self.downsample is None else self.downsample(x)))


class _Bottleneck(Bottleneck):
    """torchvision's, with a ReLU module for each use."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        del self.relu
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu3(y + (x if self.downsample is None else self.downsample(x)))


_RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (_BasicBlock, [2, 2, 2, 2]),
    "resnet50": (_Bottleneck, [3, 4, 6, 3]),
}


def _cut_resnet(network: ResNet) -> Parts:
    stem = _named(network, "conv1", "bn1", "relu", "maxpool", "layer1")
    stages = [network.layer2, network.layer3, network.layer4]
    for stage in stages:  # a stage's last ReLU is its block's activation
        last = stage[-1]
        setattr(last, "relu2" if isinstance(last, BasicBlock) else "relu3", nn.Identity())
    return Parts(stem, nn.ModuleList(stages), nn.ModuleList(nn.ReLU() for _ in stages))


def _cut_densenet(network: DenseNet) -> Parts:
    layers = network.features
    stem = _named(layers, "conv0", "norm0", "relu0", "pool0", "denseblock1", "transition1")
    stages, activations = nn.ModuleList(), nn.ModuleList()
    opening: OrderedDict[str, nn.Module] = OrderedDict()
    for number in (2, 3, 4):
        stages.append(nn.Sequential(opening | _children(layers, f"denseblock{number}")))
        if number == 4:
            activations.append(nn.Sequential(OrderedDict(norm=layers.norm5, relu=nn.ReLU())))
        else:  # the transition's BN-ReLU is the block's; its convolution and pooling open the next stage
            transition = layers.get_submodule(f"transition{number}")
            activations.append(_named(transition, "norm", "relu"))
            opening = _children(transition, "conv", "pool")
    return Parts(stem, stages, activations)


def _named(module: nn.Module, *names: str) -> nn.Sequential:
    return nn.Sequential(_children(module, *names))


def _children(module: nn.Module, *names: str) -> OrderedDict[str, nn.Module]:
    return OrderedDict((name, module.get_submodule(name)) for name in names)


def _replace_first_convolution(network: ResNet | DenseNet, channels: int) -> None:
    owner, name = (network.features, "conv0") if isinstance(network, DenseNet) else (network, "conv1")
    setattr(owner, name, nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False))
