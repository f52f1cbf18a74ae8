"""Label spaces: as `dataset.json` declares them, or as the labels of a set suggest.

Without a declaration the classes of an aspect are those of the training studies. They are put in
the order of `SEVERITY` where every one of them stands there, so that grades such as normal, mild,
severe are known to be ordered; numbers are put in numerical order, other names in alphabetical.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from mdnet.data.study import Aspect, LabelSpace, Study
from mdnet.errors import ConfigurationError, did_you_mean

__all__ = ["DIAGNOSES", "SEVERITY", "did_you_mean", "infer_label_space", "label_space_from", "order_classes"]

SEVERITY: tuple[tuple[str, ...], ...] = (
    ("normal", "none", "absent", "negative", "preserved", "inconspicuous", "no", "false"),
    ("acceptable", "minimal", "trace"),
    ("mild", "low", "low grade", "rare", "partially lost", "borderline"),
    ("moderate", "intermediate", "intermediate grade"),
    ("marked", "high", "high grade", "frequent", "lost", "prominent"),
    ("severe", "very severe", "positive", "yes", "true"),
)
"""Words of grades, least first; a word of an earlier group is less than one of a later group."""

DIAGNOSES = ("diagnosis", "conclusion", "label")
"""Names of the aspect that concludes, where nothing says which one does."""

_RANK = {word: rank for rank, words in enumerate(SEVERITY) for word in words}
_ASPECT_KEYS = ("name", "classes", "reference", "ordered", "multi_label")


def order_classes(classes: Iterable[str]) -> tuple[tuple[str, ...], str, bool]:
    """Classes in order, the reference class, and whether they are grades."""
    names = sorted(set(classes))
    ranks = [_RANK.get(name.lower()) for name in names]
    known = [rank for rank in ranks if rank is not None]
    if len(known) == len(names) and len(set(known)) == len(names):
        ordered = tuple(sorted(names, key=lambda name: _RANK[name.lower()]))
        return ordered, ordered[0], True
    if all(name.isdecimal() for name in names):
        numbers = tuple(sorted(names, key=int))
        return numbers, numbers[0], False
    nothing = [name for name in names if name.lower() in SEVERITY[0]]
    return tuple(names), nothing[0] if nothing else names[0], False


def infer_label_space(
    studies: Sequence[Study], diagnosis: str | None, *, splits: Collection[str] = ("train",)
) -> tuple[LabelSpace, list[str]]:
    """The label space of the training studies (of all studies where those have no labels).

    An aspect is multi-label if most of its labels are lists.

    Args:
        studies: With their labels as read.
        diagnosis: The aspect that concludes; else one that is named in `DIAGNOSES`, else the only
            aspect there is, else none.
        splits: Of the training studies, and of those that were parted from them without regard to labels.

    Returns:
        The label space, and the aspects left out of it because they have one class only.
    """
    training = any(study.split in splits and study.labels for study in studies)
    seen: dict[str, set[str]] = {}
    lists: Counter[str] = Counter()
    for study in studies:
        if training and study.split not in splits:
            continue
        for name, label in study.labels.items():
            lists[name] += 1 if isinstance(label, tuple) else -1
            seen.setdefault(name, set()).update((label,) if isinstance(label, str) else label)
    multi_label = {name for name, surplus in lists.items() if surplus >= 0}
    aspects, left_out = [], []
    for name, classes in seen.items():
        if len(classes) < (1 if name in multi_label else 2):
            left_out.append(name)
            continue
        names, reference, grades = order_classes(classes)
        aspects.append(
            Aspect(name, names, reference, grades and name not in multi_label, name in multi_label)
        )
    names = tuple(aspect.name for aspect in aspects)
    if diagnosis not in names:
        likely = [name for name in DIAGNOSES if name in names] or (list(names) if len(names) == 1 else [])
        diagnosis = likely[0] if likely else None
    return LabelSpace(tuple(aspects), diagnosis), left_out


def label_space_from(record: Mapping[str, Any]) -> LabelSpace:
    """The label space that `dataset.json` declares.

    Raises:
        ConfigurationError: It is not a label space; the message says why.
    """
    aspects = record.get("aspects", [])
    if not isinstance(aspects, list):
        raise ConfigurationError('\'aspects\' is no list: write [{"name": ..., "classes": [...]}, ...]')
    parsed = []
    for number, aspect in enumerate(aspects):
        if not isinstance(aspect, dict) or not isinstance(aspect.get("name"), str):
            raise ConfigurationError(
                f'aspects[{number}] has no name: write {{"name": ..., "classes": [...]}}'
            )
        for key in aspect:
            if key not in _ASPECT_KEYS:
                problem = (
                    f"aspect {aspect['name']!r} has an unknown key {key!r}{did_you_mean(key, _ASPECT_KEYS)}"
                )
                raise ConfigurationError(f"{problem}: it has {', '.join(_ASPECT_KEYS)}")
        classes = aspect.get("classes")
        if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
            raise ConfigurationError(f"aspect {aspect['name']!r} has classes {classes!r}: list their names")
        for key in ("ordered", "multi_label"):
            if not isinstance(aspect.get(key, False), bool):
                raise ConfigurationError(
                    f"aspect {aspect['name']!r} has {key} {aspect[key]!r}: true or false"
                )
        parsed.append(Aspect(**{**aspect, "reference": aspect.get("reference") or ""}))
    names = [aspect.name for aspect in parsed]
    diagnosis = record.get("diagnosis")
    if diagnosis is not None and diagnosis not in names:
        hint = did_you_mean(str(diagnosis), names)
        raise ConfigurationError(f"diagnosis {diagnosis!r} is none of the aspects {names}{hint}")
    return LabelSpace(tuple(parsed), diagnosis)
