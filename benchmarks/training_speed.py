"""What training costs beside what it must: the trainer against bare loops.

    python benchmarks/training_speed.py --threads 1 --clock cpu

- Images a second of `Trainer.epoch`, against the same image module with a bare classification loop in plain
  PyTorch: pooled features, a linear layer a label, cross-entropy, AdamW.
- The trainer's own time a step: its epoch less forward, backward, clipping and AdamW of the same joint step
  written out, on the same batches. It goes with the number of layers, not with their size, and so is measured
  where the step itself is short: as many layers of 8 channels, two images of 32 px. Told as a share of a step
  of full size.
- The image module forward and backward, channels last or not, compiled or not.

Batches are ready in memory, as pixels of 8 bits; what loading costs is in `loading`. All sides of a table are
timed in turn, once a round; seconds and ratios are medians over the rounds. On a busy machine, where threads
wait for each other, take `--threads 1 --clock cpu`, which counts the processor's seconds. Peak memory is what
a process of its own takes in a round beyond its weights. On a GPU the same, with `--precision bf16`, and the
share of the peak that the image module's convolutions reach (`--peak` in TFLOP/s, 989 of an H200 in bf16).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mdnet.torchvision_compat  # noqa: F401

import torch
import torch.nn.functional as F
from recording import record
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mdnet.data.loading import StudyBatch, StudyDataset
from mdnet.data.phantom import LABEL_SPACE, SECTIONS, draw_study, write_report
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import Study
from mdnet.data.text import ReportTokenizer
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import create_model, get_architecture
from mdnet.training.configuration import TrainingConfig
from mdnet.training.progress import Progress
from mdnet.training.state import Place
from mdnet.training.trainer import Trainer
from mdnet.training.watching import Watcher

CLASSIFIER_TARGET, OVERHEAD_TARGET = 0.75, 0.03
MODELS = {"mdnet_tiny": 32, "mdnet_base": 4}  # studies a batch
WORDS = 16  # of a section
Side = Callable[[], object]


def synchronised() -> float:
    """Seconds, when what was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


CLOCKS: dict[str, Callable[[], float]] = {"wall": synchronised, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=9, help="of timing, after one that does not count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"))
    parser.add_argument("--batch-size", type=int, help="of all models, in place of 32 and 4")
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of the GPU")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--peak-memory", nargs=2, help=argparse.SUPPRESS)  # of the processes that it starts
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_memory:
        print(json.dumps(peak_memory(*options.peak_memory, options)))
        return
    loops(options)
    layouts(options)


class Loops:
    """One model's trainer on ready batches, and the loops it is compared with."""

    def __init__(
        self,
        name: str,
        options: argparse.Namespace,
        out: Path,
        *,
        batches: int = 1,
        sections: tuple[str, ...] = SECTIONS,
        **network: Any,
    ) -> None:
        self.precision = options.precision
        size = options.batch_size or MODELS[name]
        self.images = size * batches
        torch.manual_seed(0)
        model = make_model(name, sections=sections, **network)
        config = TrainingConfig(
            data=".",
            out=str(out),
            batch_size=size,
            epochs=1000,
            learning_rate=1e-4,
            precision=options.precision,
        )
        studies = [Study(str(number), (out / "none.png",)) for number in range(self.images)]
        dataset = StudyDataset(
            studies,
            label_space=LABEL_SPACE,
            sections=sections,
            tokenizer=model.tokenizer,
            preprocessing=model.preprocessing,
        )
        self.trainer = Trainer(
            model, dataset, config, validate=lambda model: {}, watch=lambda step: Watcher(out, step=step)
        )
        self.device = self.trainer.device
        self.batches = [draw_batch(model, size, seed) for seed in range(batches)]
        self.trainer.loader = self.batches
        self.trainer.run = out
        self.image = make_model(name, **network).image.to(self.device, memory_format=torch.channels_last)
        channels = sum(model.config.widths)
        self.heads = nn.Linear(channels, sum(len(aspect.classes) for aspect in LABEL_SPACE.aspects)).to(
            self.device
        )
        self.optimizer = torch.optim.AdamW([*self.image.parameters(), *self.heads.parameters()], lr=1e-4)

    def sides(self) -> dict[str, Side]:
        return {"trainer": self.epoch, "joint step": self.joint_steps, "classifier": self.classifier_steps}

    def epoch(self) -> None:
        self.trainer.place = Place()
        with self.trainer.watching(), Progress(len(self.batches), enabled=False) as progress:
            self.trainer.epoch(progress)

    def joint_steps(self) -> None:
        model, optimizer = self.trainer.bare.train(), self.trainer.optimizer.optimizer
        for batch in self.batches:
            batch = batch.to(self.device)
            with self.autocast():
                loss = model(self.pixels(batch), batch.labels, batch.tokens, beta=0.3).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()

    def classifier_steps(self) -> None:
        classes = [len(aspect.classes) for aspect in LABEL_SPACE.aspects]
        for batch in self.batches:
            batch = batch.to(self.device)
            with self.autocast():
                blocks = self.image(self.pixels(batch)).blocks
                logits = self.heads(torch.cat([block.mean(dim=(2, 3)) for block in blocks], dim=1))
                parts = zip(logits.split(classes, dim=1), batch.labels.values(), strict=True)
                loss = torch.stack([F.cross_entropy(part, label) for part, label in parts]).sum()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def pixels(self, batch: StudyBatch) -> Tensor:
        pixels = self.trainer.preprocessing.normalise(batch.images)
        return pixels.contiguous(memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.precision != "no")


