"""Images a second into the model, and the memory of a large set's manifest.

    python benchmarks/loading.py

Speed: a batch of normalised float images from the same files, by our loader and by a plain one, as people
write it (`torch.utils.data`, Pillow, torchvision's transforms v2), in one process on one thread. Cold is the
first pass, that fills the cache; warm is the next. The files themselves are in the system's memory for both
sides. Rounds are interleaved, each begins with an empty cache, and medians are compared.

Memory: a fresh process reads the manifest of a set, goes through all studies once, and says what it holds
then and held at most, beside what it held before. A study has three labels and a report of 52 words.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mdnet.torchvision_compat  # noqa: F401

import numpy as np
import torch
from PIL import Image
from recording import record

from mdnet.data.cache import ImageCache
from mdnet.data.loading import StudyDataset, make_loader
from mdnet.data.phantom import make_phantom
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.readers import read_studies
from mdnet.data.shards import write_shards
from mdnet.data.study import LabelSpace, Study

WARM_TARGET, MEMORY_TARGET = 5.0, 1.5
BATCH = 32
SETTLED = 2.5  # seconds after which the cache trusts a file's times
SMALL, LARGE = 1_000, 100_000  # studies
WORDS = "the heart is normal in size lungs are clear no pleural effusion or pneumothorax is seen".split()  # noqa: SIM905
MEMORY = """
import json, sys, time
from mdnet.data.readers import read_studies
def held(name):
    [line] = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) / 1024
