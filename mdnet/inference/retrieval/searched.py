"""The images that are searched: a folder of them, a data set, or a feature store; their features, kept.

Unless a folder for them is named, features are kept beside the decoded images of training
(`mdnet.data.cache`), in a folder named by what is searched and by the weights.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from mdnet.data.cache import cache_folder
from mdnet.errors import ConfigurationError, DataError, WeightsError
from mdnet.files import file_name
from mdnet.inference.bulk.inputs import list_inputs
from mdnet.inference.predictor import Predictor
from mdnet.inference.retrieval.store import FeatureStore, NoImageError
from mdnet.inference.retrieval.store_files import StoreFiles

__all__ = ["Searched", "open_searched"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Searched:
    """What is searched.

    Attributes:
        folder: As the user named it.
        store: Its images by their absolute paths.
        broken: The images that could not be read, a line each.
    """

    folder: Path
    store: FeatureStore
    broken: tuple[str, ...] = ()

    def name_of(self, row: int, *, in_folder: bool = False) -> str:
        """A study of the store by the paths of its images, under the name of the folder or relative to it."""
        root = self.folder.resolve()
        names = []
        for path in map(Path, self.store.images[row]):
            if path.is_relative_to(root):
                path = path.relative_to(root) if in_folder else self.folder / path.relative_to(root)
            names.append(str(path))
        return " + ".join(names)


def open_searched(folder: Path, predictor: Predictor, *, features: Path | None = None) -> Searched:
    """The features of the images in a folder; those are made that are not kept yet.

    Args:
        folder: Of images, to the bottom; a data set; or a feature store, which is searched as it is.
        predictor: Makes them.
        features: Folder to keep them in; one in the cache unless named.

    Raises:
        ConfigurationError: No image there, or none that can be read; or `features` holds other things.
        DataError: `features` is damaged.
        WeightsError: It holds those of other weights.
    """
    if StoreFiles.are_in(folder):
        return Searched(folder, FeatureStore.open(folder, model=predictor.model))
    inputs = list_inputs([str(folder.resolve())])
    place = features or _place(folder, predictor)
    broken = [str(each) for each in inputs.unreadable]
    try:
        store = FeatureStore.build(place, predictor, inputs.studies, broken=broken)
    except (WeightsError, DataError) as error:
        if features is not None:
            raise
        _log.info("%s; making them anew", error)
        shutil.rmtree(place)
        broken = [str(each) for each in inputs.unreadable]
        store = FeatureStore.build(place, predictor, inputs.studies, broken=broken)
    except NoImageError as error:
        raise ConfigurationError(f"{folder}: none of its images can be read: {broken[0]}") from error
    return Searched(folder, store, tuple(broken))


def _place(folder: Path, predictor: Predictor) -> Path:
    """The folder in the cache for what is searched and the weights."""
    named = os.fsencode(f"{folder.resolve()}\n{predictor.name}")
    digest = hashlib.sha256(named).hexdigest()[:16]
    return cache_folder().parent / "features" / f"{file_name(folder.resolve().name)}-{digest}"
