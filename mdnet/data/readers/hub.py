"""Data sets as the Hugging Face library `datasets` has them: a folder or a name of the hub, and columns.

A folder is one that `save_to_disk` made, or one that holds, itself or in `data/`, parquet, arrow or
JSON lines files (the first kind there is), whose names say the split (`train-00000-of-00002.parquet`):
of all of them, or of none. One such file may be named by itself.
Which column holds what is found as in a table (`mdnet.data.readers.columns`, `mdnet.data.readers.rows`).
Class numbers become the names that the data set gives them. A list of texts is several references.
Splits go by the usual names; where `train` is the only one, which is what the library calls a data set
without, patients are parted by a hash.

Images that are inside the table are written as they are, once, to `mdnet_images` in the library's own
cache (HF_DATASETS_CACHE), each named by the hash of its bytes: everything else takes paths.

Neither arrow nor, as the library writes it, parquet has check sums: damage that leaves a readable file
can change a word or a number without a sign.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdnet.data.readers.collector import Collector, is_file
from mdnet.data.readers.columns import find_columns
from mdnet.data.readers.options import ReaderOptions
from mdnet.data.readers.rows import Row, add_rows
from mdnet.data.readers.validation import settle_splits, split_named
from mdnet.data.study import StudySet
from mdnet.errors import DataError, ImageError, MissingExtraError
from mdnet.files import write_bytes

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["matches", "read"]

_SAVED = ("dataset_dict.json", "dataset_info.json")
_LOADERS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json"}
_BATCH = 64
_DICOM = slice(128, 132)


def matches(path: Path) -> bool:
    """Whether `save_to_disk` made the folder, or it or its `data/` holds files of data, or it is one."""
    return _is_saved(path) or bool(_files(path))


def read(path: Path, options: ReaderOptions) -> StudySet:
    """The studies of a folder or file, or of a data set of the hub if there is no such path.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: The library cannot load it, or it is not said of all of its files what split they are.
    """
    root = path.parent if path.is_file() else path
    collector = Collector(root, "hub")
    collector.load_dataset_file()
    splits = _load(path)
    rows: list[Row] = []
    for name, table in splits.items():
        if (split := split_named(name)) is None:
            mend = "it is not read; call it train, val or test"
            collector.warning(f"{path} {name}", f"unknown split {name!r}", mend)
            continue
        only = len(splits) == 1 and split == "train"  # what the library calls a set without splits
        rows += _rows(table, f"{path} {name}", None if only else split, options, collector)
    add_rows(rows, collector, folders=(root, root / "data"), options=options)
    settle_splits(collector, root)
    return collector.finish()


def _is_saved(root: Path) -> bool:
    return any((root / name).is_file() for name in _SAVED)


def _files(root: Path) -> list[Path]:
    """The files of data, all of one kind."""
    if root.is_file():
        return [root] if root.suffix in _LOADERS else []
    folders = [folder for folder in (root, root / "data") if folder.is_dir()]
    files = sorted(path for folder in folders for path in folder.iterdir() if path.is_file())
    kinds = ([path for path in files if path.suffix == ending] for ending in _LOADERS)
    return next(filter(None, kinds), [])


def _by_split(files: list[Path]) -> dict[str, list[str]]:
    """The files by the split that a part of their names says; train, as the library has it, if none does.

    Raises:
        DataError: Some names say a split, and some do not.
    """
    found: dict[str | None, list[Path]] = {}
    for file in files:
        splits = (split_named(part) for part in re.split(r"[^a-zA-Z]+", file.stem))
        found.setdefault(next(filter(None, splits), None), []).append(file)
    if None in found and len(found) > 1:
        problem = "its name says no split, though that of another file beside it does"
        raise DataError(found[None][0], problem, "put train, val or test in it, or take the file out")
    return {split or "train": list(map(str, each)) for split, each in found.items()}


def _load(root: Path) -> dict[str, Dataset]:
    """The data set's tables by split."""
    try:
        import datasets
        import pyarrow
    except ImportError:
        raise MissingExtraError("datasets", "datasets") from None
    try:
        if _is_saved(root):
            loaded = datasets.load_from_disk(str(root))
        elif files := _files(root):
            # Not load_dataset(folder): beside images it would take these alone.
            loaded = datasets.load_dataset(_LOADERS[files[0].suffix], data_files=_by_split(files))
        else:
            loaded = datasets.load_dataset(root.as_posix())
        splits = {"train": loaded} if isinstance(loaded, datasets.Dataset) else dict(loaded)
        for table in splits.values():
            table.data.table.validate(full=True)  # a damaged file could crash whoever reads it on trust
    except DataError:
        raise
    except (
        datasets.exceptions.DatasetsError, pyarrow.ArrowException, AttributeError, LookupError, OSError,
        TypeError, ValueError,
    ) as error:  # fmt: skip
        problem = f"datasets cannot load it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise DataError(root, problem, "check the folder, or the name and the network") from error
    return splits


def _rows(
    table: Dataset, where: str, split: str | None, options: ReaderOptions, collector: Collector
) -> Iterator[Row]:
    """The rows of one split, read some at a time."""
    from datasets import config

    columns = find_columns(list(table.features), options.columns, where=where)
    used = list(dict.fromkeys(columns.values()))
    folder = Path(config.HF_DATASETS_CACHE) / "mdnet_images"
    number = 0
    for batch in table.select_columns(used).with_format("arrow").iter(batch_size=_BATCH):
        for values in batch.to_pylist():
            place = f"{where}[{number}]"
            cells = {role: _in_words(values[name], table.features[name]) for role, name in columns.items()}
            try:
                cells["image"] = _image_names(cells["image"], folder, place)
            except ImageError as error:
                collector.error(error.where, error.problem, error.mend)
            else:
                yield Row(place, {"id": f"{where.rpartition(' ')[2]}-{number}", "split": split} | cells)
            number += 1


def _in_words(value: Any, feature: Any) -> Any:
    """The value, with class numbers as the names that the feature gives them; -1 is no class."""
    if isinstance(value, list):
        return [_in_words(one, getattr(feature, "feature", None)) for one in value]
    names = getattr(feature, "names", None)
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _image_names(cell: Any, folder: Path, where: str) -> Any:
    """Names of image files as `Row` has them; what is inside the table is written to `folder`."""
    if isinstance(cell, str) or cell is None:
        return cell
    return [_image_name(one, folder, where) for one in (cell if isinstance(cell, list) else [cell])]


def _image_name(image: Any, folder: Path, where: str) -> Any:
    """The name of the file of one image.

    Args:
        image: Its name; its bytes; or, as the library's feature `Image` has it, `bytes` and `path`.
        folder: Where bytes are written to.
        where: For messages.

    Raises:
        ImageError: It is DICOM: its header, with the patient's name, is not copied.
    """
    data, name = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    if not isinstance(data, bytes):
        return name
    if data[_DICOM] == b"DICM" or str(name).lower().endswith((".dcm", ".dicom")):
        raise ImageError(where, "a DICOM image inside the table", "write it to a file, and name it there")
    digest = hashlib.sha256(data).hexdigest()
    path = folder / digest[:2] / digest
    if not is_file(path):
        write_bytes(path, data)
    return str(path.absolute())
