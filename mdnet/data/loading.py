"""From studies to batches: decoded images, label indices, word ids.

Everything random about an item (its writer, its augmentation) comes from one integer that the
sampler hands out with the index, so the order and the content of an epoch depend on the seed and
the epoch alone, not on workers or on what was loaded before.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import active_children
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mdnet.data.augmentation import augment
from mdnet.data.cache import ImageCache, load_array
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.sampling import Draw, StepSampler
from mdnet.data.study import MISSING, LabelSpace, Study
from mdnet.data.text import ReportTokenizer
from mdnet.data.views import as_strips
from mdnet.errors import DataError, MDNetError

__all__ = ["StudyBatch", "StudyDataset", "StudyLoader", "make_loader"]

_TEXTS_KEPT = 20_000  # encoded reports; beyond, a report is encoded whenever it is drawn
_DYING = 5.0  # seconds that a worker may take to be dead after its connection broke: it dumps its core first
_CAUSES = {
    signal.SIGKILL: ", which the system does where memory runs out",
    signal.SIGBUS: ", as where shared memory (/dev/shm) runs out",
}

_logger = logging.getLogger(__name__)


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

    def first(self, count: int) -> StudyBatch:
        """The batch of its first studies; it may be of none."""
        return StudyBatch(
            self.ids[:count],
            self.images[:count],
            {name: label[:count] for name, label in self.labels.items()},
            None if self.tokens is None else self.tokens[:count],
            None if self.present is None else self.present[:count],
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> StudyBatch:
        """The same batch on another device."""
        return StudyBatch(
            self.ids,
            self.images.to(device, non_blocking=non_blocking),
            {name: label.to(device, non_blocking=non_blocking) for name, label in self.labels.items()},
            None if self.tokens is None else self.tokens.to(device, non_blocking=non_blocking),
            None if self.present is None else self.present.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> StudyBatch:
        """The same batch in memory that a GPU reads by itself; torch's loader calls it."""
        return StudyBatch(
            self.ids,
            self.images.pin_memory(),
            {name: label.pin_memory() for name, label in self.labels.items()},
            None if self.tokens is None else self.tokens.pin_memory(),
            None if self.present is None else self.present.pin_memory(),
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
        cache: Where decoded images are kept; without, they are decoded whenever they are drawn.

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
        cache: ImageCache | None = None,
    ) -> None:
        self.studies = studies
        self.label_space = label_space
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.views = views
        self.sections = tuple(sections)
        self.tokenizer = tokenizer
        self._texts: dict[str, list[int]] = {}
        self.image_count = sum(len(study.images[:views]) for study in studies)
        self._load = partial(load_array, preprocessing=preprocessing) if cache is None else cache.load

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, draw: Draw | int) -> StudyItem:
        index, seed = draw if isinstance(draw, tuple) else (draw, None)
        study = self.studies[index]
        generator = None if seed is None else np.random.default_rng(seed)
        loaded = [self._load(path) for path in study.images[: self.views]]
        images = np.stack(loaded) if len(loaded) > 1 else loaded[0][None]  # (views, C, H, W)
        if generator is not None:
            images = augment(images, self.augmentation, generator)
        return StudyItem(study.id, images, self._labels(study), self._words(study, generator))

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
            if (ids := self._texts.get(text)) is None:
                ids = [*self.tokenizer.encode(text), self.tokenizer.end_id]
                if len(self._texts) < _TEXTS_KEPT:
                    self._texts[text] = ids
            words.append(ids)
        return words


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
    dataset: StudyDataset, *, batch_size: int = 1, batches: StepSampler | None = None, workers: int = 0
) -> StudyLoader[StudyBatch]:
    """A loader of `StudyBatch`; without `batches`, in order and without augmentation.

    Args:
        dataset: What to load.
        batch_size: Studies a batch, where `batches` does not say.
        batches: For training: which studies make which batch.
        workers: Processes that decode; 0 decodes in this one, which is quickest for a set that is in the
            cache.
    """
    in_order = [range(at, min(at + batch_size, len(dataset))) for at in range(0, len(dataset), batch_size)]
    return StudyLoader(_Batches(dataset), in_order if batches is None else batches, workers=workers)


