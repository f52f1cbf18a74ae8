"""Reports a second, greedy and with beams, beside the arithmetic that a step cannot do without.

    python benchmarks/decoding_speed.py --models mdnet_tiny mdnet_base --rounds 5

Random weights, C(I) given, one section of forced length (the end token is never likely). Sides take turns,
and medians are compared. `step share` is the time of the same steps of the language module alone
(`report.step` and the logits, no word chosen) over that of decoding; `matmul share` that of their matrix
products alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from language_overhead import interleaved
from recording import record

from mdnet.inference.decoding import decode
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.models.configuration import MDNetConfig
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet
from mdnet.models.registry import get_architecture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mdnet_tiny", "mdnet_base"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3], help="1 is greedy decoding")
    parser.add_argument(
        "--vocabulary", type=int, default=760, help="words; 760 as R2Gen has for chest X-rays"
    )
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5, help="of timing, after one that does not count")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    rows, details = [], {}
    for name in options.models:
        model = random_model(name, options.vocabulary)
        for batch in options.batch_sizes:
            sides: dict[str, Callable[[], object]] = {}
            for beams in options.beams:
                way = "greedy" if beams == 1 else f"beam {beams}"
                config = DecodingConfig() if beams == 1 else DecodingConfig(method="beam", beams=beams)
                features = random_features(model, batch)
                prepared = model.prepare(features, {})
                sides[way] = partial(decode, model, features, prepared, config, maximum_words=options.words)
                sides[f"{way}, steps"] = partial(steps, model, features, beams, words=options.words)
                sides[f"{way}, matmuls"] = partial(matmuls, model, features, beams, words=options.words)
            seconds = interleaved(sides, rounds=options.rounds, clock=time.perf_counter)
            details[f"{name}, batch {batch}"] = seconds
            median = {side: statistics.median(times) for side, times in seconds.items()}
            rows += [
                {
                    "model": name,
                    "batch": batch,
                    "decoding": way,
                    "reports/s": batch / median[way],
                    "step share": median[f"{way}, steps"] / median[way],
                    "matmul share": median[f"{way}, matmuls"] / median[way],
                }
                for way in median
                if f"{way}, steps" in median
            ]
    record(
        "decoding_speed",
        rows,
        title=f"Decoding {options.words} words of {options.vocabulary}, {options.threads} threads",
        reading="Reports a second, C(I) given: more is better. Shares are of the time of decoding: the "
        "nearer to 1, the less the choice of words costs.",
        details={"seconds": details},
    )


def random_model(name: str, vocabulary: int) -> MDNet:
    """A model of one section, whose end token is never likely."""
    torch.manual_seed(0)
    space = {"aspects": [{"name": "conclusion", "classes": ["normal", "other"]}], "diagnosis": "conclusion"}
    config = MDNetConfig(
        **get_architecture(name),
        label_space=space,
        sections=["conclusion"],
        vocabulary_size=vocabulary,
        begin_ids=[3],
    )
    model = MDNet(config).eval()
    assert model.report is not None
    with torch.no_grad():
        model.report.output.bias[config.end_id] = -1e4
    return model


def random_features(model: MDNet, studies: int) -> ImageFeatures:
    size = model.config.image_size
    with torch.inference_mode():
        return model.encode(torch.randn(studies, model.config.image_channels, size, size))


@torch.inference_mode()
def steps(model: MDNet, features: ImageFeatures, beams: int, *, words: int) -> None:
    """The language module's steps and logits for all beams; the word read is always the same."""
    report = model.report
    assert report is not None
    studies = len(features.grid)
    prepared = model.prepare(features, {}).of_sections(torch.zeros(studies, beams, dtype=torch.long))
    state, word = report.initial_state(studies, beams), torch.full((studies, beams), 3)
    for _ in range(words):
        state, _ = report.step(report.embedding(word), state, features.grid, prepared)
        report.output(state.hidden).log_softmax(dim=-1)


@torch.inference_mode()
def matmuls(model: MDNet, features: ImageFeatures, beams: int, *, words: int) -> None:
    """The matrix products of those steps: gates, the attended feature, logits."""
    report = model.report
    assert report is not None
    lstm, output = report.lstm, report.output
    studies, positions, _ = features.grid.shape
    attention = torch.rand(studies, beams, positions)
    inputs = torch.rand(studies * beams, lstm.input_size)
    hidden = torch.rand(studies * beams, lstm.hidden_size)
    for _ in range(words):
        torch.bmm(attention, features.grid)
        torch.mm(inputs, lstm.weight_ih.t())
        torch.mm(hidden, lstm.weight_hh.t())
        torch.mm(hidden, output.weight.t())


if __name__ == "__main__":
    main()
