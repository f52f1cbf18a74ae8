"""Whether evidence and attention lie on the masks: scored a study at a time, then gathered.

The metrics are those of `mdnet.metrics.grounding`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from mdnet.data.images import load_mask
from mdnet.data.study import Study
from mdnet.data.views import mask_strip
from mdnet.evaluation.record import MapScore, Metrics
from mdnet.inference.finding import Finding
from mdnet.metrics.grounding import chance, energy_in_mask, pointing_hit

__all__ = ["grounding_metrics", "score_maps", "tissue_share"]


def score_maps(finding: Finding, study: Study) -> list[MapScore]:
    """Evidence and attention of every aspect that has a mask, in a study that shows what is masked.

    A mask is of the study's first view; on the others nothing is masked, so what lies there is a miss.
    The evidence is the contrast of the true class with the aspect's reference; the attention is the
    mean over the section's words.
    """
    found = []
    for aspect in finding.label_space.aspects:
        label = study.labels.get(aspect.name)
        if aspect.name not in study.masks or aspect.multi_label or label not in aspect.classes:
            continue
        if label == aspect.reference:
            continue  # nothing is masked where there is nothing to report
        mask = mask_strip(load_mask(study.masks[aspect.name]), len(finding.views))
        if not mask.any():
            continue
        maps = {"evidence": np.asarray(finding.evidence(aspect.name, str(label), against=aspect.reference))}
        section = finding.report.sections.get(aspect.name)
        if section is not None and len(section.words):
            maps["attention"] = section.attention.mean(axis=0)
        correct = finding.aspects[aspect.name].label == label
        found += [
            MapScore(
                kind,
                aspect.name,
                str(label),
                pointing_hit(heat, mask),
                float(energy_in_mask(heat[None], mask[None])[0]),
                float(chance(mask[None])[0]),
                correct,
            )
            for kind, heat in maps.items()
        ]
    return found


def grounding_metrics(scores: Iterable[MapScore]) -> Metrics:
    """`aspect.kind.class` to the means over studies; `correct` over those rightly classified."""
    groups: dict[tuple[str, str, str], list[MapScore]] = defaultdict(list)
    for score in scores:
        groups[score.aspect, score.kind, score.label].append(score)
    metrics: Metrics = {}
    for (aspect, kind, label), members in sorted(groups.items()):
        right = [member.hit for member in members if member.correct]
        metrics.setdefault(aspect, {}).setdefault(kind, {})[label] = {
            "studies": len(members),
            "pointing": float(np.mean([member.hit for member in members])),
            "pointing_correct": float(np.mean(right)) if right else None,
            "energy": float(np.mean([member.energy for member in members])),
            "chance": float(np.mean([member.chance for member in members])),
        }
    return metrics


def tissue_share(finding: Finding, study: Study) -> tuple[float, float]:
    """Share of the diagnosis's absolute contrast that lies on tissue, and tissue's share of the area.

    Both are of the study's first view, whose mask it is.
    """
    answer = finding.diagnosis
    against = answer.opposite(answer.label)
    heat = np.abs(np.asarray(finding.evidence(answer.name, answer.label, against=against, view=0)))
    mask = load_mask(study.masks["tissue"])
    return float(energy_in_mask(heat[None], mask[None])[0]), float(chance(mask[None])[0])
