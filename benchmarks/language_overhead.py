"""What the language costs: a joint training step against the image module's own forward and backward.

    python benchmarks/language_overhead.py --threads 2 --rounds 3

A step is the trainer's: forward, backward, clipping, AdamW. It has six aspects and six sections of
16 words (the synthetic tissue's), random pixels and random words; what is drawn does not matter to
the time. Both sides are timed in turn and the medians are compared. On a busy machine threads wait for
each other, the short steps of the LSTM more than long convolutions: there, take `--threads 1 --clock
cpu`, which counts the processor's seconds. Prints JSON, then a Markdown line; the target is a ratio of
at most 1.35.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from recording import record
from torch import nn

from mdnet.data.phantom import LABEL_SPACE, SECTIONS, draw_study, write_report
from mdnet.data.text import ReportTokenizer
from mdnet.models.registry import create_model, list_models
from mdnet.training.configuration import TrainingConfig
from mdnet.training.optimisation import build_optimizer

TARGET = 1.35
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WORDS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mdnet_base", choices=list_models())
    parser.add_argument("--attention", default="sharpened")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="of timing, after one that does not count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    reports = [write_report(draw_study(0, index)) for index in range(200)]
    texts = [text for report in reports for texts in report.values() for text in texts]
    tokenizer = ReportTokenizer.build(texts, SECTIONS)
    model = create_model(
        options.model,
        label_space=LABEL_SPACE,
        sections=SECTIONS,
        tokenizer=tokenizer,
        attention=options.attention,
    )
    nn.Module.to(model, memory_format=torch.channels_last)  # as the trainer does on a CPU
    model.train()
    optimizer = build_optimizer(model, TrainingConfig(data="", out="", learning_rate=1e-4))

    size, studies = model.config.image_size, options.batch_size
    images = torch.randn(studies, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = {a.name: torch.randint(len(a.classes), (studies,)) for a in LABEL_SPACE.aspects}
    tokens = torch.randint(tokenizer.end_id + 1, len(tokenizer), (studies, len(SECTIONS), WORDS))

    def image_module() -> None:
        features = model.encode(images)
        (features.grid.mean() + sum(block.mean() for block in features.blocks)).backward()
        model.zero_grad()

    def joint_gradient() -> None:
        model(images, labels, tokens).loss.backward()
        model.zero_grad()

    def joint_step() -> None:
        model(images, labels, tokens).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    sides = {"image_module": image_module, "joint_gradient": joint_gradient, "joint_step": joint_step}
    seconds = interleaved(sides, rounds=options.rounds, clock=CLOCKS[options.clock])
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        {"what": name.replace("_", " "), "seconds": median, "against the image module": median / least}
        for least in [medians["image_module"]]
        for name, median in medians.items()
    ]
    record(
        "language_overhead",
        rows,
        title=f"The joint training step against the image module alone: `{options.model}`, {size} px, "
        f"batch {studies}, {len(SECTIONS)} sections of {WORDS} words",
        reading=f"Forward and backward pass, {options.threads} threads, {options.clock} time. Asked for: at "
        f"most {TARGET}, with the optimizer's step.",
        details={"seconds": seconds, "options": vars(options)},
    )


def interleaved(
    sides: dict[str, Callable[[], None]], *, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every side in every round, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            begun = clock()
            side()
            if number:
                seconds[name].append(clock() - begun)
    return seconds


if __name__ == "__main__":
    main()
