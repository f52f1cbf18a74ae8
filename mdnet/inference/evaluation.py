"""A model against the truth: diagnosis, text, agreement of the two, and whether maps look where they should.

One pass over the studies; the maps of a study are scored as it comes by and then let go.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from mdnet.data import phantom
from mdnet.data.images import load_mask
from mdnet.data.study import MISSING, Aspect, Study, StudySet
from mdnet.inference.finding import Finding
from mdnet.inference.predictor import Predictor
from mdnet.metrics.diagnosis import classification_metrics, majority_baseline, multi_label_metrics
from mdnet.metrics.diversity import diversity
from mdnet.metrics.grounding import chance, energy_in_mask, pointing_hit
from mdnet.metrics.language import constant_report, language_metrics

__all__ = ["Evaluation", "Shown", "evaluate_studies"]

_log = logging.getLogger(__name__)

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """A study that a page shows: the finding and the truth."""

    finding: Finding
    study: Study


@dataclass
class Evaluation:
    """Result of `evaluate_studies`.

    Attributes:
        metrics: Nested as in `metrics.json`.
        predictions: A record a study, as in `predictions.jsonl`.
        shown: The first studies with their findings.
    """

    metrics: Metrics
    predictions: list[dict[str, Any]]
    shown: list[Shown] = field(default_factory=list)


@dataclass(frozen=True)
class MapScore:
    """How one map of one study meets one mask."""

    kind: str  # "evidence" or "attention"
    aspect: str
    label: str
    hit: bool
    energy: float
    chance: float
    correct: bool  # the study's class was predicted


def evaluate_studies(
    predictor: Predictor,
    studies: Sequence[Study],
    data: StudySet,
    *,
    show: int = 0,
    baselines: bool = True,
    progress: bool = True,
) -> Evaluation:
    """Scores a model on studies.

    Args:
        predictor: The model.
        studies: What to score on; their first image is looked at.
        data: The set that the model was trained on: its training split gives the baselines.
        show: How many findings to keep, from the front.
        baselines: Also score the majority class, the constant report and the shuffled control.
        progress: Show a bar where stderr is a terminal.
    """
    space = predictor.model.config.space
    targets: dict[str, list[Any]] = {aspect.name: [] for aspect in space.aspects}
    scores: dict[str, list[list[float]]] = {aspect.name: [] for aspect in space.aspects}
    hypotheses: list[str] = []
    references: list[list[str]] = []
    map_scores: list[MapScore] = []
    on_tissue: list[tuple[float, float]] = []
    statements: list[tuple[str, str, str | None, str]] = []
    result = Evaluation({}, [])

    findings = predictor.stream([study.images[0] for study in studies])
    hide = None if progress else True
    for study, finding in tqdm(
        zip(studies, findings, strict=True), total=len(studies), disable=hide, unit="study"
    ):
        for aspect in space.aspects:
            targets[aspect.name].append(target_of(study, aspect))
            values = finding.aspects[aspect.name]
            chosen = values.probabilities if aspect.multi_label else values.logits
            scores[aspect.name].append(list(chosen.values()))
        if finding.report.sections and study.report:
            hypotheses.append(finding.report.text)
            references.append(study.references())
        map_scores += score_maps(finding, study)
        if "tissue" in study.masks and space.diagnosis is not None:
            on_tissue.append(tissue_share(finding, study))
        if space == phantom.LABEL_SPACE:
            statements += stated(finding, study)
        result.predictions.append(prediction_record(finding, study))
        if len(result.shown) < show:
            result.shown.append(Shown(finding, study))

    metrics = result.metrics
    metrics["studies"] = len(studies)
    metrics["aspects"] = {a.name: aspect_metrics(a, scores[a.name], targets[a.name]) for a in space.aspects}
    accuracies = [m["accuracy"] for m in metrics["aspects"].values() if m["accuracy"] is not None]
    if accuracies:
        metrics["mean_aspect_accuracy"] = float(np.mean(accuracies))
    if space.diagnosis is not None:
        metrics["diagnosis"] = metrics["aspects"][space.diagnosis]
    if hypotheses:
        metrics["text"] = language_metrics(hypotheses, references) | diversity(hypotheses, references)
    if statements:
        metrics["statements"] = statement_metrics(statements)
    if map_scores:
        metrics["grounding"] = grounding_metrics(map_scores)
    if on_tissue:
        evidence, area = np.mean(on_tissue, axis=0)
        metrics.setdefault("grounding", {})["tissue"] = {
            "evidence_share": float(evidence),
            "area": float(area),
        }
    if baselines:
        metrics["baselines"] = baseline_metrics(predictor, studies, data, targets, hypotheses, references)
    return result


def target_of(study: Study, aspect: Aspect) -> int | list[int]:
    """Class index, or a 0/1 list (multi-label), or -100 where the label is missing or unknown."""
    label = study.labels.get(aspect.name)
    if aspect.multi_label:
        return [MISSING] * len(aspect.classes) if label is None else [int(c in label) for c in aspect.classes]
    return aspect.classes.index(str(label)) if label in aspect.classes else MISSING


def aspect_metrics(aspect: Aspect, scores: list[list[float]], targets: list[Any]) -> Metrics:
    """Classification metrics of one aspect."""
    if aspect.multi_label:
        return multi_label_metrics(scores, targets, aspect.classes)
    return classification_metrics(scores, targets, aspect.classes, ordered=aspect.ordered)


def score_maps(finding: Finding, study: Study) -> list[MapScore]:
    """Evidence and attention of every aspect that has a mask, in a study that shows what is masked.

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
        mask = load_mask(study.masks[aspect.name])
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


