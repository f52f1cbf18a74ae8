"""C(I) of many images, kept on disk: encoded once, then ranked by any number of queries.

A grid of C(I) is kept in half precision and read through a memory map, so memory does not grow with the
number of images. Half precision (11 bits) changes log p of a sentence by 1e-4 on average and 2e-3 at most
(`mdnet_tiny/phantom`, 64 tiles, 16 sentences: benchmarks/retrieval_scale.py). Logits and pooled features
are kept in single precision.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

import mdnet
from mdnet.data.shard_index import shard_of
from mdnet.data.study import Study
from mdnet.data.views import as_strips
from mdnet.errors import ConfigurationError, DataError, ImageError, WeightsError
from mdnet.inference.reading import ReadStudy, images_of, source_of
from mdnet.inference.retrieval.store_files import Card, Kept, StoreFiles
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

if TYPE_CHECKING:
    from mdnet.inference.predictor import Predictor

__all__ = ["FeatureStore", "NoImageError", "Rows", "card_of", "rows_of_features", "weights_hash"]

_log = logging.getLogger(__name__)

_BAR_AFTER = 2.0  # seconds
_ENCODER = ("image.", "heads.")  # what computes features and logits

Rows = slice | npt.NDArray[np.int64]


class NoImageError(ConfigurationError):
    """None of the images can be read."""


class FeatureStore:
    """The features of N studies of one or more images.

    Attributes:
        folder: Where they are kept.
        rows_folder: Where these rows are: what stands there goes with them.
        model: Whose features they are.
        sources: What findings would call the studies.
        images: Paths of each study's images.
        pooled: C(I), the mean over positions, (N, D).

    Args:
        files: The rows on disk.
        model: In evaluation mode.
    """

    def __init__(self, files: StoreFiles, model: MDNet) -> None:
        self.folder, self.rows_folder = files.folder, files.rows_folder
        self.model, self.card = model, files.card
        self.sources: Sequence[str] = [each.source for each in files.kept]
        self.images = [tuple(path for path, *_ in each.images) for each in files.kept]
        self.pooled: npt.NDArray[np.float32] = files.array("pooled.float32")  # type: ignore[assignment]
        self._grids, self._logits = files.array("grids.float16"), files.array("logits.float32")
        self._views = np.array([len(each) for each in self.images], np.int64)

    @classmethod
    def open(cls, folder: Path, *, model: MDNet) -> FeatureStore:
        """The store in a folder.

        Raises:
            ConfigurationError: There is none.
            DataError: It is damaged.
            WeightsError: The features are of other weights or another preprocessing.
        """
        files = StoreFiles(folder)
        _check_card(folder, files.card, model)
        return cls(files, model)

    @classmethod
    def build(
        cls,
        folder: Path,
        predictor: Predictor,
        sources: Sequence[Path | Study | Sequence[Path]],
        *,
        broken: list[str],
    ) -> FeatureStore:
        """The store of these studies: adds what is missing or has changed, drops what is gone.

        An image has changed when its size or its time of modification has. A killed build goes on where it
        stopped. The rows are in order of addition. Where nothing is to be done, nothing is written.

        Args:
            folder: New or empty, or of a store.
            predictor: Whose model encodes the images.
            sources: Studies of 1 to `model.views` images; of a `Study` the first.
            broken: Takes a line for every study that cannot be read, which is passed over.

        Raises:
            ConfigurationError: Another process builds the same store; or the folder holds other things.
            NoImageError: No image can be read.
            DataError: The store is damaged.
            WeightsError: It has features of other weights or another preprocessing.
        """
        wanted: dict[Kept, int] = {}
        for place, source in enumerate(sources):
            try:
                wanted.setdefault(_identity(source, predictor.model.views, place), place)
            except OSError as error:
                broken.append(f"{error.filename}: {error.strerror}; passed over")
        files = _up_to_date(folder, predictor.model, wanted)
        if files is None:
            with StoreFiles.writing(folder):
                files = _bring_up_to_date(folder, predictor, sources, wanted, broken=broken)
        if files is None or not files.kept:
            raise NoImageError(
                f"{folder}: no image to keep features of; give at least one that can be read"
                + (f" ({broken[0]})" if broken else "")
            )
        return cls(files, predictor.model)

    def __len__(self) -> int:
        return len(self.sources)

    def features(self, rows: Rows) -> ImageFeatures:
        """C(I) of some studies as the model computes with it, without blocks."""
        grid = torch.from_numpy(np.array(self._grids[rows])).to(self.model.device).to(self.model.dtype)
        views, present = self.card.views, None
        images = self._views[rows]
        if (images < views).any():
            present = torch.from_numpy(np.arange(views) < images[:, None]).to(grid.device)
        return ImageFeatures((), grid, self.card.rows, self.card.columns, views, present)

    def logits(self, rows: Rows) -> Mapping[str, Tensor]:
        """Aspect name to logits (n, classes), on the model's device."""
        logits = torch.from_numpy(np.array(self._logits[rows])).to(self.model.device)
        aspects = self.model.config.space.aspects
        parts = logits.split([len(aspect.classes) for aspect in aspects], dim=1) if aspects else ()
        return {aspect.name: part for aspect, part in zip(aspects, parts, strict=True)}


