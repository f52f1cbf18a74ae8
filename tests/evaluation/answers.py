"""Findings, records and studies made by hand, and a predictor that gives them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from mdnet.data.study import Aspect, LabelSpace, Study, StudySet
from mdnet.evaluation.record import StudyRecord
from mdnet.inference.finding import AspectEvidence, AspectFinding, Finding, ReportFinding, SectionFinding
from mdnet.inference.predictor import Predictor
from mdnet.models.image_module import ImageFeatures

SPACE = LabelSpace(
    (
        Aspect("mitosis", ("absent", "rare", "frequent"), ordered=True),
        Aspect("findings", ("oedema", "nodule"), multi_label=True),
        Aspect("conclusion", ("normal", "tumor")),
    ),
    "conclusion",
)


def make_finding(
    source: str,
    *,
    space: LabelSpace = SPACE,
    answers: dict[str, str | tuple[str, ...]],
    texts: dict[str, str],
    peak: tuple[int, int] = (0, 0),
    looked_at: tuple[int, int] = (0, 0),
) -> Finding:
    """A finding on 8 x 8 pixels; evidence for all but the first class lies in one cell of a 4 x 4 grid."""
    aspects, evidence = {}, {}
    for aspect in space.aspects:
        answer = answers[aspect.name]
        labels = answer if isinstance(answer, tuple) else (answer,)
        probabilities = {label: 0.9 if label in labels else 0.05 for label in aspect.classes}
        logits = {label: float(np.log(p)) for label, p in probabilities.items()}
        aspects[aspect.name] = AspectFinding(aspect, labels, probabilities, logits)
        maps = np.zeros((len(aspect.classes), 4, 4), np.float32)
        maps[1:, peak[0], peak[1]] = 1.0
        evidence[aspect.name] = AspectEvidence({"block1": maps}, np.zeros(len(aspect.classes), np.float32))
    sections = {}
    for name, text in texts.items():
        words = tuple(text.split())
        attention = np.full((len(words), 4, 4), 0.01)
        attention[:, looked_at[0], looked_at[1]] = 0.85
        sections[name] = SectionFinding(
            name, text, words, attention, np.ones(len(words)), -np.ones(len(words)), name, None
        )
    image = np.zeros((8, 8, 3), np.uint8)
    return Finding(source, image, space, aspects, ReportFinding(sections), evidence)


def predictor_of(findings: list[Finding], space: LabelSpace = SPACE) -> Predictor:
    """Gives these findings, whatever it is shown; the features of all images are the same."""
    model = SimpleNamespace(config=SimpleNamespace(space=space), report=None)
    features = ImageFeatures((), torch.ones(1, 4, 3), 2, 2)
    return SimpleNamespace(  # type: ignore[return-value]
        model=model,
        stream=lambda paths: iter(findings[: len(paths)]),
        stream_with_features=lambda studies: ((finding, features) for finding in findings),
        pooled_features=lambda paths: (np.ones(3, np.float32) for _ in paths),
    )


def data_of(studies: list[Study], space: LabelSpace = SPACE) -> StudySet:
    return StudySet(Path("nowhere"), "studies", tuple(studies), space, tuple(studies[0].report))


def make_study(name: str, split: str = "test", report: dict[str, Any] | None = None, **rest: Any) -> Study:
    """A study; a section's text stands for one writer, a tuple for several."""
    texts = {section: (text,) if isinstance(text, str) else text for section, text in (report or {}).items()}
    return Study(name, (Path(f"{name}.png"),), split, report=texts, **rest)


def make_record(study: Study, text: str | None = None, **labels: str) -> StudyRecord:
    """A record of sure answers."""
    probabilities = {}
    for name, said in labels.items():
        classes = SPACE[name].classes
        probabilities[name] = [0.9 if label == said else 0.1 / (len(classes) - 1) for label in classes]
    return StudyRecord(study, {name: (label,) for name, label in labels.items()}, probabilities, text=text)
