"""Text metrics beside pycocoevalcap: seconds and memory on the same random reports.

    python benchmarks/language_metrics.py

Every measurement runs in a process of its own; ours and theirs take turns, medians are compared. The
texts are random words with frequencies like those of language, all different, so that counting every
distinct text once (which real reports repay) brings nothing here. Both sides get tokens with spaces
between them. METEOR beside it is Java's (METEOR 1.5), another metric of the same name; it is left out
where Java is missing.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from recording import record

Texts = tuple[list[str], list[list[str]]]


def random_reports(pairs: int, references: int, seed: int = 0) -> Texts:
    """Reports of 20 to 60 words from 2,000, the k-th with a frequency like 1 / (k + 5)."""
    generator = random.Random(seed)
    words = [f"w{index}" for index in range(2000)]
    weights = [1 / (index + 5) for index in range(2000)]

    def report() -> str:
        return " ".join(generator.choices(words, weights, k=generator.randint(20, 60)))

    return [report() for _ in range(pairs)], [[report() for _ in range(references)] for _ in range(pairs)]


def timed(steps: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each step in turn, and the memory that all of them added at their peak."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**seconds, "added_mib": (after - before) / 1024}


def measure_ours(hypotheses: list[str], references: list[list[str]], with_meteor: bool) -> dict[str, float]:
    import nltk.stem.porter  # noqa: F401  (imports are not measured on either side)

    from mdnet.metrics.bleu import bleu
    from mdnet.metrics.cider import cider
    from mdnet.metrics.corpus import Corpus
    from mdnet.metrics.meteor import meteor
    from mdnet.metrics.rouge import rouge_l

    made: list[Corpus] = []
    steps: dict[str, Callable[[], Any]] = {
        "intern": lambda: made.append(Corpus.from_texts(hypotheses, references)),
        "bleu": lambda: bleu(made[0]),
        "rouge_l": lambda: rouge_l(made[0]),
        "cider": lambda: cider(made[0]),
    }
    if with_meteor:
        steps["meteor"] = lambda: meteor(made[0])
    return timed(steps)


def measure_theirs(hypotheses: list[str], references: list[list[str]], with_meteor: bool) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge

    results = {index: [text] for index, text in enumerate(hypotheses)}
    truths = dict(enumerate(references))
    steps: dict[str, Callable[[], Any]] = {
        "bleu": lambda: Bleu(4).compute_score(truths, results, verbose=0),
        "rouge_l": lambda: Rouge().compute_score(truths, results),
        "cider": lambda: Cider().compute_score(truths, results),
    }
    if with_meteor:
        steps["meteor"] = lambda: Meteor().compute_score(truths, results)
    return timed(steps)


def run_apart(side: str, options: argparse.Namespace) -> dict[str, float]:
    """One measurement in a fresh process."""
    command = [sys.executable, __file__, "--side", side, "--pairs", str(options.pairs)]
    command += ["--references", str(options.references)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def seconds(row: dict[str, float], *, with_meteor: bool) -> float:
    left_out = {"added_mib"} if with_meteor else {"added_mib", "meteor"}
    return sum(value for name, value in row.items() if name not in left_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    with_meteor = shutil.which("java") is not None
    if options.side:
        measure = measure_ours if options.side == "ours" else measure_theirs
        print(json.dumps(measure(*random_reports(options.pairs, options.references), with_meteor)))
        return

    rounds = [{side: run_apart(side, options) for side in ("ours", "theirs")} for _ in range(options.rounds)]
    ours, theirs = (medians([turn[side] for turn in rounds]) for side in ("ours", "theirs"))
    rows = [
        {"metric": name, "ours, s": ours.get(name), "pycocoevalcap, s": theirs.get(name)}
        for name in ("intern", "bleu", "rouge_l", "cider", *(["meteor"] if with_meteor else []))
    ]
    rows.append(
        {
            "metric": "all but METEOR",
            "ours, s": seconds(ours, with_meteor=False),
            "pycocoevalcap, s": seconds(theirs, with_meteor=False),
        }
    )
    if with_meteor:
        rows.append(
            {
                "metric": "all",
                "ours, s": seconds(ours, with_meteor=True),
                "pycocoevalcap, s": seconds(theirs, with_meteor=True),
            }
        )
    memory = {"ours, s": ours["added_mib"], "pycocoevalcap, s": theirs["added_mib"]}
    rows.append({"metric": "memory, MiB"} | memory)
    rows = [
        row | {"times": row["pycocoevalcap, s"] / row["ours, s"] if row["pycocoevalcap, s"] else None}
        for row in rows
    ]
    record(
        "language_metrics",
        rows,
        title=f"Text metrics, {options.pairs:,} pairs with {options.references} references",
        reading="`intern` turns our tokens into numbers, once for all metrics. Asked for: 5 times without "
        "METEOR, 10 times with it. Our METEOR is nltk's without WordNet, theirs the Java program's: "
        "the numbers differ, the work is alike.",
        peers=("pycocoevalcap", "nltk"),
        details={"rounds": rounds},
    )


if __name__ == "__main__":
    main()