def card_of(model: MDNet, features: ImageFeatures, *, name: str) -> Card:
    """The card of a store of such features."""
    return Card(
        weights=weights_hash(model, *_ENCODER),
        preprocessing=_preprocessing_hash(model),
        model=name,
        version=mdnet.__version__,
        rows=features.rows,
        columns=features.columns,
        views=features.views,
        channels=features.grid.shape[-1],
        classes=sum(len(aspect.classes) for aspect in model.config.space.aspects),
    )


def rows_of_features(
    features: ImageFeatures, logits: Mapping[str, Tensor]
) -> dict[str, npt.NDArray[np.generic]]:
    """Features and logits of B studies as the files of a store take them."""
    grid = features.grid.float()
    bound = torch.finfo(torch.float16).max  # of an activation beyond it, infinity would make no number
    flat = [scores.float() for scores in logits.values()]
    return {
        "grids.float16": grid.clamp(-bound, bound).half().cpu().numpy(),
        "pooled.float32": features.pooled().float().cpu().numpy(),
        "logits.float32": torch.cat([grid.new_zeros(len(grid), 0), *flat], dim=1).cpu().numpy(),
    }


def _up_to_date(folder: Path, model: MDNet, wanted: Mapping[Kept, int]) -> StoreFiles | None:
    """The store in a folder if it has these studies and no other: its readers need no lock."""
    if not StoreFiles.are_in(folder):
        return None
    try:
        files = StoreFiles(folder)
    except DataError:  # maybe another process is just replacing the rows; the lock will tell
        return None
    _check_card(folder, files.card, model)
    return files if set(files.kept) == wanted.keys() else None


def _bring_up_to_date(
    folder: Path,
    predictor: Predictor,
    sources: Sequence[Path | Study | Sequence[Path]],
    wanted: Mapping[Kept, int],
    *,
    broken: list[str],
) -> StoreFiles | None:
    """The store with these studies (`wanted`, with their places in `sources`) and no other.

    None where there is none, and no study can be read.
    """
    files: StoreFiles | None = None
    missing = dict(wanted)
    if StoreFiles.are_in(folder):
        files = StoreFiles(folder)
        _check_card(folder, files.card, predictor.model)
        files.keep(np.array([row for row, each in enumerate(files.kept) if each in wanted], np.int64))
        for each in files.kept:
            del missing[each]
    studies = [(kept, sources[place], place) for kept, place in missing.items()]
    with tqdm(total=len(studies), unit="image", delay=_BAR_AFTER, disable=None) as bar:
        for start in range(0, len(studies), predictor.batch_size):
            batch = studies[start : start + predictor.batch_size]
            files = _add(folder, files, predictor, batch, broken)
            bar.update(len(batch))
    if files is not None and studies:
        size = sum(file.stat().st_size for file in files.rows_folder.iterdir() if file.is_file())
        _log.info("%s: keeps the features of %d studies, %.2f MB", folder, len(files.kept), size / 1e6)
    return files


@torch.inference_mode()
def _add(
    folder: Path,
    files: StoreFiles | None,
    predictor: Predictor,
    batch: Sequence[tuple[Kept, Path | Study | Sequence[Path], int]],
    broken: list[str],
) -> StoreFiles | None:
    """Adds a batch of studies to a store, which is made with the first of them."""
    read: list[tuple[Kept, ReadStudy]] = []
    reader = predictor.reader(keep_pictures=False)
    for kept, source, number in batch:
        try:
            read.append((kept, reader.read(source, number)))
        except ImageError as error:
            broken.append(str(error))
    if not read:
        return files
    for _, study in read:
        for warning in study.warnings:
            _log.warning("%s", warning)
    model = predictor.model
    strips, there = as_strips([study.arrays for _, study in read], model.views)
    pixel_values = predictor.preprocessing.normalise(torch.from_numpy(strips).to(predictor.device))
    present = None if there is None else torch.from_numpy(there).to(predictor.device)
    features = model.encode(pixel_values, present)
    logits = model.heads(features)[0] if model.heads is not None else {}
    files = files or StoreFiles.create(folder, card_of(model, features, name=predictor.name))
    files.append([kept for kept, _ in read], rows_of_features(features, logits))
    return files


def _identity(source: Path | Study | Sequence[Path], views: int, number: int) -> Kept:
    """A study and the state of its files.

    Raises:
        OSError: One is not there.
    """
    images = [Path(str(image)) for image in images_of(source, views)]
    found = [(shard_of(image) or image).stat() for image in images]
    identities = tuple((str(p), f.st_size, f.st_mtime_ns) for p, f in zip(images, found, strict=True))
    return Kept(source_of(images, number), identities)


def _check_card(folder: Path, card: Card, model: MDNet) -> None:
    if card.weights != weights_hash(model, *_ENCODER):
        raise WeightsError(
            f"{folder}: features of other weights ({card.model or 'unnamed'}); "
            "take those, or name another folder"
        )
    if card.preprocessing != _preprocessing_hash(model):
        raise WeightsError(
            f"{folder}: features of images that were preprocessed in another way; name another folder"
        )


def weights_hash(model: MDNet, *modules: str) -> str:
    """SHA-256 of the weights of some modules."""
    digest = hashlib.sha256(f"{model.views}".encode())
    for key, tensor in sorted(model.state_dict().items()):
        if key.startswith(modules):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _preprocessing_hash(model: MDNet) -> str:
    """SHA-256 of what is done with an image; what the training images were like is no part of it."""
    assert model.preprocessing is not None
    record = replace(model.preprocessing, intensity=None).to_dict()
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
