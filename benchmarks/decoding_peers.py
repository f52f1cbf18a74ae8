"""Reports a second of our decoder and of others, on the same features, with the same vocabulary and length.

    python benchmarks/decoding_peers.py --r2gen DIR --tutorial DIR --clock cpu

The folders are checkouts of https://github.com/zhjohnchan/R2Gen and of
https://github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning; what is not given is left out.
`transformers.generate` is asked for the texts of a GPT-2 decoder with about as many parameters as our report
LSTM. Weights are random, and no text ends before its last word. Features are those that R2Gen reads: 49
positions of the 2048 channels of a ResNet-101, whose own time, measured beside, makes the column from pixels.

The limit of our decoder is the time of its matrix products: those of one call are listed by operands, then
done again alone, in their order.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mdnet.torchvision_compat  # noqa: F401

import torch
from peer_decoders import FORBIDDEN, Decoder, Generated, R2Gen, Tutorial
from recording import record
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet101

from mdnet.inference.decoding import decode
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import get_architecture

SIDE, CHANNELS = 7, 2048  # of the features
WORDS, SECTIONS = 60, 6
TARGETS = "20 times as fast as R2Gen with 3 beams at batch 16, 8 times at batch 1; 5 times the tutorial"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm}
Side = Callable[[int], object]  # of the words of a report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--r2gen", type=Path, help="folder of R2Gen")
    parser.add_argument("--tutorial", type=Path, help="folder of the tutorial")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3], help="1 is greedy decoding")
    parser.add_argument("--vocabulary", type=int, default=760, help="words; R2Gen has 760 for chest X-rays")
    parser.add_argument("--rounds", type=int, default=3, help="of timing, after a few words of each")
    parser.add_argument(
        "--enough", type=float, default=60.0, help="seconds, after which one is timed no more"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    ours: dict[str, Decoder] = {
        "MDNet, sharpened": Own("sharpened", options.vocabulary),
        "MDNet, additive": Own("additive", options.vocabulary),
        f"MDNet, sharpened, {SECTIONS} sections": Own("sharpened", options.vocabulary, sections=SECTIONS),
    }
    decoders = ours | peer_decoders(options)
    first = next(iter(decoders))
    backbone = nn.Sequential(*list(resnet101().children())[:-2]).eval()
    rows: list[dict[str, Any]] = []
    details: dict[str, Any] = {}
    for beams in options.beams:
        for batch in options.batch_sizes:
            features = torch.rand(batch, SIDE**2, CHANNELS)
            sides: dict[str, Side] = {"backbone": partial(_on, backbone, torch.randn(batch, 3, 224, 224))}
            sides |= {name: partial(write, each, features, beams) for name, each in decoders.items()}
            products = {name: products_of(partial(sides[name], WORDS)) for name in ours}
            sides |= {f"{name}, products": partial(_on, multiply, each) for name, each in products.items()}
            seconds = interleaved(sides, options)
            way = "greedy" if beams == 1 else f"{beams} beams"
            details[f"{way}, batch {batch}"] = {
                "seconds": seconds,
                "multiply-adds": {
                    name: sum(each.multiply_adds for each in found) for name, found in products.items()
                },
            }
            median = {name: statistics.median(times) for name, times in seconds.items()}
            rows += [
                {
                    "decoder": name,
                    "parameters, M": sum(each.numel() for each in decoder.network.parameters()) / 1e6,
                    "decoding": way,
                    "batch": batch,
                    "reports/s": batch / median[name],
                    "from pixels": batch / (median[name] + median["backbone"]),
                    "time over the first's": median[name] / median[first],
                    "tokens/s": WORDS * batch / median[name],
                    "of its limit": median[f"{name}, products"] / median[name] if name in ours else None,
                }
                for name, decoder in decoders.items()
            ]
    record(
        "decoding_peers",
        rows,
        title=f"Writing reports of {WORDS} words, one view, {SIDE**2} positions of {CHANNELS} channels, "
        f"{options.vocabulary} words",
        reading="Reports a second on given features; from pixels, with the time of a ResNet-101 at 224 px. "
        f"{options.threads} threads, {options.clock} time. Ours of {SECTIONS} sections writes "
        f"{WORDS // SECTIONS} words in each; the tutorial's takes one image at a time. The limit is the time "
        "of the matrix products alone, at the rate that this machine has at their shapes. Asked for: the "
        f"first at least {TARGETS}.",
        details=details | {"options": {name: str(value) for name, value in vars(options).items()}},
    )


class Own(Decoder):
    """A report LSTM of the sizes of `mdnet_base` on the features; its sections share the words out."""

    def __init__(self, attention: str, vocabulary: int, *, sections: int = 1) -> None:
        sizes = get_architecture("mdnet_base").options
        config = MDNetConfig(
            widths=[CHANNELS],
            depths=[1],
            strides=[1],
            block="bottleneck",  # of an image module that nothing is asked of
            attention=attention,
            **{name: sizes[name] for name in ("embedding_size", "hidden_size", "attention_size")},
            label_space={"aspects": [{"name": "finding", "classes": ["no", "yes"]}], "diagnosis": "finding"},
            sections=[f"section {number}" for number in range(sections)],
            vocabulary_size=vocabulary,
            begin_ids=list(range(3, 3 + sections)),
        )
        self.model = MDNet(config).eval()
        assert self.model.report is not None
        self.network = self.model.report
        nn.init.constant_(self.model.report.output.bias[config.end_id], FORBIDDEN)

    def write(self, features: Tensor, beams: int, words: int) -> Tensor:
        block = features.transpose(1, 2).unflatten(2, (SIDE, SIDE))
        seen = ImageFeatures((block,), features, SIDE, SIDE)
        config = DecodingConfig() if beams == 1 else DecodingConfig(method="beam", beams=beams)
        limit = words // len(self.model.config.sections)
        texts = decode(self.model, seen, self.model.prepare(seen, {}), config, maximum_words=limit)
        return texts.tokens.flatten(1)


def peer_decoders(options: argparse.Namespace) -> dict[str, Decoder]:
    """Those that there are, of the sizes of ours where they can be chosen."""
    peers: dict[str, Decoder] = {"transformers.generate": Generated(options.vocabulary, CHANNELS)}
    if options.r2gen is None:
        print("R2Gen is left out: give its folder by --r2gen")
    else:
        peers["R2Gen"] = R2Gen(options.r2gen, options.vocabulary, CHANNELS)
    if options.tutorial is None:
        print("the tutorial is left out: give its folder by --tutorial")
    else:
        sizes = get_architecture("mdnet_base").options
        peers["show-attend-tell tutorial"] = Tutorial(
            options.tutorial,
            options.vocabulary,
            CHANNELS,
            embedding=sizes["embedding_size"],
            hidden=sizes["hidden_size"],
            attention=sizes["attention_size"],
        )
    return peers


def write(decoder: Decoder, features: Tensor, beams: int, words: int) -> None:
    """All that a decoder does behind the image module; no text is shorter than it should be."""
    texts = decoder.write(features, beams, words)
    assert texts.shape == (len(features), words), (type(decoder).__name__, texts.shape)


class Product(NamedTuple):
    """A matrix product and its operands, random ones."""

    function: Callable[..., Tensor]
    operands: tuple[Tensor, ...]

    @property
    def multiply_adds(self) -> int:
        return self.operands[-2].numel() * self.operands[-1].shape[-1]


class ProductList(TorchDispatchMode):
    """Lists the matrix products that are done inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []
        self._memory: dict[Any, Tensor] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function.overloadpacket in PRODUCTS:
            operands = tuple(self._alike(place, operand) for place, operand in enumerate(args))
            self.products.append(Product(function, operands))
        else:
            with self:
                inner = function.decompose(*args, **kwargs)
            if inner is not NotImplemented:
                return inner
        return function(*args, **kwargs)

    def _alike(self, place: int, operand: Tensor) -> Tensor:
        """Random numbers laid out like an operand, the same ones for all that are laid out so."""
        key = (place, operand.shape, operand.stride())
        if key not in self._memory:
            size = 1 + sum((length - 1) * step for length, step in zip(*key[1:], strict=True))
            self._memory[key] = torch.rand(size).as_strided(operand.shape, operand.stride())
        return self._memory[key]


def products_of(call: Callable[[], object]) -> list[Product]:
    """The matrix products of a call, in their order."""
    with torch.inference_mode(), ProductList() as listed:
        call()
    return listed.products


def multiply(products: list[Product]) -> None:
    for function, operands in products:
        function(*operands)


def _on(function: Callable[[Any], object], argument: Any, words: int) -> None:
    """A side that is the same for any number of words."""
    del words
    function(argument)


@torch.inference_mode()
def interleaved(sides: Mapping[str, Side], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every side in every round, after a few words of each that do not count."""
    clock = CLOCKS[options.clock]
    for side in sides.values():
        side(SECTIONS)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, side in sides.items():
            if sum(seconds[name]) < options.enough:
                begun = clock()
                side(WORDS)
                seconds[name].append(clock() - begun)
    return seconds


if __name__ == "__main__":
    main()
