"""Retrieval among 100,000 images by one sentence: the exact ranking, and two stages against it.

    python benchmarks/retrieval_scale.py --images 100000 --queries 30

The images are made up: C(I) of 2,000 fresh phantom tiles, mixed in pairs. An image is
`(a A + (1 - a) B) g`, with tiles A and B and a in 0.7..1 drawn at random, and a gain g for each of the D
channels, log g ~ N(0, 0.1). So no two images are equal, the aspects' classes come in the tiles' shares, and
between two classes there is every degree. The queries are sentences of the phantom's writers, drawn at
random; the index knows one sentence of each section, the model's own. The disk needs 64 KB an image.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from recording import record
from threadpoolctl import threadpool_limits

from mdnet.data.phantom import make_phantom
from mdnet.data.readers import read_studies
from mdnet.inference.likelihood import Texts, text_log_likelihoods
from mdnet.inference.predictor import Predictor
from mdnet.inference.retrieval.candidates import PER_ROUND, ROUNDS, CandidateIndex
from mdnet.inference.retrieval.embeddings import ANCHORS
from mdnet.inference.retrieval.exact import score_exactly
from mdnet.inference.retrieval.query import Query, QueryPart
from mdnet.inference.retrieval.store import FeatureStore, card_of, rows_of_features
from mdnet.inference.retrieval.store_files import Kept, StoreFiles
from mdnet.inference.retrieval.two_stage import search
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

TILES, BATCH = 2000, 64
MIX, GAIN = 0.3, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="kept, and used again; else one that is removed")
    options = parser.parse_args()
    threadpool_limits(options.threads)  # of NumPy's BLAS, too: its idle thread spins, and counts as CPU time
    torch.set_num_threads(options.threads)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="retrieval-"))
    try:
        measure(options, folder)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def measure(options: argparse.Namespace, folder: Path) -> None:
    predictor = Predictor.from_pretrained(options.weights, device="cpu")
    model = predictor.model
    if not (folder / "tiles").exists():
        make_phantom(folder / "tiles", studies=TILES, seed=options.seed)
    sentences = sentences_of(folder / "tiles", model)
    if not (folder / "store" / "card.json").exists():
        make_up(folder / "store", predictor, folder / "tiles", images=options.images, seed=options.seed)
    store = FeatureStore.open(folder / "store", model=model)
    memory_before = memory()

    shutil.rmtree(store.rows_folder / "candidates", ignore_errors=True)
    _, index_cpu, _ = timed(lambda: CandidateIndex.of_store(store))

    chosen = np.random.default_rng(options.seed).permutation(len(sentences))[: options.queries]
    queries = [Query((sentences[place],)) for place in chosen]
    by_length = sorted(queries, key=lambda query: len(query.parts[0].text.split()))
    middle = by_length[len(queries) // 2]
    alone, alone_cpu, _ = timed(lambda: score_exactly(model, store, [middle]))
    together, together_cpu, truth = timed(lambda: score_exactly(model, store, queries))  # (queries, N)

    search(model, store, queries[0], two_stage=True)  # opens the index
    seconds, cpu, recalls, firsts = [], [], [], []
    for query, scores in zip(queries, truth, strict=True):
        best = set(np.argsort(-scores, kind="stable")[:10].tolist())
        wall, own, hits = timed(lambda query=query: search(model, store, query, top=10, two_stage=True))
        seconds.append(wall)
        cpu.append(own)
        recalls.append(len(best & {hit.row for hit in hits}) / 10)
        firsts.append(float(int(scores.argmax()) in {hit.row for hit in hits}))
    mean = statistics.mean(seconds)
    rows = [
        {
            "ranking": "exact, one sentence",
            "seconds": alone,
            "CPU seconds": alone_cpu,
            "images/s": len(store) / alone,
            "times faster (CPU)": 1.0,
            "recall@10": 1.0,
        },
        {
            "ranking": f"exact, {len(queries)} sentences in one pass, each",
            "seconds": together / len(queries),
            "CPU seconds": together_cpu / len(queries),
            "images/s": len(store) * len(queries) / together,
            "times faster (CPU)": alone_cpu * len(queries) / together_cpu,
            "recall@10": 1.0,
        },
        {
            "ranking": "two stages, one sentence",
            "seconds": mean,
            "CPU seconds": statistics.mean(cpu),
            "images/s": len(store) / mean,
            "times faster (CPU)": alone_cpu / statistics.mean(cpu),
            "recall@10": statistics.mean(recalls),
        },
    ]
    record(
        "retrieval_scale",
        rows,
        title=f"Ranking {len(store):,} images by one sentence ({options.weights}, {options.threads} thread)",
        reading=(
            "The same likelihoods, of every image or of the candidates alone; recall is the share of the ten "
            f"best images that the two stages find, the mean over {len(queries)} sentences. Asked for: 50 "
            "times faster with a recall of 0.95. The images are made up, see the script's head."
        ),
        details={
            "times_faster_by_the_clock": alone / mean,
            "images_scored_by_two_stages": ANCHORS + ROUNDS * PER_ROUND,
            "recall_by_query": recalls,
            "best_image_found": statistics.mean(firsts),
            "seconds_by_query": seconds,
            "index_cpu_seconds": index_cpu,
            "half_precision_changes_log_p_by": precision_loss(predictor, folder / "tiles", queries),
            "store_bytes": sum(f.stat().st_size for f in (folder / "store").rglob("*") if f.is_file()),
            "memory_mib_before_and_after": [memory_before, memory()],
            "sentences": [query.parts[0].text for query in queries],
        },
    )


def memory() -> float:
    """MiB of this process that are its own; what is mapped of files comes and goes as others need memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def timed(call):
    """Seconds by the clock, seconds of the processor, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def sentences_of(tiles: Path, model: MDNet) -> list[QueryPart]:
    """All sentences of the phantom's writers."""
    found = {
        QueryPart(text, (section,))
        for study in read_studies(tiles).studies
        for section, texts in study.report.items()
        if section in model.config.sections
        for text in texts
    }
    return sorted(found, key=lambda part: (part.sections, part.text))