def make_model(name: str, *, sections: tuple[str, ...] = SECTIONS, **network: Any) -> MDNet:
    """A model of the synthetic tissue's six aspects and its words, with random weights."""
    reports = [write_report(draw_study(0, index)) for index in range(200)]
    texts = [text for report in reports for texts in report.values() for text in texts]
    size = (get_architecture(name).options | network)["image_size"]
    return create_model(
        name,
        label_space=LABEL_SPACE,
        sections=sections,
        tokenizer=ReportTokenizer.build(texts, sections),
        preprocessing=Preprocessing(size, "RGB", (0.7,) * 3, (0.2,) * 3),
        **network,
    )


def draw_batch(model: MDNet, studies: int, seed: int, *, words: int = WORDS) -> StudyBatch:
    """Random pixels, labels and words: what is drawn does not matter to the time."""
    random = torch.Generator().manual_seed(seed)
    size, end = model.config.image_size, model.tokenizer.end_id
    return StudyBatch(
        ids=tuple(map(str, range(studies))),
        images=torch.randint(256, (studies, 3, size, size), dtype=torch.uint8, generator=random),
        labels={
            a.name: torch.randint(len(a.classes), (studies,), generator=random) for a in LABEL_SPACE.aspects
        },
        tokens=torch.randint(
            end + 1,
            model.config.vocabulary_size,
            (studies, len(model.config.sections), words),
            generator=random,
        ),
    )


def loops(options: argparse.Namespace) -> None:
    """The trainer against bare loops."""
    rows: list[dict[str, Any]] = []
    details = {}
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            side = Loops(name, options, Path(folder))
            seconds = interleaved(side.sides(), rounds=options.rounds, clock=CLOCKS[options.clock])
            step = statistics.median(seconds["trainer"]) / len(side.batches)
            own = own_seconds(name, options, Path(folder))
            median = statistics.median(own)
        row = {
            "model": f"`{name}`, batch {side.images // len(side.batches)}",
            "images/s": side.images / len(side.batches) / step,
            "against the bare joint loop": ratio(seconds["joint step"], seconds["trainer"]),
            "against the classifier": ratio(seconds["classifier"], seconds["trainer"]),
            "own ms a step": median * 1e3,
            "of a step": f"{median / step:.1%}",
        }
        row |= {
            f"MiB, {what}": 1024 * measured_memory(name, what, options) for what in ("trainer", "classifier")
        }
        if side.device.type == "cuda":
            row["share of the peak"] = share_of_peak(side, options)
        rows.append(row)
        details[name] = seconds | {"own, a step": own}
    record(
        "training_speed",
        rows,
        title="Training images a second: the trainer against bare loops of plain PyTorch",
        reading=f"{options.threads} threads, {options.clock} time, precision {options.precision}, 6 aspects, "
        f"6 sections of {WORDS} words. The bare joint loop is forward, backward, clipping and AdamW of the "
        "trainer's own step; the classifier is the same image module with a linear layer a label, and reads "
        f"no word. Asked for: at least {CLASSIFIER_TARGET} of the classifier's images, own time at most "
        f"{OVERHEAD_TARGET:.0%} of a step.",
        details={"seconds": details, "options": {k: str(v) for k, v in vars(options).items()}},
    )


def ratio(upper: list[float], lower: list[float]) -> float:
    """Median over the rounds."""
    return statistics.median(one / other for one, other in zip(upper, lower, strict=True))


