"""Where evidence and attention fall on real fundus photographs: the optic disc, what is around it, the rim.

    train.py --data ../shared/data/csdi_cataract --model mdnet_tiny --epochs 40 --augmentation shift \\
        --batch-size 16 --seed 1 --out runs/csdi
    benchmarks/fundus_disc.py --run runs/csdi

A region's share of a map's absolute values stands beside its share of the area: what a map that looks at
nothing would give. The regions are the annotated box of the disc; a box of twice its sides without it; and
the photograph's rim, all that lies beyond nine tenths of the inscribed circle's radius. Pictures go to
RUN/disc, beside the run and never into the repository: the photographs are not ours.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from mdnet.explain.explanation import Explanation
from mdnet.explain.registry import explain
from mdnet.inference.predictor import Predictor
from mdnet.metrics.grounding import pointing_hit
from mdnet.report.explanation_picture import save_picture

SIDE = 512  # pixels at which regions are drawn; boxes are given in 0..1
RIM = 0.9


def regions(box: list[float]) -> dict[str, np.ndarray]:
    """Masks (SIDE, SIDE) of a disc's box (x1, y1, x2, y2) in 0..1, of its surroundings and of the rim."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    left, top, right, bottom = box
    middle, half = ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)
    disc = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    wide = (abs(x - middle[0]) <= half[0]) & (abs(y - middle[1]) <= half[1])
    rim = (2 * x - 1) ** 2 + (2 * y - 1) ** 2 > RIM**2
    return {"disc": disc, "around the disc": wide & ~disc, "rim": rim}


def share(heat: np.ndarray, mask: np.ndarray) -> float:
    """Share of the map's absolute values inside the mask."""
    cells = np.abs(heat) / np.abs(heat).sum()
    rows = np.arange(SIDE) * heat.shape[0] // SIDE
    columns = np.arange(SIDE) * heat.shape[1] // SIDE
    counts = np.zeros(heat.shape)
    np.add.at(counts, (rows[:, None], columns[None, :]), mask)
    pixels = SIDE * SIDE / heat.size
    return float((cells * counts / pixels).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/csdi_cataract"))
    parser.add_argument("--pictures", type=int, default=6)
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.run)
    annotation = json.loads((options.data / "annotation.json").read_text(encoding="utf-8"))

    print(f"{'split':6} {'map':10} {'region':16} {'share':>6} {'area':>6} {'peak in it':>10}  photographs")
    for split in ("train", "val"):
        entries = [entry for entry in annotation[split] if entry["optic_disc_box_norm"]]
        paths = [options.data / "images" / entry["image_path"][0] for entry in entries]
        evidence = explain(predictor, paths)
        attention = [finding.attention("report").mean(axis=0) for finding in predictor(paths)]
        drawn = {"evidence": [each.map for each in evidence], "attention": attention}
        for kind, maps in drawn.items():
            masks = [regions(entry["optic_disc_box_norm"]) for entry in entries]
            for region in masks[0]:
                inside = [mask[region] for mask in masks]
                shares = [share(heat, mask) for heat, mask in zip(maps, inside, strict=True)]
                peaks = [pointing_hit(np.abs(heat), mask) for heat, mask in zip(maps, inside, strict=True)]
                print(
                    f"{split:6} {kind:10} {region:16} {np.mean(shares):6.3f} {np.mean(inside):6.3f} "
                    f"{np.mean(peaks):10.3f}  {len(entries)}"
                )
        for each, heat in list(zip(evidence, attention, strict=True))[: options.pictures]:
            looked = Explanation(
                heat, each.image, "attention", "report, mean", "share of attention", 0.0, source=each.source
            )
            save_picture([each, looked], options.run / "disc" / f"{split}_{Path(each.source).stem}.png")


if __name__ == "__main__":
    main()