def grounding_metrics(scores: list[MapScore]) -> Metrics:
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
    """Share of the diagnosis's absolute contrast that lies on tissue, and tissue's share of the area."""
    aspect = finding.label_space[str(finding.label_space.diagnosis)]
    label = finding.diagnosis.label
    against = aspect.reference if label != aspect.reference else next(c for c in aspect.classes if c != label)
    heat = np.abs(np.asarray(finding.evidence(aspect.name, label, against=against)))
    mask = load_mask(study.masks["tissue"])
    return float(energy_in_mask(heat[None], mask[None])[0]), float(chance(mask[None])[0])


def stated(finding: Finding, study: Study) -> list[tuple[str, str, str | None, str]]:
    """(section, truth, what the text states, what the head says) of every section with a truth.

    A tile of insufficient information has no labels but that one, and every section must say so.
    """
    insufficient = study.labels.get("conclusion") == phantom.specification.INSUFFICIENT
    rows = []
    for name, section in finding.report.sections.items():
        if name not in phantom.SECTIONS:
            continue
        truth = phantom.specification.INSUFFICIENT if insufficient else study.labels.get(name)
        if truth is not None:
            said = phantom.stated_class(name, section.text)
            rows.append((name, str(truth), said, finding.aspects[name].label))
    return rows


def statement_metrics(rows: list[tuple[str, str, str | None, str]]) -> Metrics:
    """Share of sections that state the true class, over all and by section, and agreement with the head."""
    by_section: dict[str, list[bool]] = defaultdict(list)
    for section, truth, said, _ in rows:
        by_section[section].append(said == truth)
    # The heads have no class for a feature that cannot be assessed.
    agreeing = [said == head for _, truth, said, head in rows if truth != phantom.specification.INSUFFICIENT]
    return {
        "true": float(np.mean([said == truth for _, truth, said, _ in rows])),
        "silent": float(np.mean([said is None for _, _, said, _ in rows])),
        "agree_with_head": float(np.mean(agreeing)) if agreeing else None,
        "sections": {section: float(np.mean(right)) for section, right in by_section.items()},
    }


def baseline_metrics(
    predictor: Predictor,
    studies: Sequence[Study],
    data: StudySet,
    targets: dict[str, list[Any]],
    hypotheses: list[str],
    references: list[list[str]],
) -> Metrics:
    """What a model must beat to have read the image.

    `majority`: the commonest training class for every study. `constant_report`: the one training
    report that scores best on val, for every study (on train, where val is what is scored or is not
    there). `shuffled`: the model's own reports, each scored against the next study's references.
    """
    space = predictor.model.config.space
    train = [study for study in data.studies if study.split == "train"]
    baselines: Metrics = {}
    single = [aspect for aspect in space.aspects if not aspect.multi_label]
    majority = {}
    for aspect in single:
        seen = [target_of(study, aspect) for study in train]
        if any(target != MISSING for target in seen):
            scored = majority_baseline(seen, targets[aspect.name])
            majority[aspect.name] = {"class": aspect.classes[scored["class"]], "accuracy": scored["accuracy"]}
    if majority:
        baselines["majority"] = majority
    if hypotheses:
        candidates = [text for study in train for text in study.references()]
        already = {study.images for study in studies}  # ids repeat from set to set
        held_out = [s for s in data.studies if s.split == "val" and s.report and s.images not in already]
        chosen_on = [study.references() for study in held_out or train if study.report]
        if candidates:
            constant = constant_report(candidates, chosen_on)
            baselines["constant_report"] = language_metrics([constant] * len(references), references)
        if len(hypotheses) > 1:
            baselines["shuffled"] = language_metrics(hypotheses, references[1:] + references[:1])
    return baselines


def prediction_record(finding: Finding, study: Study) -> dict[str, Any]:
    """A line of `predictions.jsonl`: what was said and what is true."""
    record = {"id": study.id, "split": study.split} | finding.to_dict()
    record["logits"] = {name: dict(aspect.logits) for name, aspect in finding.aspects.items()}
    truth = {name: list(v) if isinstance(v, tuple) else v for name, v in study.labels.items()}
    record["truth"] = {"labels": truth, "report": {name: list(texts) for name, texts in study.report.items()}}
    return record
