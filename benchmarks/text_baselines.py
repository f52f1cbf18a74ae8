"""What text metrics are to be read against on real reports: one report for all, and people with themselves.

    python benchmarks/text_baselines.py

Reads `../shared/data` (or `$MDNET_REAL_DATA`); no image is needed. Indiana (R2Gen's split): the training
report that scores best on val by BLEU-4, given to every test study. Bladder (the MDNet authors' later
reports): a writer's first reference against the other four.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
from pathlib import Path
from typing import Any

from recording import record

from mdnet.metrics.language import constant_report, language_metrics

REAL_DATA = Path(os.environ.get("MDNET_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
COLUMNS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "meteor", "meteor_java")


def measured(name: str, hypotheses: list[str], references: list[list[str]], *, java: bool) -> dict[str, Any]:
    """A row: all metrics, Java's METEOR beside nltk's where there is Java."""
    metrics = language_metrics(hypotheses, references)
    if java:
        metrics |= language_metrics(hypotheses, references, meteor="java")
    row = {"what": name, "studies": len(hypotheses)}
    return row | {column: metrics.get(column) for column in COLUMNS}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    java = shutil.which("java") is not None
    splits = json.loads((REAL_DATA / "iu_xray/annotation.json").read_text(encoding="utf-8"))
    texts = {split: [entry["report"] for entry in entries] for split, entries in splits.items()}
    constant = constant_report(texts["train"], [[text] for text in texts["val"]])
    test = [[text] for text in texts["test"]]
    bladder = json.loads((REAL_DATA / "bladder_report_text/references.json").read_text(encoding="utf-8"))
    writers = [
        ast.literal_eval(entry["caption"]) if isinstance(entry["caption"], str) else entry["caption"]
        for entry in bladder
    ]
    rows = [
        measured("Indiana test, one report for all", [constant] * len(test), test, java=java),
        measured(
            "bladder, a writer against four others",
            [texts[0] for texts in writers],
            [texts[1:] for texts in writers],
            java=java,
        ),
    ]
    record(
        "text_baselines",
        rows,
        title="What text metrics on real reports are to be read against",
        reading="A system that writes worse than one report for all has learned nothing that these metrics "
        "see; one that agrees with a writer as writers agree is as good as they can tell. `meteor` is nltk's "
        "without WordNet, `meteor_java` the program of published tables.",
        peers=("nltk", "pycocoevalcap"),
    )


if __name__ == "__main__":
    main()
