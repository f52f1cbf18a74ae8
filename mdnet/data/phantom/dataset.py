"""Writes a synthetic tissue data set in the project's own layout (docs/data.md).

Every study depends on the seed and its own number only: neither the number of worker
processes nor that of studies changes it.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

import mdnet
from mdnet.data.phantom.rendering import MINIMUM_SIZE, STRUCTURES, render
from mdnet.data.phantom.specification import LABEL_SPACE, SECTIONS, draw_study
from mdnet.data.phantom.writers import write_report
from mdnet.data.study import SPLITS
from mdnet.errors import ConfigurationError
from mdnet.files import writing_folder

__all__ = ["assign_split", "make_phantom"]

logger = logging.getLogger(__name__)

_CHUNK = 32  # studies that a worker makes at a time
_GOLDEN_RATIO = 0.6180339887498949


def assign_split(index: int, shares: Sequence[float] = (0.8, 0.1, 0.1)) -> str:
    """Split of study `index`, whatever the number of studies.

    Studies go round a circle in golden-ratio steps, so every run of them has the shares nearly
    exactly. Labels are drawn independently of the index, so the splits are alike.
    """
    position = (index * _GOLDEN_RATIO) % 1.0
    if position < shares[0]:
        return SPLITS[0]
    return SPLITS[1] if position < shares[0] + shares[1] else SPLITS[2]


def make_phantom(
    out: Path,
    studies: int,
    *,
    seed: int,
    size: int = 128,
    splits: tuple[float, float, float] = (0.8, 0.1, 0.1),
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Writes `studies` synthetic studies into the folder `out`.

    Every study has an image, five reference texts a section, and masks, written where they are not
    empty: `mitosis` (a disc around each figure), `nucleoli` (nuclei that have one), `nuclei`, and
    `tissue`; an insufficient tile has only `tissue`.

    As with every process pool, a script calls this below `if __name__ == "__main__":`.

    Args:
        out: A folder that is empty or does not exist.
        studies: How many.
        seed: Two data sets of different seeds share no study.
        size: Pixels a side.
        splits: Shares of train, val and test.
        workers: Processes; one a CPU unless named.
        progress: Show a bar where stderr is a terminal.

    Returns:
        `out`.
    """
    out = Path(out)
    _check(studies, seed, size, splits, workers)
    record = LABEL_SPACE.to_dict() | {
        "sections": list(SECTIONS),
        "provenance": f"synthetic bladder tissue, mdnet {mdnet.__version__}, seed {seed}, size {size}",
    }
    chunks = [range(start, min(start + _CHUNK, studies)) for start in range(0, studies, _CHUNK)]
    with (
        writing_folder(out) as unfinished,
        (unfinished / "studies.jsonl").open("w", encoding="utf-8") as lines,
        _bar(studies, progress) as bar,
    ):
        for folder in ("images", *(f"masks/{name}" for name in STRUCTURES)):
            (unfinished / folder).mkdir(parents=True)
        (unfinished / "dataset.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        make = partial(_write_studies, out=unfinished, seed=seed, size=size, splits=splits)
        for chunk in _in_parallel(make, chunks, workers or os.cpu_count() or 1):
            lines.writelines(f"{line}\n" for line in chunk)
            bar.update(len(chunk))
    logger.info("%s: %d studies", out, studies)
    return out


def _check(studies: int, seed: int, size: int, splits: Sequence[float], workers: int | None) -> None:
    if studies < 1:
        raise ConfigurationError(f"studies {studies}: make at least 1")
    if seed < 0:
        raise ConfigurationError(f"seed {seed}: use 0 or more")
    if size < MINIMUM_SIZE:
        raise ConfigurationError(f"size {size}: a tile has at least {MINIMUM_SIZE} pixels a side")
    if len(splits) != len(SPLITS) or min(splits) < 0 or abs(sum(splits) - 1.0) > 1e-6:
        raise ConfigurationError(
            f"splits {tuple(splits)}: give the shares of {', '.join(SPLITS)}; they sum to 1"
        )
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers {workers}: use at least 1")


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="tiles", unit="tile", disable=None if progress else True)


def _in_parallel(make: Any, chunks: Sequence[range], workers: int) -> Iterator[list[str]]:
    """Results in the order of `chunks`."""
    workers = min(workers, len(chunks))
    if workers == 1:
        yield from map(make, chunks)
        return
    # Not fork: a caller that trains has threads, and a forked child could inherit a held lock.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(make, chunks)


def _write_studies(indices: range, *, out: Path, seed: int, size: int, splits: Sequence[float]) -> list[str]:
    """Writes the files of some studies; returns their lines of `studies.jsonl`."""
    lines = []
    for index in indices:
        spec = draw_study(seed, index)
        tile = render(spec, size)
        image = f"images/{spec.id}.png"
        # Noise hardly compresses: Huffman coding alone is quickest and as small.
        Image.fromarray(tile.image).save(out / image, compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY)
        masks = {}
        for name, mask in tile.masks.items():
            if mask.any():
                masks[name] = f"masks/{name}/{spec.id}.png"
                Image.fromarray(mask).save(out / masks[name], compress_level=1)
        study = {
            "id": spec.id,
            "images": [image],
            "split": assign_split(index, splits),
            "patient": spec.id,
            "labels": dict(spec.labels),
            "report": write_report(spec),
            "masks": masks,
        }
        lines.append(json.dumps(study))
    return lines
