"""Does decoupling blocks help a classifier? The image module alone against a plain pre-activation ResNet.

    python benchmarks/ecnet_cifar.py --images 10000 --epochs 20 --seeds 3      # a CPU: two hours on one core
    python benchmarks/ecnet_cifar.py --images 50000 --epochs 200 --seeds 3     # a GPU: the full schedule

The paper (Zhang et al., CVPR 2017, table 1) reports that ensemble connections beat residual networks of
equal depth on CIFAR. Here both have the same residual functions, parameters (within a percent), images,
order, augmentation, optimizer and schedule; what differs is where the blocks go: the plain network adds
the blocks of all stages up and classifies the last, the image module keeps a group of channels a stage
apart and classifies them all, each at its own resolution (docs/method.md, formulas 1 to 3).

The images are JPEG copies of CIFAR-10's (`../shared/data/cifar10_jpeg` or `$MDNET_REAL_DATA`): lossy, so
rates are not those of the literature.

References:
    1. He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027.
    2. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009 (CIFAR-10).
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from recording import record
from torch import Tensor, nn
from tqdm import tqdm

from mdnet.data.study import Aspect, LabelSpace
from mdnet.models.image_module import ResidualFunction
from mdnet.models.registry import create_model

REAL_DATA = Path(os.environ.get("MDNET_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
WIDTHS, DEPTHS = (16, 32, 64), (3, 3, 3)
PAD = 4  # pixels of reflection around an image, of which a crop is taken [1]


class Images(NamedTuple):
    """(N, 3, 32, 32) uint8 and (N,) class indices."""

    pixels: Tensor
    labels: Tensor


class PlainResNet(nn.Module):
    """The pre-activation ResNet of [1], of the image module's own residual functions."""

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.functions, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        channels = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                self.functions.append(ResidualFunction(channels, width, stride=stride))
                same = channels == width and stride == 1
                self.shortcuts.append(
                    nn.Identity() if same else nn.Conv2d(channels, width, 1, stride=stride, bias=False)
                )
                channels = width
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixel_values: Tensor) -> Tensor:
        y = self.stem(pixel_values)
        for function, shortcut in zip(self.functions, self.shortcuts, strict=True):
            y = shortcut(y) + function(y)
        return self.head(F.relu(self.norm(y)).mean(dim=(2, 3)))


