"""Train, val and test for studies that have none: by patient, with every class in its share, by a seed.

Studies of one patient, and those with an image in common, by its content, are one group and never
parted. Groups are dealt out by iterative stratification, as in

    Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011,
    doi 10.1007/978-3-642-23808-6_10, algorithm 1,

with groups in the place of examples: of the class that has the fewest studies left, each group, the
largest first, goes to the split that lacks most of that class; then the next class. Classes of all aspects
take part; the diagnosis alone would leave the others to chance. What has no label comes last and fills the
splits up. Groups of one size come in the order of SHA-256 of seed and study, so the result is the same on
any machine and whatever the order of the files.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mdnet.data.duplicates import same_images
from mdnet.data.readers.studies import STUDIES_FILE, write_studies
from mdnet.data.shard_index import shard_of
from mdnet.data.study import SPLITS, LabelSpace, Study, StudySet
from mdnet.data.study_list import StudyList
from mdnet.errors import ConfigurationError, DataError
from mdnet.files import writing_folder

__all__ = ["split_studies", "write_split"]

_log = logging.getLogger(__name__)


def split_studies(
    studies: StudySet,
    shares: Sequence[float],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> StudySet:
    """The studies, each with a split; those they have are not looked at.

    Args:
        studies: Those that can be used.
        shares: Of train, val and test, which sum to 1; train's is above 0.
        seed: Another seed, other splits.
        progress: Called with the number of images compared and the number of all.

    Raises:
        ConfigurationError: The shares are none.
        DataError: There are fewer groups than splits.
    """
    if len(shares) != len(SPLITS) or min(shares) < 0 or shares[0] <= 0 or abs(sum(shares) - 1) > 1e-6:
        found = ", ".join(f"{name} {share:g}" for name, share in zip(SPLITS, shares, strict=False))
        raise ConfigurationError(
            f"the shares are {found}: they sum to 1, train's is above 0, none is below 0"
        )
    same = same_images((path for study in studies.studies for path in study.images), progress=progress)
    groups = _groups(studies.studies, same, seed)
    if len(groups) < sum(share > 0 for share in shares):
        problem = f"{len(studies.studies)} studies in {len(groups)} groups that must not be parted"
        raise DataError(studies.root, problem, "bring more patients, or give val or test no share")
    least = min(share for share in shares if share > 0) * len(studies.studies)
    if (largest := max(map(len, groups))) > max(least, 1):
        problem = (
            "%d studies of one patient, or with the same images, stay together: more than a split's share"
        )
        _log.warning(problem, largest)
    sizes = np.array([len(group) for group in groups])
    counts = _class_counts(studies.studies, groups, studies.label_space)
    splits = [""] * len(studies.studies)
    for group, split in zip(groups, _deal(counts, sizes, shares), strict=True):
        for place in group:
            splits[place] = SPLITS[split]
    dealt = (replace(study, split=split) for study, split in zip(studies.studies, splits, strict=True))
    return replace(studies, studies=StudyList(dealt))


def write_split(studies: StudySet, folder: str | PathLike[str]) -> Path:
    """Writes `studies.jsonl` and `dataset.json`, which name images and masks where they are.

    Args:
        studies: As `split_studies` gives them.
        folder: One that is empty or does not exist; or the `studies.jsonl` in it.

    Returns:
        The folder.

    Raises:
        ConfigurationError: The folder holds something.
        DataError: The images are in shards, where no path leads.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name == STUDIES_FILE else folder
    if studies.studies and shard_of(studies.studies[0].images[0]) is not None:
        mend = "convert it to studies first: mdnet data convert"
        raise DataError(studies.root, "the images are in shards, which a list cannot name", mend)
    with writing_folder(folder) as partial:
        write_studies(replace(studies, studies=StudyList(map(_resolved, studies.studies))), partial)
    return folder


def _resolved(study: Study) -> Study:
    """With paths that hold from wherever they are looked at: links of folders are followed, not of files."""
    return replace(
        study,
        images=tuple(_folder(image.parent) / image.name for image in study.images),
        masks={name: _folder(mask.parent) / mask.name for name, mask in study.masks.items()},
    )


_folder = lru_cache(maxsize=1024)(Path.resolve)


def _groups(studies: Sequence[Study], same: Iterable[Sequence[Path]], seed: int) -> list[list[int]]:
    """Places of the studies that must not be parted; the largest group first, then as the seed has it."""
    representative = {path: group[0] for group in same for path in group}
    parents = list(range(len(studies)))  # a forest; a root stands for its group

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = place = parents[parents[place]]
        return place

    ids: list[str] = []
    first: dict[str | Path, int] = {}
    for place, study in enumerate(studies):
        ids.append(study.id)
        keys: list[str | Path] = [representative.get(path, path) for path in study.images]
        for key in keys if study.patient is None else [study.patient, *keys]:
            parents[root(place)] = root(first.setdefault(key, place))
    groups: dict[int, list[int]] = {}
    for place in range(len(ids)):
        groups.setdefault(root(place), []).append(place)

    def order(group: list[int]) -> tuple[int, bytes]:
        name = f"{seed} {min(ids[place] for place in group)}"
        return -len(group), hashlib.sha256(name.encode("utf-8", "replace")).digest()

    return sorted(groups.values(), key=order)


def _class_counts(
    studies: Sequence[Study], groups: Sequence[Sequence[int]], space: LabelSpace
) -> npt.NDArray[np.int64]:
    """How many studies of each class are in each group, (groups, classes)."""
    columns = {
        (aspect.name, name): column
        for column, (aspect, name) in enumerate(
            (aspect, name) for aspect in space.aspects for name in aspect.classes
        )
    }
    counts = np.zeros((len(groups), len(columns)), np.int64)
    for row, group in enumerate(groups):
        for place in group:
            for aspect, label in studies[place].labels.items():
                for name in (label,) if isinstance(label, str) else label:
                    counts[row, columns[aspect, name]] += 1
    return counts


def _deal(
    counts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    shares: Sequence[float],
) -> list[int]:
    """The split of each group, by its number.

    Args:
        counts: Studies of each class in each group, (groups, classes).
        sizes: Studies of each group, (groups,).
        shares: Of each split.
    """
    share = np.array(shares)
    closed = np.where(share > 0, 0.0, -np.inf)  # a split without a share gets nothing
    wanted = np.outer(share, counts.sum(axis=0))  # studies that are still wanted, (splits, classes)
    wanted_in_all = share * sizes.sum()
    dealt = np.full(len(sizes), -1)

    def give(group: int, need: npt.NDArray[np.float64]) -> None:
        need = np.round(need, 9) + closed
        best = np.flatnonzero(need == need.max())
        split = best[np.argmax(np.round(wanted_in_all[best], 9))]
        dealt[group] = split
        wanted[split] -= counts[group]
        wanted_in_all[split] -= sizes[group]

    while (left := np.where(dealt < 0, counts.T, 0).sum(axis=1)).any():  # (classes,)
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for group in np.flatnonzero((dealt < 0) & (counts[:, rarest] > 0)).tolist():
            give(group, wanted[:, rarest])
    for group in np.flatnonzero(dealt < 0).tolist():
        give(group, wanted_in_all)
    return dealt.tolist()
