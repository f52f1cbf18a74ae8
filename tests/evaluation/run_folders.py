"""Evaluated run folders made by hand: records scored, judged and written as `evaluate_run` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from answers import SPACE, data_of, make_study

from mdnet.data.study import Study
from mdnet.evaluation.evaluate import judge, prediction_lines
from mdnet.evaluation.record import StudyRecord
from mdnet.evaluation.scores import score

WORDS = ("no", "some", "many", "mitoses", "are", "seen", "in", "field", "of", "normal", "tumor", "tissue")


def make_studies(count: int, *, seed: int = 0, patient: bool = False) -> list[Study]:
    """Studies of random words and labels; two studies a patient."""
    random = np.random.default_rng(seed)

    def text() -> str:
        return " ".join(random.choice(WORDS, random.integers(5, 12)))

    return [
        make_study(
            f"s{number}",
            report={"mitosis": (text(), text())},
            labels={
                "mitosis": str(random.choice(SPACE["mitosis"].classes)),
                "conclusion": str(random.choice(SPACE["conclusion"].classes)),
            },
            patient=f"p{number // 2}" if patient else None,
        )
        for number in range(count)
    ]


def answer(study: Study, random: np.random.Generator, skill: float) -> StudyRecord:
    """Right, and in the reference's words, with a probability of `skill`."""
    labels = {
        name: (str(truth if random.random() < skill else random.choice(SPACE[name].classes)),)
        for name, truth in study.labels.items()
    }
    words = [
        w if random.random() < skill else str(random.choice(WORDS)) for w in study.references()[0].split()
    ]
    text = " ".join(words)
    line: dict[str, Any] = {
        "id": study.id,
        "image": str(study.images[0]),
        "aspects": {name: {"label": said[0], "labels": list(said)} for name, said in labels.items()},
        "report": text,
        "sections": {"mitosis": text},
        "truth": {"labels": dict(study.labels), "report": {k: list(v) for k, v in study.report.items()}},
    }
    if study.patient is not None:
        line["patient"] = study.patient
    return StudyRecord(study, labels, {}, text=text, sections={"mitosis": text}, line=line)


def write_run(
    folder: Path,
    studies: Sequence[Study],
    *,
    skill: float,
    seed: int = 1,
    data_hash: str = "d" * 64,
    split: str = "test",
    **configuration: Any,
) -> Path:
    """A run of that skill, scored on the studies."""
    random = np.random.default_rng(seed)
    records = [answer(study, random, skill) for study in studies]
    scored = score(records, SPACE)
    judge(scored, records, data_of([make_study("t0", "train", report={"mitosis": WORDS[0]})]), SPACE)
    config = {"model": "mdnet_tiny", "data": "data", "out": str(folder), "seed": seed} | configuration
    scored.metrics["provenance"] = {
        "data": "data",
        "data_hash": data_hash,
        "split": split,
        "seed": seed,
        "configuration": config,
    }
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: mdnet_tiny\n")
    (folder / "model" / "config.json").write_text(json.dumps({"label_space": SPACE.to_dict()}))
    (folder / "metrics.json").write_text(json.dumps(scored.metrics))
    lines = prediction_lines(records, scored)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