class Decoupled(nn.Module):
    """The image module and its heads, as the zoo builds them."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        space = LabelSpace((Aspect("label", tuple(names)),), "label")
        self.model = create_model("ecnet_cifar", label_space=space)

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values).logits["label"]
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REAL_DATA / "cifar10_jpeg" / "cifar10_jpeg.npz")
    parser.add_argument("--images", type=int, default=10_000, help="training images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, test, names = load(options.data, options.images)
    makers = {
        "decoupled (ecnet)": lambda: Decoupled(names),
        "plain residual": lambda: PlainResNet(matched_widths(Decoupled(names)), DEPTHS),
    }
    accuracies: dict[str, list[float]] = {name: [] for name in makers}
    for seed in range(options.seeds):
        for name, make in makers.items():
            begun = time.perf_counter()
            torch.manual_seed(seed)
            accuracy = fit(make().to(device), train, test, epochs=options.epochs, seed=seed)
            accuracies[name].append(accuracy)
            print(f"seed {seed} {name}: {accuracy:.4f} in {time.perf_counter() - begun:.0f} s", flush=True)
    gains = [a - b for a, b in zip(*accuracies.values(), strict=True)]
    rows = [
        {
            "network": name,
            "parameters": sum(p.numel() for p in make().parameters()),
            "multiply-adds (million)": multiply_adds(make()) / 1e6,
            "test accuracy, mean": statistics.mean(accuracies[name]),
            "least": min(accuracies[name]),
            "greatest": max(accuracies[name]),
        }
        for name, make in makers.items()
    ]
    schedule = f"{options.images:,} training images, {options.epochs} epochs, {options.seeds} seeds, {device}"
    record(
        "ecnet_cifar",
        rows,
        title=f"Decoupled blocks against a plain residual network on CIFAR-10 (JPEG copies): {schedule}",
        reading="Same residual functions, images, order and optimizer. Gain of the decoupled network, seed "
        f"by seed: {', '.join(f'{gain:+.4f}' for gain in gains)}. The paper's schedule is longer: 50,000 "
        "images and hundreds of epochs.",
        details={"accuracies": accuracies},
    )


def load(file: Path, count: int) -> tuple[Images, Images, list[str]]:
    """A class-balanced random subset of the training images, all test images, and the class names."""
    archive = np.load(file)
    chosen = np.random.default_rng(0)
    labels = archive["train_labels"]
    each = count // 10
    index = np.concatenate(
        [chosen.permutation(np.flatnonzero(labels == label))[:each] for label in range(10)]
    )
    return (
        decode(archive, "train", index),
        decode(archive, "test", np.arange(len(archive["test_labels"]))),
        [str(name) for name in archive["names"]],
    )


def decode(archive: np.lib.npyio.NpzFile, split: str, index: np.ndarray) -> Images:
    content, offsets = archive[f"{split}_bytes"].tobytes(), archive[f"{split}_offsets"]
    arrays = [
        np.asarray(Image.open(io.BytesIO(content[offsets[i] : offsets[i + 1]])).convert("RGB")) for i in index
    ]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.from_numpy(archive[f"{split}_labels"][index].astype(np.int64)))


def matched_widths(other: nn.Module) -> tuple[int, ...]:
    """Widths of the plain network, the last one chosen for the nearest number of parameters."""
    target = sum(parameter.numel() for parameter in other.parameters())

    def distance(last: int) -> int:
        plain = PlainResNet((*WIDTHS[:-1], last), DEPTHS)
        return abs(sum(parameter.numel() for parameter in plain.parameters()) - target)

    return (*WIDTHS[:-1], min(range(48, 96), key=distance))


def multiply_adds(network: nn.Module) -> int:
    """Of the convolutions, for one image."""
    total = 0

    def count(module: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    return total


def fit(network: nn.Module, train: Images, test: Images, *, epochs: int, seed: int) -> float:
    """Trains with SGD as in [1], half a cosine in place of steps; the accuracy on the test images."""
    device = next(network.parameters()).device
    network = network.to(memory_format=torch.channels_last)
    mean = train.pixels.float().mean(dim=(0, 2, 3)).view(1, 3, 1, 1).to(device)
    std = train.pixels.float().std(dim=(0, 2, 3)).view(1, 3, 1, 1).to(device)
    generator = torch.Generator().manual_seed(seed)
    size = 128
    steps = epochs * (len(train.labels) // size)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps, pct_start=0.15)
    for _ in tqdm(range(epochs), disable=None, unit="epoch"):
        network.train()
        order = torch.randperm(len(train.labels), generator=generator)
        for step in range(len(order) // size):
            batch = order[step * size : (step + 1) * size]
            pixels = augmented(train.pixels[batch], generator).to(device)
            inputs = ((pixels.float() - mean) / std).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(inputs), train.labels[batch].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    hits = torch.zeros((), device=device)
    with torch.no_grad():
        for pixels, labels in zip(test.pixels.split(1000), test.labels.split(1000), strict=True):
            logits = network((pixels.to(device).float() - mean) / std)
            hits += (logits.argmax(dim=1) == labels.to(device)).sum()
    return hits.item() / len(test.labels)


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """A crop of the padded image and, for every other one, left for right [1]."""
    count, _, rows, columns = pixels.shape
    padded = F.pad(pixels.float(), (PAD,) * 4, mode="reflect").to(torch.uint8)
    down, right = torch.randint(0, 2 * PAD + 1, (2, count), generator=generator)
    row_of = down[:, None] + torch.arange(rows)
    column_of = right[:, None] + torch.arange(columns)
    flipped = torch.rand(count, generator=generator) < 0.5
    column_of = torch.where(flipped[:, None], column_of.flip(1), column_of)
    study = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[study, row_of[:, :, None], column_of[:, None, :]].permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
