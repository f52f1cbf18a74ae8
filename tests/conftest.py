"""Small things that many tests share: a label space, a vocabulary, a model of a few thousand numbers."""

from __future__ import annotations

import os
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub: no test needs a network
os.environ["MDNET_CACHE"] = tempfile.mkdtemp(prefix="mdnet-cache-")  # goes when the tests end

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mdnet.data.phantom import make_phantom
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.readers import read_studies
from mdnet.data.study import Aspect, LabelSpace, StudySet
from mdnet.data.text import ReportTokenizer
from mdnet.inference.decoding import decode_greedily
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model

torch.set_num_threads(1)

SPACE = LabelSpace(
    (
        Aspect("mitosis", ("absent", "rare", "frequent"), ordered=True),
        Aspect("cell.type", ("odd", "plain"), reference="plain"),  # a dot; not the first
        Aspect("findings", ("oedema", "effusion", "nodule"), multi_label=True),
        Aspect("conclusion", ("normal", "low grade", "high grade", "insufficient")),
    ),
    diagnosis="conclusion",
)
SECTIONS = ("mitosis", "remarks", "findings", "conclusion")  # "remarks" is no aspect: the diagnosis guides it
TEXTS = (
    "mitotic figures are frequent .",
    "no mitotic figure is seen , the nuclei are small .",
    "there is oedema and a nodule .",
    "this is a high grade tumor .",
)
SMALL: dict[str, Any] = {
    "image_size": 32,
    "stem_stride": 2,
    "widths": [4, 6, 8],
    "depths": [1, 2, 2],
    "strides": [1, 2, 2],
    "embedding_size": 5,
    "hidden_size": 7,
    "attention_size": 6,
    "dropout": 0.0,
}


def pytest_sessionfinish() -> None:
    shutil.rmtree(os.environ["MDNET_CACHE"], ignore_errors=True)


class Batch(NamedTuple):
    """Arguments of `MDNet.forward`."""

    pixel_values: Tensor
    labels: dict[str, Tensor]
    tokens: Tensor


@pytest.fixture(scope="session")
def space() -> LabelSpace:
    return SPACE


@pytest.fixture(scope="session")
def tokenizer() -> ReportTokenizer:
    return ReportTokenizer.build(TEXTS, SECTIONS)


@pytest.fixture(scope="session")
def build_model(tokenizer: ReportTokenizer) -> Callable[..., MDNet]:
    """Makes a small model whose every number is random, BatchNorm's statistics too; float64 unless asked."""

    def build(
        name: str = "mdnet_tiny", *, seed: int = 0, dtype: torch.dtype = torch.float64, **options: Any
    ) -> MDNet:
        arguments: dict[str, Any] = {"label_space": SPACE, "sections": SECTIONS, "tokenizer": tokenizer}
        arguments |= SMALL if name == "mdnet_tiny" else {}
        arguments |= options
        channels = arguments.get("image_channels", 3)
        size = arguments.get("image_size", 32)
        arguments["preprocessing"] = Preprocessing(
            size, "L" if channels == 1 else "RGB", (0.6,) * channels, (0.2,) * channels
        )
        model = create_model(name, **arguments)
        fill_at_random(model, seed)
        return model.to(dtype).eval()

    return build


@pytest.fixture(scope="session")
def draw_batch(tokenizer: ReportTokenizer) -> Callable[..., Batch]:
    """Makes random images, labels (all there) and target words of unequal lengths."""

    def draw(
        studies: int = 3,
        *,
        size: tuple[int, int] = (32, 32),
        seed: int = 0,
        words: int = 6,
        channels: int = 3,
    ) -> Batch:
        random = torch.Generator().manual_seed(seed)
        images = torch.randn(studies, channels, *size, generator=random, dtype=torch.float64)
        labels = {
            aspect.name: torch.randint(2, (studies, len(aspect.classes)), generator=random)
            if aspect.multi_label
            else torch.randint(len(aspect.classes), (studies,), generator=random)
            for aspect in SPACE.aspects
        }
        first_word = tokenizer.end_id + 1 + len(SECTIONS)
        tokens = torch.randint(first_word, len(tokenizer), (studies, len(SECTIONS), words), generator=random)
        lengths = torch.randint(1, words, (studies, len(SECTIONS)), generator=random)
        position = torch.arange(words)
        tokens[position == lengths[..., None]] = tokenizer.end_id
        tokens[position > lengths[..., None]] = tokenizer.pad_id
        return Batch(images, labels, tokens)

    return draw


@pytest.fixture(scope="session")
def let_sections_end() -> Callable[[MDNet, Tensor], None]:
    """Makes the end token the likeliest at about a fifth of the words that the model writes for images."""

    @torch.no_grad()
    def adjust(model: MDNet, images: Tensor) -> None:
        end = model.config.end_id
        model.report.output.bias[end] = -1000.0
        output = model(images)
        prepared = model.prepare(output.features, model.guides(output.logits))
        written = decode_greedily(model, output.features, prepared, maximum_words=12).tokens
        scores = model(images, None, written).report_logits
        chosen = scores.gather(-1, written[..., None]).squeeze(-1)
        model.report.output.bias[end] += (chosen - scores[..., end]).quantile(0.2)

    return adjust


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 synthetic studies of 64 px, 16 of them for training."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    return make_phantom(folder, 24, seed=7, size=64, splits=(0.64, 0.18, 0.18), workers=1, progress=False)


@pytest.fixture(scope="session")
def phantom_data(phantom_folder: Path) -> StudySet:
    return read_studies(phantom_folder)


def fill_at_random(model: nn.Module, seed: int) -> None:
    """Random weights large enough that every part of the model matters, and BatchNorm statistics."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            lively = isinstance(module, (nn.Embedding, nn.LSTMCell, nn.Linear))  # so that words differ
            for parameter in module.parameters(recurse=False):
                values = torch.randn(parameter.shape, generator=random)
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
                parameter.copy_((3.0 if lively else 1.0) * values / fan_in**0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.add_(1.0)
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=random))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=random))
