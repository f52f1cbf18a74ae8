"""What a reader cannot see by looking at a folder, and a person has to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mdnet.data.readers.labels import did_you_mean
from mdnet.errors import ConfigurationError

__all__ = ["ABSENT", "COLUMNS", "PRESENT", "UNCERTAIN", "UNCERTAIN_CLASS", "ReaderOptions"]

UNCERTAIN = ("missing", "present", "absent", "class")
"""What becomes of a label that its annotator was uncertain of (CheXpert's -1): it is left out; it counts
as present, or as absent; or it is a class of its own. Irvin et al., "CheXpert", AAAI 2019, arXiv
1901.07031, section 4.1: U-Ignore, U-Ones, U-Zeros, U-MultiClass."""

PRESENT, ABSENT, UNCERTAIN_CLASS = "present", "absent", "uncertain"
"""Classes of an observation that is labelled 1, 0 and -1; the last where `class` is the policy."""

COLUMNS = ("id", "image", "report", "label", "patient", "split")
"""What a column of a table can hold. `report` and `label` may be of several columns, each a section or an
aspect of its own: `report.findings`, `label.grade`."""


@dataclass(frozen=True)
class ReaderOptions:
    """What is said about a data set beside its folder.

    Attributes:
        columns: What a column holds, by a name of `COLUMNS`, to the column's name in the file. Only
            tables and Hugging Face data sets are asked.
        uncertain: A name of `UNCERTAIN`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    uncertain: str = "missing"

    def __post_init__(self) -> None:
        for role, column in self.columns.items():
            if not isinstance(column, str) or not column:
                raise ConfigurationError(f"the column of {role!r} is {column!r}; give its name as text")
            kind, _, name = role.partition(".")
            if kind not in COLUMNS or (name and kind not in ("report", "label")):
                raise ConfigurationError(
                    f"no column can be {role!r}{did_you_mean(role, COLUMNS)}; a column is one of "
                    f"{', '.join(COLUMNS)}, report.SECTION or label.ASPECT"
                )
        if self.uncertain not in UNCERTAIN:
            hint = did_you_mean(self.uncertain, UNCERTAIN)
            raise ConfigurationError(
                f"uncertain is {self.uncertain!r}{hint}; it is one of {', '.join(UNCERTAIN)}"
            )

    def observation(self, value: int) -> str | None:
        """The class of an observation labelled 1 (present), 0 (absent) or -1 (uncertain); None: no label."""
        if value >= 0:
            return PRESENT if value else ABSENT
        return {"missing": None, "class": UNCERTAIN_CLASS}.get(self.uncertain, self.uncertain)
