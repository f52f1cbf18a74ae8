"""Numbers for every image of a store, of which a query's scores are nearly a linear function.

    candidates/card.json   how they are made, and of how many rows of the store
    candidates/0.float16   what the report module says of every image in the first section, (N, words)

What is said is in `mdnet.inference.retrieval.probes`; it is standardised over the anchors, images drawn at
random, and in half precision. The files stand in the folder of the store's rows, which are only ever
appended to, and are continued where those have grown. What is mapped into memory is never written to: files
that are of no more use are removed, and new ones take their names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from mdnet.files import write_text
from mdnet.inference.retrieval.probes import Probes, choose_sentences, choose_words
from mdnet.inference.retrieval.store import FeatureStore, Rows, weights_hash
from mdnet.inference.retrieval.store_files import StoreFiles

__all__ = ["Embeddings"]

ANCHORS = 256
_CARD = "card.json"
_LEAST_SPREAD = 1e-2
_BOUND = torch.finfo(torch.float16).max
_BATCHES = 64  # between two writes
_BAR_AFTER = 2.0  # seconds


class Embeddings:
    """The embeddings of a store's images.

    Attributes:
        sections: Section by section (N, E_s) float16.
        anchors: Rows of the images drawn at random, in order.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        if card["drawn_from"] <= rows:
            self.anchors: npt.NDArray[np.int64] = np.array(card["anchors"], np.int64)
        else:  # by a process that knew of more rows
            self.anchors = _draw_anchors(rows)
        self.sections = [
            torch.from_numpy(np.memmap(folder / name, "<f2", mode="c", shape=(rows, len(mean))))
            for name, mean in zip(_names(card), card["mean"], strict=True)
        ]

    @classmethod
    def of_store(cls, store: FeatureStore) -> Embeddings:
        """The embeddings of a store, made where they are missing, which takes a pass over all images."""
        folder = store.rows_folder / "candidates"
        if not _is_whole(folder, store):
            with StoreFiles.writing(store.folder):
                _complete(folder, store)
        return cls(folder, len(store))


def _is_whole(folder: Path, store: FeatureStore) -> bool:
    card = _read(folder)
    # Another process may have appended to the rows since the store was opened, and embedded those too.
    return card is not None and card["report"] == _report_hash(store) and card["rows"] >= len(store)


@torch.inference_mode()
def _complete(folder: Path, store: FeatureStore) -> None:
    """Makes the embeddings of the rows that have none; a killed process leaves whole rows behind."""
    if _is_whole(folder, store):  # by now
        return
    card = _read(folder)
    if card is None or card["report"] != _report_hash(store) or len(store) > 2 * card["drawn_from"]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        card = _new_card(store)
    probes = Probes(store.model, card["sentences"])
    means = [torch.tensor(mean, device=store.model.device) for mean in card["mean"]]
    scales = [torch.tensor(scale, device=store.model.device) for scale in card["scale"]]
    words = [torch.tensor(places, device=store.model.device) for places in card["words"]]
    files = [folder / name for name in _names(card)]
    for file, mean in zip(files, means, strict=True):
        file.touch()
        os.truncate(file, 2 * len(mean) * card["rows"])
    step = probes.images_at_once(store)
    with tqdm(total=len(store), initial=card["rows"], unit="image", delay=_BAR_AFTER, disable=None) as bar:
        for block in _slices(card["rows"], len(store), _BATCHES * step):
            batches = [
                _embedded(store, rows, probes, words) for rows in _slices(block.start, block.stop, step)
            ]
            for file, part, mean, scale in zip(
                files, map(torch.cat, zip(*batches, strict=True)), means, scales, strict=True
            ):
                # An image unlike all anchors may be beyond half precision; infinity would spoil every fit.
                numbers = ((part - mean) / scale).clamp(-_BOUND, _BOUND).half()
                with file.open("ab") as stream:
                    stream.write(numbers.cpu().numpy().data)
            card["rows"] = block.stop
            write_text(folder / _CARD, json.dumps(card))
            bar.update(block.stop - block.start)


def _new_card(store: FeatureStore) -> dict[str, Any]:
    """Draws the anchors, and chooses on them what to keep."""
    anchors = _draw_anchors(len(store))
    sentences = choose_sentences(store.model, store, anchors)
    probes = Probes(store.model, sentences)
    step = probes.images_at_once(store)
    batches = [anchors[rows] for rows in _slices(0, len(anchors), step)]
    said = zip(*(probes.said(store, rows) for rows in batches), strict=True)
    words = choose_words([torch.cat(each) for each in said])
    embedded = zip(*(_embedded(store, rows, probes, words) for rows in batches), strict=True)
    kept = [torch.cat(each) for each in embedded]
    return {
        "report": _report_hash(store),
        "rows": 0,
        "drawn_from": len(store),
        "anchors": anchors.tolist(),
        "sentences": sentences,
        "words": [places.tolist() for places in words],
        "mean": [each.mean(dim=0).tolist() for each in kept],
        "scale": [each.std(dim=0, correction=0).clamp(min=_LEAST_SPREAD).tolist() for each in kept],
    }


def _embedded(store: FeatureStore, rows: Rows, probes: Probes, words: list[Tensor]) -> list[Tensor]:
    """What is said of some images, not yet standardised."""
    return [said[:, places] for said, places in zip(probes.said(store, rows), words, strict=True)]


def _draw_anchors(rows: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).choice(rows, min(ANCHORS, rows), replace=False))


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return card


def _names(card: dict[str, Any]) -> list[str]:
    return [f"{section}.float16" for section in range(len(card["words"]))]


def _report_hash(store: FeatureStore) -> str:
    return weights_hash(store.model, "report.")


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    return (slice(each, min(each + size, stop)) for each in range(start, stop, size))
