"""Which column of a table holds what: as the user says it, else by the names that are common for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mdnet.data.readers.labels import did_you_mean
from mdnet.errors import ConfigurationError

__all__ = ["COMMON_NAMES", "find_columns"]

COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "study", "study_id", "uid", "image_id"),
    "image": (
        "image", "images", "image_path", "image_paths", "path", "paths", "file_name", "file", "image_file",
        "image_name", "image_index", "img", "img_path", "image_id",
    ),
    "report": ("report", "report_text", "text", "caption", "captions", "description"),
    "report.findings": ("findings",),
    "report.impression": ("impression",),
    "label": ("label", "labels", "class", "category", "target", "diagnosis", "finding_labels"),
    "patient": ("patient", "patient_id", "subject", "subject_id", "case_id"),
    "split": ("split", "subset", "partition"),
}  # fmt: skip
"""What a column may hold, and the names that it goes by, likeliest first; only letters and digits count."""

_SHOWN = 20


def find_columns(names: Sequence[str], named: Mapping[str, str], *, where: str) -> dict[str, str]:
    """What is held, as `ReaderOptions.columns` names it, to the name of the column that holds it.

    What the user names is taken so; the rest goes by `COMMON_NAMES`, but no further section or aspect
    is looked for beside those named. Findings and impression are sections where no column holds the
    whole report.

    Args:
        names: Of all columns, in their order.
        named: `ReaderOptions.columns`.
        where: The file, for messages.

    Raises:
        ConfigurationError: A column that is named is not there, or none holds the images.
    """
    for role, name in named.items():
        if name not in names:
            raise ConfigurationError(
                f"{where}: no column {name!r} for {role}{did_you_mean(name, names)}; {_columns_there(names)}"
            )
    found = dict(named)
    kinds = {role.partition(".")[0] for role in named}
    by_name = {_plain(name): name for name in reversed(names)}
    for role, common in COMMON_NAMES.items():
        kind = role.partition(".")[0]
        likely = [by_name[plain] for plain in map(_plain, common) if plain in by_name]
        if kind not in kinds and likely and not (kind != role and kind in found):
            found[role] = likely[0]
    if "image" not in found:
        raise ConfigurationError(
            f"{where}: no column for the images; name it: --column image=NAME; {_columns_there(names)}"
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _columns_there(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"the columns: {', '.join(names[:_SHOWN]) or 'none'}{more}"
