"""Small data sets on disk for tests of readers, check and statistics."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

DATASET = {
    "aspects": [
        {
            "name": "mitosis",
            "classes": ["absent", "rare", "frequent"],
            "reference": "absent",
            "ordered": True,
        },
        {"name": "findings", "classes": ["blur", "fold"], "multi_label": True},
        {"name": "conclusion", "classes": ["normal", "low grade", "high grade"]},
    ],
    "diagnosis": "conclusion",
    "sections": ["mitosis", "conclusion"],
    "provenance": "made by a test",
}


def write_image(path: Path, *, seed: int = 0, size: tuple[int, int] = (8, 10)) -> Path:
    """A random RGB image of (rows, columns)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def study_entry(number: int, **changes: Any) -> dict[str, Any]:
    """A line of studies.jsonl without fault, changed as named; a change to None takes the key out."""
    entry = {
        "id": f"s{number}",
        "images": [f"images/s{number}.png"],
        "split": ["train", "train", "val", "test"][number % 4],
        "patient": f"p{number}",
        "labels": {
            "mitosis": ["absent", "rare"][number % 2] if number % 4 < 2 else "rare",
            "findings": ["blur"],
            "conclusion": "normal",
        },
        "report": {"mitosis": [f"Mitosis number {number}.", "Second writer."], "conclusion": "Normal."},
    } | changes
    return {key: value for key, value in entry.items() if value is not None}


def write_folder(root: Path, entries: list[Any], *, dataset: Any = DATASET, images: bool = True) -> Path:
    """Our own layout; an entry that is a string is written as the line that it is."""
    for number, entry in enumerate(entries):
        if images and isinstance(entry, dict):
            names = entry.get("images")
            for name in names if isinstance(names, list) else []:
                if isinstance(name, str) and not (root / name).exists():
                    write_image(root / name, seed=number)
    root.mkdir(parents=True, exist_ok=True)
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    (root / "studies.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if dataset is not None:
        (root / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    return root


def real_data(name: str) -> Path:
    """Folder of a real data set; skips the test where it is absent."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("MDNET_REAL_DATA", default)) / name
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