@torch.inference_mode()
def precision_loss(predictor: Predictor, tiles: Path, queries: list[Query]) -> dict[str, float]:
    """What half precision of C(I) changes in the scores of a batch of tiles."""
    model = predictor.model
    parts = [part for query in queries for part in query.parts]
    ids = [model.tokenizer.encode(part.text) for part in parts]
    texts = Texts.of_words(model, ids, [model.config.sections.index(part.sections[0]) for part in parts])
    features = next(encoded(predictor, tiles))
    guides = model.guides(model.heads(features)[0])
    halved = replace(features, grid=features.grid.half().float())
    change = [text_log_likelihoods(model, each, guides, texts) for each in (features, halved)]
    difference = (change[0] - change[1]).abs()
    return {"mean": float(difference.mean()), "most": float(difference.max())}


def encoded(predictor: Predictor, tiles: Path) -> Iterator[ImageFeatures]:
    """C(I) of the tiles, batch by batch."""
    studies = read_studies(tiles).studies
    for start in range(0, len(studies), BATCH):
        pictures = [predictor.decoded(study) for study in studies[start : start + BATCH]]
        yield predictor.model.encode(predictor.strips(pictures)[0])


@torch.inference_mode()
def make_up(folder: Path, predictor: Predictor, tiles: Path, *, images: int, seed: int) -> None:
    """A store of so many images, as the head of this file says."""
    model = predictor.model
    assert model.heads is not None
    batches = [replace(features, blocks=()) for features in encoded(predictor, tiles)]
    grids = torch.cat([features.grid for features in batches])  # (tiles, P, D)
    random = torch.Generator().manual_seed(seed)
    card = card_of(model, batches[0], name=predictor.name)
    files = StoreFiles.create(folder, card)
    for start in range(0, images, BATCH):
        size = min(BATCH, images - start)
        one, other = (grids[torch.randint(len(grids), (size,), generator=random)] for _ in "AB")
        share = 1 - MIX * torch.rand(size, 1, 1, generator=random)
        gain = (GAIN * torch.randn(size, 1, card.channels, generator=random)).exp()
        features = ImageFeatures((), (share * one + (1 - share) * other) * gain, card.rows, card.columns)
        means = features.pooled().split(list(model.config.block_widths), dim=1)
        logits, _ = model.heads(ImageFeatures.of_blocks([mean[:, :, None, None] for mean in means]))
        kept = [Kept(f"image {start + n}", ((f"image {start + n}", 0, 0),)) for n in range(size)]
        files.append(kept, rows_of_features(features, logits))


if __name__ == "__main__":
    main()
