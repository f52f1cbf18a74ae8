"""`mdnet generate` over many images: does memory grow with them, and what does listing them take?

    python benchmarks/generate_scale.py

Every run is a process of its own over small images (32 px, a few hundred files under many names), with the
shipped weights, in one thread, into JSON lines; its memory is what the system says it held at most. The time
of a run over one batch is taken off the others', so that images a second are those of a long run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from recording import record

from mdnet.data.phantom import make_phantom
from mdnet.data.shards import write_shards
from mdnet.data.study import LabelSpace, Study, StudySet

MEMORY_TARGET = 1.1
DISTINCT, BATCH = 256, 32
SMALL, LARGE, LISTED = 2_000, 10_000, 100_000  # images
LISTING = """
import json, sys, time
from mdnet.inference.bulk.inputs import list_inputs
def held(name):
    [line] = [line for line in open("/proc/self/status") if line.startswith(name)]
    return int(line.split()[1]) / 1024
before, begun = held("VmRSS"), time.process_time()
inputs = list_inputs(sys.argv[1:])
seconds = time.process_time() - begun
print(json.dumps([len(inputs.studies), seconds, before, held("VmRSS"), held("VmHWM")]))
"""


@dataclass(frozen=True)
class Measured:
    """A run: seconds of the clock and of the processor, and MiB held at most."""

    wall: float
    cpu: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs=2, default=(SMALL, LARGE), metavar=("SMALL", "LARGE"))
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        phantom = make_phantom(root / "phantom", DISTINCT, seed=5, size=32, workers=1, progress=False)
        files = sorted((phantom / "images").iterdir())
        runs(root, files, sorted(options.images), options.weights)
        listing(root, files)


def runs(root: Path, files: list[Path], sizes: list[int], weights: str) -> None:
    """Peak memory and speed at two sizes, from a folder and from shards."""
    start = generate(make_folder(root / "start", files, BATCH), root / "start.jsonl", weights)
    rows, details = [], {"start": vars(start)}
    for kind in ("folder of PNG", "tar shards"):
        small = None
        for size in sizes:
            folder = make_folder(root / f"images-{size}", files, size)
            named = folder if kind.startswith("folder") else make_shards(root / f"shards-{size}", folder)
            out = root / f"{kind.partition(' ')[0]}-{size}.jsonl"
            found = generate(named, out, weights)
            with out.open() as lines:
                assert sum(1 for _ in lines) == size
            small = small or found
            rows.append(
                {
                    "inputs": kind,
                    "images": size,
                    "images a CPU second": (size - BATCH) / (found.cpu - start.cpu),
                    "MiB at most": found.peak,
                    "of the small run's": found.peak / small.peak,
                }
            )
            details[f"{kind}, {size}"] = vars(found)
    record(
        "generate_scale",
        rows,
        title="Reports of many images: memory and speed",
        reading=f"One process, one thread, {weights}, greedy, batches of {BATCH}. Asked for: memory at most "
        f"{MEMORY_TARGET} of the small run's. Images a CPU second leave out what other processes took; the "
        "details have the seconds of the clock.",
        details=details,
    )


def generate(named: Path, out: Path, weights: str) -> Measured:
    words = [str(named), "--weights", weights, "--format", "jsonl", "--device", "cpu", "--out", str(out)]
    command = [sys.executable, "-m", "mdnet.cli.main", "-q", "generate", *words, "--batch-size", str(BATCH)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    assert status == 0, f"{command} ended with status {status}"
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def listing(root: Path, files: list[Path]) -> None:
    """Time and memory of a long list, by every kind of input."""
    folder = make_folder(root / f"images-{LISTED}", files, LISTED)
    names = sorted(path.name for path in folder.iterdir())
    manifest, table, lines = (folder / f".{name}" for name in ("list.txt", "list.csv", "list.jsonl"))
    manifest.write_text("".join(f"{name}\n" for name in names))
    table.write_text("id,image\n" + "".join(f"{number},{name}\n" for number, name in enumerate(names)))
    lines.write_text("".join(json.dumps({"id": name, "image": name}) + "\n" for name in names))
    named = {"folder": folder, "glob": folder / "*.png", ".txt": manifest, ".csv": table, ".jsonl": lines}
    rows = []
    for kind, path in named.items():
        command = [sys.executable, "-c", LISTING, str(path)]
        output = subprocess.run(command, check=True, capture_output=True).stdout
        count, seconds, before, after, most = json.loads(output)
        assert count == LISTED
        rows.append(
            {
                "named by": kind,
                "images": count,
                "CPU seconds": seconds,
                "MiB before": before,
                "MiB after": after,
                "MiB at most": most,
            }
        )
    record(
        "generate_listing",
        rows,
        title="Listing the images of a long run",
        reading="Before the model is loaded; what is held after it stays for the run. A .csv is read as the "
        "table of a data set, which looks whether every image is there.",
    )


def make_folder(folder: Path, files: list[Path], count: int) -> Path:
    """Names for the files: links, which take no room."""
    if not folder.exists():
        folder.mkdir()
        for number in range(count):
            os.link(files[number % len(files)], folder / f"{number:06d}.png")
    return folder


def make_shards(folder: Path, images: Path) -> Path:
    studies = [Study(path.stem, (path,)) for path in sorted(images.iterdir())]
    return write_shards(StudySet(images, "studies", studies, LabelSpace(), ()), folder, shard_size=1 << 20)


if __name__ == "__main__":
    main()
