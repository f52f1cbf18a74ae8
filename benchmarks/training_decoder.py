"""Our decoder against that of the show-attend-tell tutorial, forward and backward.

    python benchmarks/training_decoder.py --tutorial DIR

DIR has `models.py` of https://github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning, loaded from there:
it is no part of this project. Both decoders get the same features of the image module, have the same
vocabulary and sizes, drop out as much, learn the same number of words by cross-entropy, and pass the gradient
on to the features. A report is six sections of 16 words, which ours writes side by side and the tutorial's
one after the other as one caption; or it is one text of 96 words for both.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from recording import record
from training_speed import CLOCKS, MODELS, WORDS, Side, draw_batch, interleaved, make_model

from mdnet.data.phantom import SECTIONS
from mdnet.models.objective import language_loss

TARGET = 3.0
REPORTS = {
    f"{len(SECTIONS)} sections of {WORDS} words": (SECTIONS, WORDS),
    f"one of {len(SECTIONS) * WORDS}": (("conclusion",), len(SECTIONS) * WORDS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tutorial", type=Path, required=True, help="folder of the tutorial's models.py")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=5, help="of timing, after one that does not count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--batch-size", type=int, help="of all models, in place of 32 and 4")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tutorial = load(options.tutorial / "models.py")
    rows: list[dict[str, Any]] = []
    details = {}
    for name in options.models:
        for report, (sections, words) in REPORTS.items():
            studies = options.batch_size or MODELS[name]
            both = sides(tutorial, name, sections=sections, words=words, studies=studies)
            seconds = interleaved(both, rounds=options.rounds, clock=CLOCKS[options.clock])
            ours, theirs = (statistics.median(times) for times in seconds.values())
            rows.append(
                {"model": f"`{name}`, batch {studies}", "report": report, "ours, ms": ours * 1e3}
                | {"tutorial's, ms": theirs * 1e3, "times as fast": theirs / ours}
            )
            details[f"{name}, {report}"] = seconds
    record(
        "training_decoder",
        rows,
        title="The decoder's forward and backward pass against the show-attend-tell tutorial's",
        reading=f"{options.threads} threads, {options.clock} time; same features, vocabulary, sizes and "
        f"words. Asked for: at least {TARGET:g} times as fast.",
        details={"seconds": details},
    )


def sides(
    tutorial: ModuleType, name: str, *, sections: tuple[str, ...], words: int, studies: int
) -> dict[str, Side]:
    """Forward and backward pass of both decoders on the same features and words."""
    model = make_model(name, sections=sections).train().to(tutorial.device)
    batch = draw_batch(model, studies, 0, words=words).to(tutorial.device)
    config, tokens = model.config, batch.tokens
    with torch.no_grad():
        features = model.encode(model.preprocessing.normalise(batch.images))
    grid = features.grid.detach().requires_grad_()  # (B, P, D)
    features = replace(features, grid=grid)
    begin = torch.tensor(config.begin_ids, device=tutorial.device)
    inputs = torch.cat([begin[None, :, None].expand(studies, -1, 1), tokens[:, :, :-1]], dim=-1)

    peer = tutorial.DecoderWithAttention(
        attention_dim=config.attention_size,
        embed_dim=config.embedding_size,
        decoder_dim=config.hidden_size,
        vocab_size=config.vocabulary_size,
        encoder_dim=sum(config.widths),
        dropout=config.dropout,
    ).to(tutorial.device)
    caption = torch.cat([begin[:1].expand(studies, 1), tokens.flatten(1)], dim=1)
    lengths = torch.full((studies, 1), caption.shape[1], device=tutorial.device)

    def ours() -> None:
        prepared = model.prepare(features, batch.labels)
        logits, _ = model.report(inputs, grid, prepared)
        language_loss(logits, tokens, config.pad_id)[0].backward()
        model.zero_grad()
        grid.grad = None

    def theirs() -> None:
        scores, sorted_captions, *_ = peer(grid, caption, lengths)
        F.cross_entropy(scores.flatten(0, 1), sorted_captions[:, 1:].flatten()).backward()
        peer.zero_grad()
        grid.grad = None

    return {"ours": ours, "tutorial's": theirs}


def load(file: Path) -> ModuleType:
    """A module from a file outside the project."""
    spec = importlib.util.spec_from_file_location("tutorial_models", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