def own_seconds(name: str, options: argparse.Namespace, out: Path) -> list[float]:
    """What the trainer adds to a step, round by round, measured where the step is short."""
    few = argparse.Namespace(precision=options.precision, batch_size=2)
    narrow = {
        "widths": [8] * len(get_architecture(name).options["widths"]),
        "embedding_size": 8,
        "hidden_size": 8,
    }
    side = Loops(name, few, out, batches=20, image_size=32, **narrow)
    both = {"trainer": side.epoch, "joint step": side.joint_steps}
    seconds = interleaved(both, rounds=2 * options.rounds, clock=CLOCKS[options.clock])
    pairs = zip(seconds["trainer"], seconds["joint step"], strict=True)
    return [(whole - bare) / len(side.batches) for whole, bare in pairs]


def peak_memory(name: str, what: str, options: argparse.Namespace) -> float:
    """GiB at most in a round of one side, less what was held before it; of the GPU, where there is one."""
    with tempfile.TemporaryDirectory() as folder:
        loops = Loops(name, options, Path(folder))
        return gib_beyond(loops.sides()[what], loops.device)


def gib_beyond(action: Side, device: torch.device) -> float:
    """GiB that an action holds at most, beyond what was held before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        action()
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the most so far, to what is held now
    before = resident("VmRSS")
    action()
    return (resident("VmHWM") - before) / 2**20


def resident(which: str) -> int:
    """KiB of this process, as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


def measured_memory(name: str, what: str, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--peak-memory", name, what, "--threads", str(options.threads)]
    command += ["--precision", options.precision]
    if options.batch_size:
        command += ["--batch-size", str(options.batch_size)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(found.splitlines()[-1]))


def share_of_peak(side: Loops, options: argparse.Namespace) -> float:
    """Of what the GPU could compute in the time of the image module's forward and backward pass."""
    pixels = side.pixels(side.batches[0].to(side.device))

    def both_passes() -> None:
        with side.autocast():
            loss = sum(block.float().mean() for block in side.image(pixels).blocks)
        loss.backward()
        side.image.zero_grad()

    with FlopCounterMode(display=False) as counter:
        both_passes()
    times = interleaved({"image": both_passes}, rounds=options.rounds, clock=CLOCKS[options.clock])["image"]
    return counter.get_total_flops() / statistics.median(times) / (options.peak * 1e12)


def layouts(options: argparse.Namespace) -> None:
    """The image module alone: memory format and compilation."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = options.models[0]
    studies = options.batch_size or MODELS[name]
    ways = {
        "contiguous": (torch.contiguous_format, False),
        "channels last": (torch.channels_last, False),
        "channels last, compiled": (torch.channels_last, True),
    }
    sides: dict[str, Side] = {}
    first: dict[str, float] = {}
    for way, (layout, compiled) in ways.items():
        if compiled and options.no_compile:
            continue
        model = make_model(name).to(device)
        image = model.image.to(memory_format=layout).train()
        images = draw_batch(model, studies, 0).images.to(device)
        pixels = model.preprocessing.normalise(images).contiguous(memory_format=layout)
        if compiled:
            image.compile()

        def both_passes(image: nn.Module = image, pixels: Tensor = pixels) -> None:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.precision == "bf16"):
                loss = sum(block.float().mean() for block in image(pixels).blocks)
            loss.backward()
            image.zero_grad()

        begun = time.perf_counter()
        both_passes()
        first[way] = time.perf_counter() - begun
        sides[way] = both_passes
    seconds = interleaved(sides, rounds=options.rounds, clock=CLOCKS[options.clock])
    median = {way: statistics.median(times) for way, times in seconds.items()}
    record(
        "training_layout",
        [
            {"image module": way, "images/s": studies / median[way]}
            | {"against contiguous": median["contiguous"] / median[way], "first pass, s": first[way]}
            for way in sides
        ],
        title=f"Memory format and `torch.compile`: forward and backward pass of the image module of `{name}`",
        reading=f"Batch {studies}, {options.threads} threads, {options.clock} time, precision "
        f"{options.precision}. The trainer takes channels last on a CPU; `compile: true` is a choice, "
        "for its first pass compiles.",
        details={"seconds": seconds},
    )


def interleaved(sides: dict[str, Side], *, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of every side in every round, after one that is not counted; every other round in reverse."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            begun = clock()
            sides[name]()
            if number:
                seconds[name].append(clock() - begun)
    return seconds


if __name__ == "__main__":
    main()
