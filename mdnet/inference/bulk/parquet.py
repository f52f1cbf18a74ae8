"""Reports as a Parquet file: a row a study, every column with its type.

| column | |
|---|---|
| `id`, `source`, `model` | text |
| `diagnosis`, `probability`, `abstained` | the class of the aspect that concludes; null where it abstains |
| `unusualness`, `out_of_distribution` | score and verdict; null where the model was not calibrated |
| `report`, `confidence` | the whole text, and the geometric mean of its words' probabilities |
| `sections` | a struct with the text of every section |
| `ASPECT_label`, `ASPECT_probability` | of every aspect |
| `probabilities` | a struct of every aspect, itself a struct of its classes |
| `details` | JSON: confidence by section, and what decoding was asked for beside the texts |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mdnet.data.study import LabelSpace
from mdnet.errors import MissingExtraError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["require_pyarrow", "schema_of", "write_parquet"]

_ROW_GROUP = 2048  # rows, which are in memory together


def require_pyarrow() -> None:
    """Raises `MissingExtraError` where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None


def schema_of(space: LabelSpace, sections: Sequence[str]) -> pyarrow.Schema:
    """The columns of a model's reports; the table at the head of this module says what they hold."""
    import pyarrow as pa

    fields: dict[str, pa.DataType] = {
        "id": pa.string(),
        "source": pa.string(),
        "model": pa.string(),
        "diagnosis": pa.string(),
        "probability": pa.float64(),
        "abstained": pa.bool_(),
        "unusualness": pa.float64(),
        "out_of_distribution": pa.bool_(),
        "report": pa.string(),
        "confidence": pa.float64(),
    }
    if sections:  # Parquet has no struct of nothing
        fields["sections"] = pa.struct([(name, pa.string()) for name in sections])
    for aspect in space.aspects:
        fields |= {f"{aspect.name}_label": pa.string(), f"{aspect.name}_probability": pa.float64()}
    if space.aspects:
        fields["probabilities"] = pa.struct(
            [
                (aspect.name, pa.struct([(label, pa.float64()) for label in aspect.classes]))
                for aspect in space.aspects
            ]
        )
    return pa.schema(list((fields | {"details": pa.string()}).items()))


def write_parquet(texts: Iterable[bytes], file: Path, *, space: LabelSpace, sections: Sequence[str]) -> None:
    """Writes a file of rows, a group of them at a time.

    Args:
        texts: Any number of rows each, as `mdnet.inference.bulk.rows.as_row` writes them.
        file: To write.
        space: Of the model.
        sections: Of the model.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema_of(space, sections)
    rows = (json.loads(line) for text in texts for line in text.split(b"\n") if line)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
