"""Findings made by hand: random but consistent, so that evidence and bias give the logits exactly."""

from __future__ import annotations

import numpy as np

from mdnet.data.study import Aspect, LabelSpace
from mdnet.inference.finding import AspectEvidence, AspectFinding, Finding, ReportFinding, SectionFinding

TISSUE = LabelSpace(
    (
        Aspect("nuclear pleomorphism", ("mild", "moderate", "severe"), ordered=True),
        Aspect("nuclear crowding", ("absent", "mild", "severe"), ordered=True),
        Aspect("polarity", ("preserved", "partly lost", "lost"), ordered=True),
        Aspect("mitosis", ("absent", "rare", "frequent"), ordered=True),
        Aspect("nucleoli", ("inconspicuous", "prominent")),
        Aspect("conclusion", ("normal", "low grade", "high grade", "insufficient information")),
    ),
    diagnosis="conclusion",
)
GRIDS = {"block 1": 64, "block 2": 32, "block 3": 16, "block 4": 16}
WORDS = {
    "mitosis": ("mitotic", "figures", "are", "frequent", "throughout", ",", "some", "atypical", "."),
    "conclusion": ("findings", "fit", "high", "grade", "carcinoma", "."),
}


def make_finding(
    *,
    seed: int = 0,
    size: tuple[int, int] = (128, 128),
    space: LabelSpace = TISSUE,
    words: dict[str, tuple[str, ...]] | None = None,
    grids: dict[str, int] | None = None,
    scale: float = 1.0,
    source: str = "images/p00017.png",
) -> Finding:
    """A finding whose evidence and logits agree; `scale` 0 makes all evidence zero."""
    random = np.random.default_rng(seed)
    rows, columns = size
    y, x = np.mgrid[:rows, :columns]
    centres = random.uniform(0.1, 0.9, (60, 2)) * size
    nuclei = sum(np.exp(-((y - r) ** 2 + (x - c) ** 2) / 18.0) for r, c in centres)
    tissue = np.array([228, 170, 200]) - np.clip(nuclei, 0, 1)[..., None] * np.array([130, 110, 60])
    image = np.clip(tissue + random.normal(0, 6, (rows, columns, 1)), 0, 255).astype(np.uint8)

    aspects, evidence = {}, {}
    for aspect in space.aspects:
        classes = len(aspect.classes)
        blocks = {}
        for name, cells in (grids or GRIDS).items():
            gy, gx = np.mgrid[:cells, :cells] / cells
            maps = random.normal(0, 2 / cells**2, (classes, cells, cells))
            for index in range(classes):
                r, c = random.uniform(0.15, 0.85, 2)
                maps[index] += (
                    160 / cells**2 * np.exp(-((gy - r) ** 2 + (gx - c) ** 2) * 90) * random.uniform(-0.3, 1)
                )
            blocks[name] = (scale * maps).astype(np.float32)
        bias = (scale * random.normal(0, 0.3, classes)).astype(np.float32)
        logits = sum(b.astype(np.float64).sum(axis=(1, 2)) for b in blocks.values()) + bias.astype(np.float64)
        if aspect.multi_label:
            probabilities = 1 / (1 + np.exp(-logits))
            labels = tuple(label for label, p in zip(aspect.classes, probabilities, strict=True) if p >= 0.5)
        else:
            probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            labels = (aspect.classes[int(probabilities.argmax())],)
        evidence[aspect.name] = AspectEvidence(blocks, bias)
        aspects[aspect.name] = AspectFinding(
            aspect,
            labels,
            dict(zip(aspect.classes, probabilities.tolist(), strict=True)),
            dict(zip(aspect.classes, logits.tolist(), strict=True)),
        )

    sections = {}
    for name, tokens in (WORDS if words is None else words).items():
        attention = np.exp(random.normal(0, 0.5, (len(tokens), 16, 16)))
        for i in range(len(tokens)):
            r, c = random.integers(0, 16, 2)
            attention[i, r, c] += 300.0 * i
        attention /= attention.sum(axis=(1, 2), keepdims=True)
        entropy = -(attention * np.log(attention)).sum(axis=(1, 2))
        aspect_name = name if name in aspects else None
        sections[name] = SectionFinding(
            name,
            " ".join(tokens),
            tokens,
            attention,
            1 - entropy / np.log(256),
            np.log(random.uniform(0.5, 1, len(tokens))),
            aspect_name,
            aspects[name].labels[0] if aspect_name and aspects[name].labels else None,
        )
    return Finding(source, image, space, aspects, ReportFinding(sections), evidence, "mdnet_tiny/phantom")
