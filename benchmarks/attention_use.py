"""Is attention used: what the true report loses when its attention is replaced.

mdnet data phantom --out runs/fresh500 --studies 500 --seed 20261120
python benchmarks/attention_use.py --data runs/fresh500
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recording import record

from mdnet.data.readers import read_studies
from mdnet.explain.attention_use import measure_attention_use
from mdnet.inference.predictor import Predictor
from mdnet.metrics.bootstrap import Interval


def shown(interval: Interval) -> str:
    """A mean with its 95% interval."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    options = parser.parse_args()
    model = Predictor.from_pretrained(options.weights).model
    studies = [study for study in read_studies(options.data).studies if study.report]
    uses = measure_attention_use(model, studies)
    rows = [
        {"section": "the whole report"} | {name: shown(use.report) for name, use in uses.items()},
        *(
            {"section": section} | {name: shown(use.sections[section]) for name, use in uses.items()}
            for section in model.config.sections
        ),
    ]
    record(
        "attention_use",
        rows,
        title=f"Attention is used: `{options.weights}`, {len(studies)} studies",
        reading="By how many nats log p(true text | image) falls when the attention is uniform, that of "
        "another image, or nothing at all (z_t = 0), with 95% intervals. 0: it does not matter.",
        details={name: use.to_dict() for name, use in uses.items()},
    )


if __name__ == "__main__":
    main()
