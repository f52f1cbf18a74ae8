"""All explanation methods by the same numbers: `mdnet explain DATA --benchmark`, kept with the other results.

mdnet data phantom --out runs/fresh500 --studies 500 --seed 20261120
python benchmarks/faithfulness.py --data runs/fresh500 --aspect mitosis
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recording import record

from mdnet.data.readers import read_studies
from mdnet.explain.faithfulness.benchmark import benchmark
from mdnet.inference.predictor import Predictor

READING = """* read off the model's own computation. pointing: the peak lies in the mask; energy: share of the
positive part inside; deletion: the score's area as the most relevant pixels go, 0 the empty image and 1 the
whole, low is good; behind evidence: deletion less evidence's, study by study, with its 95% interval;
insertion: high is good; random weights: rank correlation with the map of random weights, 0 is as it must be;
cost: times one forward pass. Methods of many passes see fewer studies."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--aspect", default="mitosis")
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--checked", type=int, default=8)
    options = parser.parse_args()
    predictor = Predictor.from_pretrained(options.weights)
    studies = read_studies(options.data).studies
    table = benchmark(predictor, studies, aspect=options.aspect, few=options.few, checked=options.checked)
    rows = []
    for row in table.rows:
        behind = [row.get(f"behind_evidence_mean{end}") for end in ("", "_low", "_high")]
        rows.append(
            {
                "method": row["method"] + " *" * row["by_design"],
                "studies": row["studies"],
                "pointing": row["pointing"],
                "energy": row["energy"],
                "deletion (mean)": row["deletion_mean"],
                "behind evidence": None if None in behind else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*behind),
                "deletion (blur)": row["deletion_blur"],
                "insertion (mean)": row["insertion_mean"],
                "sensitivity-n": row["sensitivity_n"],
                "infidelity": row["infidelity"],
                "random weights": row["random_weights"],
                "cost": row["cost"],
            }
        )
    record(
        f"faithfulness_{options.aspect}",
        rows,
        title=f"Explanations put to the proof: {table.settings['aspect']}, `{options.weights}`",
        reading=" ".join(READING.split()),
        peers=("captum",),
        details={"settings": dict(table.settings), "rows": [dict(row) for row in table.rows]},
    )


if __name__ == "__main__":
    main()
