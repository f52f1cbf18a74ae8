"""From studies to batches: decoded images, label indices, word ids.

Everything random about an item (its writer, its augmentation) comes from one integer that the
sampler hands out with the index, so the order and the content of an epoch depend on the seed and
the epoch alone, not on workers or on what was loaded before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mdnet.data.augmentation import augment
from mdnet.data.images import load_image
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import MISSING, LabelSpace, Study
from mdnet.data.text import ReportTokenizer
from mdnet.data.views import as_strips

__all__ = ["Draw", "SeededSampler", "StudyBatch", "StudyDataset", "make_loader"]

MEMORY_LIMIT = 2 << 30  # bytes of decoded images kept; a larger set is decoded anew every epoch


class Draw(NamedTuple):
    """What a sampler hands out: which study, and the seed of what is random about it."""

    study: int
    seed: int


@dataclass(frozen=True)
class StudyItem:
    """One study, ready to be stacked; `images` are those of its views that are there, (views, C, H, W)."""

    id: str
    images: npt.NDArray[np.uint8]
    labels: Mapping[str, npt.NDArray[np.int64]]
    sections: Sequence[Sequence[int]]


@dataclass(frozen=True)
class StudyBatch:
    """A batch of studies.

    Attributes:
        ids: Study ids.
        images: (B, C, H, V W) uint8, the views side by side; `Preprocessing.normalise` makes pixel values
            of them.
        labels: Aspect name to (B,) class index or (B, classes); -100 where missing.
        tokens: (B, S, T) word ids, the end token last, then padding; None without sections.
        present: (B, V), true for a view that is there; None where all are.
    """

    ids: tuple[str, ...]
    images: Tensor
    labels: dict[str, Tensor]
    tokens: Tensor | None
    present: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> StudyBatch:
        """The same batch on another device."""
        return StudyBatch(
            self.ids,
            self.images.to(device, non_blocking=non_blocking),
            {name: label.to(device, non_blocking=non_blocking) for name, label in self.labels.items()},
            None if self.tokens is None else self.tokens.to(device, non_blocking=non_blocking),
            None if self.present is None else self.present.to(device, non_blocking=non_blocking),
        )


class StudyDataset(Dataset[StudyItem]):
    """Studies as `StudyItem`s.

    Args:
        studies: What to load.
        label_space: The model's aspects; labels of other aspects are not looked at.
        sections: The model's sections.
        tokenizer: The model's vocabulary; None without sections.
        preprocessing: How an image is decoded to its size.
        augmentation: A name of `mdnet.data.augmentation`.
        views: Most images of a study; those beyond are not looked at.

    Attributes:
        image_count: Images of all studies that are looked at.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        *,
        label_space: LabelSpace,
        sections: Sequence[str],
        tokenizer: ReportTokenizer | None,
        preprocessing: Preprocessing,
        augmentation: str = "none",
        views: int = 1,
    ) -> None:
        self.studies = list(studies)
        self.label_space = label_space
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.views = views
        self.sections = tuple(sections)
        self.tokenizer = tokenizer
        self._texts: dict[str, list[int]] = {}
        rows, columns = preprocessing.rows, preprocessing.columns
        self.image_count = sum(len(study.images[:views]) for study in self.studies)
        keep = self.image_count * rows * columns * preprocessing.channels <= MEMORY_LIMIT
        self._images: dict[int, npt.NDArray[np.uint8]] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, draw: Draw | int) -> StudyItem:
        index, seed = draw if isinstance(draw, tuple) else (draw, None)
        study = self.studies[index]
        generator = None if seed is None else np.random.default_rng(seed)
        images = self._views(index)
        if generator is not None:
            images = augment(images, self.augmentation, generator)
        return StudyItem(study.id, images, self._labels(study), self._words(study, generator))

    def _views(self, index: int) -> npt.NDArray[np.uint8]:
        """The study's first images, (views, C, H, W)."""
        if self._images is not None and index in self._images:
            return self._images[index]
        paths = self.studies[index].images[: self.views]
        images = np.stack([self.preprocessing.to_array(load_image(path)) for path in paths])
        if self._images is not None:
            self._images[index] = images
        return images

    def _labels(self, study: Study) -> dict[str, npt.NDArray[np.int64]]:
        labels = {}
        for aspect in self.label_space.aspects:
            label = study.labels.get(aspect.name)
            if not aspect.multi_label:
                index = MISSING if label is None else aspect.index(str(label))
                labels[aspect.name] = np.array(index)
            elif label is None:
                labels[aspect.name] = np.full(len(aspect.classes), MISSING)
            else:
                labels[aspect.name] = np.array([int(name in label) for name in aspect.classes])
        return labels

    def _words(self, study: Study, generator: np.random.Generator | None) -> list[list[int]]:
        """Ids of every section, written by one of its writers: a random one, or the first."""
        if self.tokenizer is None:
            return []
        choice = 0.0 if generator is None else generator.random()
        words: list[list[int]] = []
        for section in self.sections:
            texts = study.report.get(section, ())
            if not texts:
                words.append([])  # all padding: costs nothing
                continue
            text = texts[int(choice * len(texts))]
            if text not in self._texts:
                self._texts[text] = [*self.tokenizer.encode(text), self.tokenizer.end_id]
            words.append(self._texts[text])
        return words


class SeededSampler(Sampler[Draw]):
    """Every study once an epoch, in an order and with seeds that follow from (seed, epoch)."""

    def __init__(self, size: int, *, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(self.size)
        seeds = generator.integers(0, 2**63, size=self.size)
        return (Draw(int(index), int(seed)) for index, seed in zip(order, seeds, strict=True))


def collate(items: Sequence[StudyItem], *, pad_id: int, views: int) -> StudyBatch:
    """Stacks items; sections are padded to the longest of the batch."""
    images, present = as_strips([item.images for item in items], views)
    labels = {
        name: torch.from_numpy(np.stack([item.labels[name] for item in items])) for name in items[0].labels
    }
    tokens = None
    if items[0].sections:
        length = max(1, max(len(section) for item in items for section in item.sections))
        tokens = torch.full((len(items), len(items[0].sections), length), pad_id)
        for row, item in enumerate(items):
            for column, section in enumerate(item.sections):
                tokens[row, column, : len(section)] = torch.tensor(section, dtype=torch.long)
    return StudyBatch(
        ids=tuple(item.id for item in items),
        images=torch.from_numpy(images),
        labels=labels,
        tokens=tokens,
        present=None if present is None else torch.from_numpy(present),
    )


def make_loader(
    dataset: StudyDataset, *, batch_size: int, sampler: SeededSampler | None = None, workers: int = 0
) -> DataLoader[StudyItem]:
    """A loader of `StudyBatch`; without a sampler, in order and without augmentation.

    Args:
        dataset: What to load.
        batch_size: Studies a batch. A last batch of one is left out in training: BatchNorm has no
            variance there.
        sampler: For training.
        workers: Processes that decode; 0 decodes in this one, which is quickest for a set that
            fits into memory.
    """
    pad_id = dataset.tokenizer.pad_id if dataset.tokenizer is not None else 0
    function: Callable[[Sequence[StudyItem]], StudyBatch] = partial(
        collate, pad_id=pad_id, views=dataset.views
    )
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=function,
        drop_last=sampler is not None and len(dataset) > 1 and len(dataset) % batch_size == 1,
        persistent_workers=workers > 0,
    )