Batch = TypeVar("Batch")


class StudyLoader(Generic[Batch]):
    """Batches, made in this process or in workers that are started anew once if one of them dies.

    Args:
        dataset: Makes a batch of what the sampler hands out, or gives an error in its place.
        batches: What it hands out, gone through once an epoch.
        workers: As `make_loader` takes it.
    """

    def __init__(
        self,
        dataset: Dataset[Batch | MDNetError],
        batches: StepSampler | Sequence[Sequence[int]],
        *,
        workers: int,
    ) -> None:
        self._dataset, self._batches, self._workers = dataset, _Rest(batches), workers
        self._loader: DataLoader[Any] | None = None
        self._processes: list[BaseProcess] = []

    def __len__(self) -> int:
        return len(self._batches.whole)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of an epoch.

        Raises:
            DataError: A file cannot be loaded; or workers died twice in the epoch.
        """
        self._batches.done = 0
        died = False
        while True:
            try:
                for batch in self._begun():
                    if isinstance(batch, MDNetError):
                        raise batch
                    self._batches.done += 1
                    yield batch
                return
            except (RuntimeError, EOFError, OSError) as error:  # as the death shows, by its moment
                if (dead := self._dead_worker()) is None:
                    raise
                fault = self._obituary(dead)
                self._loader, self._processes = None, []
                if died:
                    raise fault from error
                died = True
                _logger.warning("%s. The workers are started anew, and go on where they were", fault)

    def _begun(self) -> Iterator[Batch | MDNetError]:
        if self._loader is None:
            self._loader = DataLoader(
                self._dataset,
                batch_size=None,  # an item is a batch
                sampler=self._batches,
                generator=torch.Generator(),  # seeds workers, who use none, without the process's own
                num_workers=self._workers,
                collate_fn=_as_it_is,
                pin_memory=torch.cuda.is_available(),
                persistent_workers=self._workers > 0,
            )
        if not self._workers:
            return iter(self._loader)
        # torch's handler raises wherever this process is when a worker ends, which may be in the middle of a
        # training step. Without it, the death is noticed where the next batch is waited for.
        handler = signal.getsignal(signal.SIGCHLD)
        before = active_children()
        batches = iter(self._loader)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
        self._processes += [process for process in active_children() if process not in before]
        return batches

    def _dead_worker(self) -> BaseProcess | None:
        if self._processes:
            wait([process.sentinel for process in self._processes], _DYING)
        return next((process for process in self._processes if not process.is_alive()), None)

    def _obituary(self, process: BaseProcess) -> DataError:
        """What a worker died of, as far as it can be known."""
        code = process.exitcode
        problem = f"ended with exit code {code}"
        if code is not None and code < 0:
            killer = signal.Signals(-code)
            problem = f"was killed by {killer.name}{_CAUSES.get(killer, '')}"
        return DataError(f"loader process {process.pid}", problem, f"use fewer workers than {self._workers}")


class _Batches(Dataset[StudyBatch | MDNetError]):
    """Studies by the batch. An error is a batch too: only so does its type come out of a worker."""

    def __init__(self, dataset: StudyDataset) -> None:
        self.dataset = dataset
        tokenizer = dataset.tokenizer
        self.pad_id = 0 if tokenizer is None else tokenizer.pad_id

    def __getitem__(self, draws: Sequence[Draw] | Sequence[int]) -> StudyBatch | MDNetError:
        try:
            items = [self.dataset[draw] for draw in draws]
        except MDNetError as error:
            return error
        return collate(items, pad_id=self.pad_id, views=self.dataset.views)


class _Rest(Sampler[Any]):
    """What is left of an epoch's batches; `done` of them are not."""

    def __init__(self, whole: StepSampler | Sequence[Sequence[int]]) -> None:
        self.whole, self.done = whole, 0

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.whole), self.done, None)


def _as_it_is(batch: Any) -> Any:
    return batch