before, begun = held("VmRSS"), time.process_time()
found = read_studies(sys.argv[1])
seconds = time.process_time() - begun
images = sum(len(study.images) for study in found.studies)
print(json.dumps({"seconds": seconds, "before": before, "after": held("VmRSS"), "most": held("VmHWM")}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--real", type=Path, default=Path(__file__).parents[2] / "shared/data/medpix2/images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        speed(root, rounds=options.rounds, real=options.real)
        memory(root)


def speed(root: Path, *, rounds: int, real: Path) -> None:
    """Compares the loaders on three kinds of files."""
    make_phantom(root / "phantom", 256, seed=5, size=128, workers=1, progress=False)
    make_jpegs(root / "large", 48, side=1024)
    sets = {
        "synthetic tissue, PNG of 128 px, to 128 px": (sorted((root / "phantom/images").iterdir()), 128),
        "JPEG of 1024 px, to 256 px": (sorted((root / "large").iterdir()), 256),
    }
    if real.is_dir():
        sets["MedPix 2.0, JPEG of all sizes, to 256 px"] = (sorted(real.glob("*.jpg"))[:256], 256)
    time.sleep(SETTLED)
    rows, details = [], {}
    for name, (paths, size) in sets.items():
        rates = interleaved(paths, size, root, rounds)
        medians = {side: statistics.median(values) for side, values in rates.items()}
        rows.append(
            {"files": name, "images": len(paths)}
            | medians
            | {"warm against plain": medians["warm"] / medians["plain"]}
        )
        details[name] = rates
    record(
        "loading",
        rows,
        title="Images a second into the model, one process, one thread",
        reading=f"Batches of {BATCH}, normalised. Plain: torch.utils.data, Pillow, torchvision v2. Asked "
        f"for: warm at least {WARM_TARGET:g} times plain.",
        peers=("pillow",),
        details=details,
    )


def interleaved(paths: list[Path], size: int, root: Path, rounds: int) -> dict[str, list[float]]:
    """Images a second of every side in every round, after one that is not counted."""
    preprocessing = Preprocessing(size, mean=(0.5,) * 3, std=(0.25,) * 3)
    rates: dict[str, list[float]] = {"plain": [], "no cache": [], "cold": [], "warm": []}
    for number in range(rounds + 1):
        os.environ["MDNET_CACHE"] = str(root / f"cache-{size}-{number}-{len(paths)}")
        cache = ImageCache(paths[0].parent, preprocessing, images=len(paths))
        sides = {
            "plain": plain_loader(paths, preprocessing),
            "no cache": our_loader(paths, preprocessing, None),
            "cold": our_loader(paths, preprocessing, cache),
            "warm": our_loader(paths, preprocessing, cache),
        }
        for side, load in sides.items():
            begun = time.perf_counter()
            images = load()
            rate = images / (time.perf_counter() - begun)
            assert images == len(paths)
            if number:
                rates[side].append(rate)
    return rates


def our_loader(
    paths: list[Path], preprocessing: Preprocessing, cache: ImageCache | None
) -> Callable[[], int]:
    studies = [Study(path.stem, (path,)) for path in paths]
    dataset = StudyDataset(
        studies,
        label_space=LabelSpace(),
        sections=(),
        tokenizer=None,
        preprocessing=preprocessing,
        cache=cache,
    )
    loader = make_loader(dataset, batch_size=BATCH)
    return lambda: sum(len(preprocessing.normalise(batch.images)) for batch in loader)


def plain_loader(paths: list[Path], preprocessing: Preprocessing) -> Callable[[], int]:
    from torchvision.transforms import v2

    steps = v2.Compose(
        [
            v2.Resize(preprocessing.shape),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )

    class Files(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            found: torch.Tensor = steps(Image.open(paths[index]).convert("RGB"))
            return found

    loader = torch.utils.data.DataLoader(Files(), batch_size=BATCH)
    return lambda: sum(len(batch) for batch in loader)


def make_jpegs(folder: Path, number: int, *, side: int) -> None:
    """Photograph-like pictures: noise of several scales."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(number):
        pixels = np.zeros((side, side, 3))
        for scale in (4, 16, 64, 256):
            noise = random.integers(0, 64, (scale, scale, 3), dtype=np.uint8)
            pixels += np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.jpg", quality=90)


def memory(root: Path) -> None:
    """Compares the memory of a small and of a large manifest, of both readers that read a study at a time."""
    rows: list[dict[str, Any]] = []
    for layout in ("studies.jsonl", "shards"):
        found = {}
        for studies in (SMALL, LARGE):
            folder = make_manifest(root / f"manifest-{studies}", studies)
            if layout == "shards":
                folder = write_shards(read_studies(folder), root / f"shards-{studies}", shard_size=64 << 20)
            command = [sys.executable, "-c", MEMORY, str(folder)]
            found[studies] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for studies, measured in found.items():
            rows.append(
                {
                    "manifest": layout,
                    "studies": studies,
                    "CPU seconds": measured["seconds"],
                    "MiB before": measured["before"],
                    "MiB after": measured["after"],
                    "MiB at most": measured["most"],
                    "after, of the small set's": measured["after"] / found[SMALL]["after"],
                }
            )
    record(
        "manifest_memory",
        rows,
        title="Resident memory of a process that has read a manifest",
        reading=f"Python with NumPy, without torch. Asked for: {LARGE:,} studies at most {MEMORY_TARGET} of "
        f"{SMALL:,}.",
    )


def make_manifest(folder: Path, studies: int) -> Path:
    """Our own layout with empty files for images."""
    if folder.exists():
        return folder
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    classes = {
        "grade": ["low", "mid", "high"],
        "signs": ["absent", "present"],
        "conclusion": ["normal", "ill"],
    }
    aspects = [{"name": name, "classes": names} for name, names in classes.items()]
    (folder / "dataset.json").write_text(json.dumps({"aspects": aspects, "diagnosis": "conclusion"}))
    with (folder / "studies.jsonl").open("w") as lines:
        for number in range(studies):
            image = f"images/p{number:06d}.png"
            (folder / image).touch()
            text = [WORDS[index] for index in random.integers(len(WORDS), size=52)]
            entry = {
                "id": f"p{number:06d}",
                "images": [image],
                "split": "val" if number % 10 == 8 else "test" if number % 10 == 9 else "train",
                "patient": f"q{number:06d}",
                "labels": {name: names[number % len(names)] for name, names in classes.items()},
                "report": {"findings": " ".join(text[:40]), "impression": " ".join(text[40:])},
            }
            lines.write(json.dumps(entry) + "\n")
    return folder


if __name__ == "__main__":
    main()
