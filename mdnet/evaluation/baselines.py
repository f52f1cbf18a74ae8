"""What a model must beat to have read the image: baselines scored on the same studies, by the same metrics.

None of them sees more than a model may: classes, texts and neighbours are those of the training split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdnet.data.study import MISSING, Aspect, LabelSpace, Study, StudySet
from mdnet.evaluation.collect import choose_sample
from mdnet.evaluation.record import Metrics, StudyRecord, target_of
from mdnet.inference.predictor import Predictor
from mdnet.metrics.diagnosis import majority_baseline
from mdnet.metrics.language import LanguageScores, constant_report, language_metrics, language_scores

__all__ = ["Baselines", "Neighbours", "encode_training_images", "score_baselines"]

_MOST_NEIGHBOURS = 2000  # training images encoded for the nearest-neighbour baseline
_VOTERS = 5
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Baselines:
    """The baselines' numbers, and the text scores by study that paired tests need.

    Attributes:
        metrics: The `baselines` of `metrics.json`.
        constant: One report for every study; None without text.
        shuffled: Every report against another study's references; None with fewer than two.
    """

    metrics: Metrics
    constant: LanguageScores | None = None
    shuffled: LanguageScores | None = None


@dataclass(frozen=True)
class Neighbours:
    """Training studies and their images' features, each of length 1: (N, D)."""

    studies: Sequence[Study]
    features: npt.NDArray[np.float32]

    def nearest(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Places in `studies` by falling cosine to each query: (Q, D) -> (Q, N)."""
        blocks = [
            np.argsort(
                -(unit(features[start : start + _ROWS_AT_ONCE]) @ self.features.T), axis=1, kind="stable"
            )
            for start in range(0, len(features), _ROWS_AT_ONCE)
        ]
        return np.concatenate(blocks)


def encode_training_images(
    predictor: Predictor, data: StudySet, studies: Sequence[Study]
) -> Neighbours | None:
    """Pooled C(I) of at most 2000 training images, drawn at random; None where there is none.

    Args:
        predictor: The model.
        data: The set with the training split.
        studies: Those that are scored; none of them is a neighbour.
    """
    scored = {study.images for study in studies}
    train = training_split(data)
    places = [place for place, study in enumerate(train) if study.images not in scored]
    if not places:
        return None
    chosen = [train[places[one]] for one in choose_sample(len(places), _MOST_NEIGHBOURS)]
    return Neighbours(chosen, unit(np.stack([*predictor.pooled_features(chosen)])))


def unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of length 1; a zero row stays."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: npt.NDArray[np.float32] = features / np.maximum(norms, np.finfo(np.float32).tiny)
    return scaled


def training_split(data: StudySet) -> Sequence[Study]:
    """The training studies; maybe none."""
    return data.split("train") if "train" in data.splits else ()


def score_baselines(
    records: Sequence[StudyRecord],
    reported: Sequence[StudyRecord],
    data: StudySet,
    space: LabelSpace,
    *,
    neighbours: Neighbours | None = None,
) -> Baselines:
    """Scores every baseline that the data allow.

    - `majority`: the commonest training class for every study.
    - `constant_report`: the one training report that scores best on val, for every study (on train, where
      val is what is scored or is not there).
    - `shuffled`: the system's own reports, each against the references of another study drawn at random.
    - `nearest_neighbour`: the report of the training image with the nearest features (cosine of pooled
      C(I)), and a vote of the five nearest for every class.
    - `class_report`: for each section the commonest training text of the studies of the predicted class;
      None where the report has one undivided section.
    - `human`: one reference against the study's others, each in turn, the mean over writers. People have
      one reference fewer to meet than a model.

    Args:
        records: What a system said.
        reported: Those with a report on both sides.
        data: Its training split gives the baselines.
        space: The aspects.
        neighbours: Features of the training images; without them there is no nearest neighbour.
    """
    train = training_split(data)
    metrics: Metrics = {}
    constant = shuffled = None
    if majority := majority_classes(records, train, space):
        metrics["majority"] = majority
    if neighbours is not None:
        metrics["nearest_neighbour"] = neighbour_classes(records, neighbours, space)
    if reported:
        references = [record.study.references() for record in reported]
        if text := chosen_constant(records, train, data):
            constant = language_scores([text] * len(references), references)
            metrics["constant_report"] = constant.corpus
        if len(reported) > 1:
            others = [references[place] for place in another_place(len(references))]
            shuffled = language_scores([str(record.text) for record in reported], others)
            metrics["shuffled"] = shuffled.corpus
        if neighbours is not None and (texts := neighbour_reports(reported, neighbours)):
            metrics["nearest_neighbour"] |= language_metrics(texts, references)
        composed = class_reports(reported, train, space, data.sections)
        metrics["class_report"] = None if composed is None else language_metrics(composed, references)
        if human := human_agreement(references):
            metrics["human"] = human
    return Baselines(metrics, constant, shuffled)


def majority_classes(records: Sequence[StudyRecord], train: Sequence[Study], space: LabelSpace) -> Metrics:
    """Aspect name to the commonest training class and its accuracy."""
    found = {}
    for aspect in single_label(space):
        seen = [target_of(study, aspect) for study in train]
        if any(target != MISSING for target in seen):
            scored = majority_baseline(seen, [target_of(record.study, aspect) for record in records])
            found[aspect.name] = {"class": aspect.classes[scored["class"]], "accuracy": scored["accuracy"]}
    return found


def single_label(space: LabelSpace) -> Iterator[Aspect]:
    """Aspects whose classes exclude each other."""
    return (aspect for aspect in space.aspects if not aspect.multi_label)


def chosen_constant(records: Sequence[StudyRecord], train: Sequence[Study], data: StudySet) -> str | None:
    """The training report that is best for all of val."""
    candidates = [text for study in train for text in study.references()]
    already = {record.study.images for record in records}  # ids repeat from set to set
    held_out = [s for s in data.studies if s.split == "val" and s.report and s.images not in already]
    chosen_on = [study.references() for study in held_out or train if study.report]
    return constant_report(candidates, chosen_on) if candidates else None


def another_place(size: int, *, seed: int = 0) -> list[int]:
    """For each of `size` places another one, every place once (Sattolo's cyclic permutation).

    Drawn and not shifted by one: files are often sorted by class, and a neighbour is no other study.
    """
    random = np.random.default_rng(seed)
    places = np.arange(size)
    for last in range(size - 1, 0, -1):
        other = int(random.integers(last))
        places[[last, other]] = places[[other, last]]
    return [int(place) for place in places]


def neighbour_classes(records: Sequence[StudyRecord], neighbours: Neighbours, space: LabelSpace) -> Metrics:
    """`images` that were searched, and under `aspects` the accuracy of the vote of the nearest."""
    order = neighbours.nearest(features_of(records))
    metrics: Metrics = {"images": len(neighbours.studies), "aspects": {}}
    for aspect in single_label(space):
        classes = np.array([target_of(study, aspect) for study in neighbours.studies])
        truth = [target_of(record.study, aspect) for record in records]
        right = []
        for row, target in zip(order, truth, strict=True):
            voters = classes[row][classes[row] != MISSING][:_VOTERS]
            if target != MISSING and len(voters):
                # Counter keeps the order of first appearance: of equal votes the nearest one's wins.
                right.append(Counter(voters.tolist()).most_common(1)[0][0] == target)
        if right:
            metrics["aspects"][aspect.name] = {"accuracy": float(np.mean(right))}
    return metrics


def neighbour_reports(records: Sequence[StudyRecord], neighbours: Neighbours) -> list[str]:
    """The first reference of the nearest training study that has one; [] where none has."""
    written = [study.references() for study in neighbours.studies]
    if not any(written):
        return []
    order = neighbours.nearest(features_of(records))
    return [next(written[place][0] for place in row if written[place]) for row in order]


def features_of(records: Sequence[StudyRecord]) -> npt.NDArray[np.float32]:
    """(records, D)"""
    return np.stack([record.features for record in records if record.features is not None])


def class_reports(
    records: Sequence[StudyRecord], train: Sequence[Study], space: LabelSpace, sections: Collection[str]
) -> list[str] | None:
    """Reports put together from the predicted classes; None where there is nothing to put together."""
    aspect_of = {name: name if name in space else space.diagnosis for name in sections}
    written = {name for study in train for name in study.report}
    used = [name for name in sections if name in written]
    if not used or (len(used) == 1 and used[0] not in space):
        return None
    texts: dict[tuple[str, tuple[str, ...] | None], Counter[str]] = {}
    for study in train:
        for name in used:
            label = study.labels.get(str(aspect_of[name]))
            classes = None if label is None else (label,) if isinstance(label, str) else tuple(label)
            for key in {classes, None}:  # under None are the texts of all classes
                texts.setdefault((name, key), Counter()).update(study.report.get(name, ()))
    reports = []
    for record in records:
        parts = []
        for name in used:
            said = record.labels.get(str(aspect_of[name]))
            counted = texts.get((name, said)) or texts[name, None]
            parts.append(counted.most_common(1)[0][0])
        reports.append(" ".join(parts))
    return reports


def human_agreement(references: Sequence[Sequence[str]]) -> Metrics | None:
    """Each writer against the others, the mean over writers; None without studies of several references."""
    several = [texts for texts in references if len(texts) > 1]
    if len(several) < 2:
        return None
    scored = []
    for writer in range(max(map(len, several))):
        chosen = [texts for texts in several if len(texts) > writer]
        rest = [[*texts[:writer], *texts[writer + 1 :]] for texts in chosen]
        scored.append(language_metrics([texts[writer] for texts in chosen], rest))
    means: Metrics = {name: float(np.mean([each[name] for each in scored])) for name in scored[0]}
    return {"studies": len(several)} | means
