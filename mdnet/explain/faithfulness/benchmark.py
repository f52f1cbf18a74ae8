"""All methods by the same numbers, on the same studies.

Every study is explained at its true class against the aspect's reference class, so that no method is
judged by what the model got wrong; studies of the reference class have nothing to find. Methods that
need many passes an image see the first studies only; deletion is compared study by study.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mdnet.data.study import Study
from mdnet.errors import ConfigurationError, DataError
from mdnet.explain.baselines import baseline_images
from mdnet.explain.faithfulness.benchmark_batches import RANDOM, SECTION, Batch, batches_of, draw, maps_of
from mdnet.explain.faithfulness.benchmark_table import BenchmarkTable
from mdnet.explain.faithfulness.curves import deletion, insertion
from mdnet.explain.faithfulness.localisation import relevance_rank_accuracy
from mdnet.explain.faithfulness.randomisation import parameter_randomisation, survives
from mdnet.explain.faithfulness.scoring import map_values
from mdnet.explain.faithfulness.sensitivity import (
    attributed,
    infidelity,
    maximum_sensitivity,
    random_parts,
    score_drops,
    sensitivity_n,
)
from mdnet.explain.registry import Maps, get_method, list_methods
from mdnet.explain.targets import ClassTarget, Scorer
from mdnet.inference.predictor import Predictor
from mdnet.metrics.bootstrap import confidence_interval
from mdnet.metrics.grounding import best_iou, energy_in_mask, pointing_game
from mdnet.models.mdnet import MDNet

__all__ = ["benchmark"]

EVIDENCE = "evidence"
_MANY_PASSES = (
    "feature_ablation",
    "gradient_shap",
    "integrated_gradients",
    "kernel_shap",
    "lime",
    "occlusion",
    "smooth_grad",
)
_WEIGHT_SEEDS = 3
_NOISES = 4  # of maximum sensitivity

Floats = NDArray[np.float64]
Columns = dict[str, Floats]  # number to its value for every study, NaN where it does not apply


def benchmark(
    predictor: Predictor,
    studies: Sequence[Study],
    *,
    aspect: str = "mitosis",
    methods: Sequence[str] | None = None,
    few: int = 50,
    checked: int = 8,
    steps: int = 16,
    baselines: Sequence[str] = ("mean", "blur"),
    seed: int = 0,
    progress: bool = True,
) -> BenchmarkTable:
    """Measures methods on studies.

    Args:
        predictor: The model.
        studies: Those with another label than the aspect's reference class are used, each with as many
            images as the model has views; masks are of the first.
        aspect: Single-label; localisation is measured where the studies have masks of that name.
        methods: Names of `list_methods()` and "random"; all that can explain a class unless given.
        few: How many studies the methods see that need many passes an image.
        checked: How many studies have their maps drawn anew for random weights and for noise; a
            quarter of them where a method needs many passes.
        steps: Of deletion and insertion.
        baselines: What stands where a pixel is gone (`explain.baselines`); sensitivity-n and
            infidelity use the first.
        seed: Of everything random.
        progress: Show a bar where stderr is a terminal.

    Raises:
        ConfigurationError: No such aspect, method or baseline, a method that cannot explain a class, or
            a number under 1.
        DataError: No study has anything to find.
    """
    space = predictor.model.config.space[aspect]
    if space.multi_label:
        raise ConfigurationError(
            f"aspect {aspect!r} is multi-label; the benchmark takes single-label aspects"
        )
    if min(few, checked, steps) < 1 or not baselines:
        raise ConfigurationError(
            f"few {few}, checked {checked}, steps {steps}, {len(baselines)} baselines: each at least 1"
        )
    section = next((s for s, a in predictor.model.config.section_aspects.items() if a == aspect), None)
    names = _checked_methods(methods, section)
    found = [s for s in studies if s.labels.get(aspect) in set(space.classes) - {space.reference}]
    if not found:
        raise DataError(aspect, f"no study of {len(studies)} has a class to find", "give labelled studies")

    many = [name for name in names if name in _MANY_PASSES]
    cheap = [name for name in names if name not in _MANY_PASSES]
    chunks: list[tuple[Sequence[Study], list[str]]] = [(found[:few], names), (found[few:], cheap)]
    checks = [(found[:checked], cheap), (found[: -(-checked // 4)], many)]
    work = sum(len(part) * len(running) for part, running in chunks + checks)
    measured: dict[str, list[Columns]] = defaultdict(list)
    stability: dict[str, list[dict[str, Floats]]] = defaultdict(list)
    with tqdm(total=work, disable=None if progress else True, unit="map") as bar:
        forward = None
        for part, running in chunks:
            for batch in batches_of(predictor, part, aspect, section):
                forward = forward or _seconds_of_forward(predictor.model, batch)
                shared = _shared_numbers(predictor.model, batch, baselines, seed)
                for name in running:
                    bar.set_postfix_str(name)
                    measured[name].append(_measure(predictor.model, name, batch, shared, steps, seed))
                    bar.update(len(batch.findings))
        for part, running in checks:
            for batch in batches_of(predictor, part, aspect, section):
                for name in running:
                    bar.set_postfix_str(f"{name}, random weights and noise")
                    stability[name].append(_stability(predictor.model, name, batch, seed))
                    bar.update(len(batch.findings))

    columns = {name: _joined(parts) for name, parts in measured.items()}
    rows = [
        _row(name, columns[name], _joined(stability[name]), columns.get(EVIDENCE), baselines, space.classes)
        | {"cost": float(columns[name]["seconds"].mean() / forward) if forward and name != RANDOM else None}
        for name in names
    ]
    settings = {
        "model": predictor.name,
        "aspect": f"{aspect}, true class against {space.reference}",
        "studies": {
            c: sum(s.labels[aspect] == c for s in found) for c in space.classes if c != space.reference
        },
        "few": min(few, len(found)),
        "checked": f"{min(checked, len(found))} studies, {_WEIGHT_SEEDS} random weights, {_NOISES} noises",
        "steps": steps,
        "baselines": list(baselines),
        "seed": seed,
        "forward_seconds": forward,
    }
    return BenchmarkTable(settings, rows)


def _checked_methods(methods: Sequence[str] | None, section: str | None) -> list[str]:
    """The names to run, or an error about the first that cannot."""
    able = [name for name in list_methods() if ClassTarget in get_method(name).targets]
    if section is not None:
        able.append(SECTION)
    if methods is None:
        return [*able, RANDOM]
    for name in methods:
        if name not in (*able, RANDOM):
            raise ConfigurationError(
                f"{name!r} cannot be benchmarked on a class; these can: {', '.join(able)}, {RANDOM}"
            )
    return list(methods)


@dataclass(frozen=True)
class Shared:
    """What does not depend on the method: baseline images by name, parts, and the score each part loses."""

    baselines: dict[str, Tensor]
    parts: Tensor
    drops: Tensor


def _shared_numbers(model: MDNet, batch: Batch, baselines: Sequence[str], seed: int) -> Shared:
    images = batch.pixel_values
    emptied = {name: baseline_images(name, model, images) for name in baselines}
    parts = random_parts(images.shape[2:], seed=seed).to(images.device)
    drops = score_drops(Scorer(model, batch.target), images, parts, baseline=emptied[baselines[0]])
    return Shared(emptied, parts, drops)


def _measure(model: MDNet, name: str, batch: Batch, shared: Shared, steps: int, seed: int) -> Columns:
    """Every number of one method for every study of a batch."""
    images, scorer = batch.pixel_values, Scorer(model, batch.target)
    began = time.perf_counter()
    drawn = draw(model, name, batch, seed)
    maps = maps_of(drawn).cpu().to(images.device)  # a copy to the CPU waits for the device
    seconds = (time.perf_counter() - began) / len(images)
    result = {"seconds": np.full(len(images), seconds)} | _localisation(maps, images, batch.masks, seed)
    for baseline, emptied in shared.baselines.items():
        for kind, curve_of in (("deletion", deletion), ("insertion", insertion)):
            curve = curve_of(scorer, images, maps, baseline=emptied, steps=steps, seed=seed)
            result[f"{kind}_{baseline}"] = _numpy(curve.area)
            result[f"{kind}_probability_{baseline}"] = _numpy(curve.mapped(torch.sigmoid).area)
        result |= {
            f"original_{baseline}": _numpy(curve.original),
            f"emptied_{baseline}": _numpy(curve.emptied),
        }
    sums = attributed(maps, images, shared.parts)
    result["sensitivity_n"] = _numpy(sensitivity_n(sums, shared.drops))
    result["infidelity"] = _numpy(infidelity(sums, shared.drops))
    result["residual"] = np.full(len(images), np.nan)
    if isinstance(drawn, Maps):
        with torch.inference_mode():
            score = scorer(images) if drawn.score is None else drawn.score
        result["residual"] = _numpy((score - drawn.maps.sum(dim=(1, 2)) - drawn.offset).abs())
    label = batch.target.label
    answers = [finding.aspects[str(batch.target.aspect)].label == label for finding in batch.findings]
    space = model.config.space[str(batch.target.aspect)]
    result["label"] = np.full(len(images), float(space.index(str(label))))
    result["correct"] = np.array(answers, float)
    return result


def _localisation(maps: Tensor, images: Tensor, masks: NDArray[np.bool_], seed: int) -> Columns:
    """How maps meet masks; NaN where there is no mask."""
    heat, seen = maps.double().cpu().numpy(), masks.any(axis=(1, 2))
    enlarged = map_values(maps.double(), images).cpu().numpy()
    result = {
        name: np.full(len(maps), np.nan) for name in ("pointing", "energy", "best_iou", "rank_accuracy")
    }
    if seen.any():
        result["pointing"][seen] = pointing_game(heat[seen], masks[seen])
        result["energy"][seen] = energy_in_mask(heat[seen], masks[seen])
        result["best_iou"][seen] = best_iou(heat[seen], masks[seen])
        result["rank_accuracy"][seen] = relevance_rank_accuracy(enlarged[seen], masks[seen], seed=seed)
    return result


def _stability(model: MDNet, name: str, batch: Batch, seed: int) -> dict[str, Floats]:
    """Rank correlation with maps of random weights, part by part, and maximum sensitivity."""
    result = parameter_randomisation(
        model, lambda other: maps_of(draw(other, name, batch, seed)), seeds=range(seed, seed + _WEIGHT_SEEDS)
    )
    result["maximum_sensitivity"] = _numpy(
        maximum_sensitivity(
            lambda images: maps_of(draw(model, name, replace(batch, pixel_values=images), seed)),
            batch.pixel_values,
            samples=_NOISES,
            seed=seed,
        )
    )
    return result


def _row(
    name: str,
    columns: Columns,
    stability: dict[str, Floats],
    evidence: Columns | None,
    baselines: Sequence[str],
    classes: Sequence[str],
) -> dict[str, Any]:
    """One method's record."""
    studies = len(columns["label"])
    row: dict[str, Any] = {
        "method": name,
        "by_design": name != RANDOM and get_method(name).by_design,
        "studies": studies,
        "correct": float(columns["correct"].mean()),
    }
    for key in ("pointing", "energy", "rank_accuracy", "best_iou"):
        row[key] = _mean(columns[key])
    row["pointing_by_class"] = {
        classes[int(label)]: _mean(columns["pointing"][columns["label"] == label])
        for label in np.unique(columns["label"])
    }
    for baseline in baselines:
        emptied = columns[f"emptied_{baseline}"].mean()
        fall = columns[f"original_{baseline}"].mean() - emptied
        for kind in ("deletion", "insertion"):
            area = columns[f"{kind}_{baseline}"]
            row[f"{kind}_{baseline}_area"] = float(area.mean())
            # An empty image that scores as high as the whole one leaves no scale.
            row[f"{kind}_{baseline}"] = float((area.mean() - emptied) / fall) if fall else None
            row[f"{kind}_probability_{baseline}"] = float(columns[f"{kind}_probability_{baseline}"].mean())
        if evidence is not None and name != EVIDENCE:
            for scale, unit in (("", fall), ("_probability", 1.0)):
                if not unit:
                    continue
                key = f"deletion{scale}_{baseline}"
                # The first studies of both are the same.
                interval = confidence_interval((columns[key] - evidence[key][:studies]) / unit)
                key = f"behind_evidence{scale}_{baseline}"
                row |= {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}
    for key in ("sensitivity_n", "infidelity"):
        row[key] = _mean(columns[key])
    residual = columns["residual"]
    row["residual"] = None if np.isnan(residual).all() else float(residual.max())
    row["maximum_sensitivity"] = _mean(stability.pop("maximum_sensitivity"))
    row["random_weights_by_part"] = {part: float(values.mean()) for part, values in stability.items()}
    last = list(stability.values())[-1]
    row["checked"] = len(last)
    return row | {"random_weights": float(last.mean()), "survives": survives(last)}


def _joined(parts: list[Columns]) -> Columns:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _mean(values: Floats) -> float | None:
    """Over the studies to which it applies."""
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.detach().double().cpu().numpy()
    return array


@torch.inference_mode()
def _seconds_of_forward(model: MDNet, batch: Batch) -> float:
    """Seconds an image of a plain forward pass of the batch; the quickest of five."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        _ = model(batch.pixel_values).logits[batch.target.aspect].cpu()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / len(batch.pixel_values)
