"""Records made by hand: what a system said of studies, beside the truth."""

from __future__ import annotations

from pathlib import Path

from mdnet.data.study import Aspect, LabelSpace, Study
from mdnet.evaluation.record import StudyRecord

SPACE = LabelSpace(
    (
        Aspect("mitosis", ("absent", "rare", "frequent"), ordered=True),
        Aspect("findings", ("oedema", "nodule"), multi_label=True),
        Aspect("conclusion", ("normal", "tumor")),
    ),
    "conclusion",
)


def record(
    number: int,
    *,
    said: dict[str, str | tuple[str, ...]],
    truth: dict[str, str | tuple[str, ...]] | None = None,
    sure: float = 0.9,
    patient: str | None = None,
) -> StudyRecord:
    """A record whose answers have the probability `sure`, and what is left over shared by the others."""
    labels = {name: (each,) if isinstance(each, str) else each for name, each in said.items()}
    probabilities = {}
    for name, chosen in labels.items():
        aspect = SPACE[name]
        rest = (1 - sure) if aspect.multi_label else (1 - sure) / (len(aspect.classes) - 1)
        probabilities[name] = tuple(sure if each in chosen else rest for each in aspect.classes)
    study = Study(f"s{number}", (Path(f"s{number}.png"),), patient=patient, labels=truth or {})
    return StudyRecord(study, labels, probabilities)
