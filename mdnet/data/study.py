"""The records that every reader gives and everything else takes: study, aspect, label space.

The words are those of docs/method.md: a study is one case and the unit of every split; an aspect
is one thing that a report speaks of, with a label set; a section is the text for one aspect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from mdnet.errors import ConfigurationError, DataError

__all__ = ["MISSING", "SPLITS", "Aspect", "Fault", "LabelSpace", "Study", "StudySet"]

SPLITS = ("train", "val", "test")
MISSING = -100  # index of a label that is not there, as torch.nn.functional.cross_entropy ignores it


@dataclass(frozen=True)
class Aspect:
    """One thing that a report speaks of, and its label set.

    Attributes:
        name: For example `mitosis`.
        classes: The label set, in order of severity where `ordered`.
        reference: The class with nothing to report (absent, normal); evidence is read against it.
            The first class unless named.
        ordered: The classes are grades.
        multi_label: Classes do not exclude each other (sigmoid instead of softmax).
    """

    name: str
    classes: tuple[str, ...]
    reference: str = ""
    ordered: bool = False
    multi_label: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.reference and self.classes:
            object.__setattr__(self, "reference", self.classes[0])
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < (1 if self.multi_label else 2):
            raise ConfigurationError(
                f"aspect {self.name!r} has classes {list(self.classes)}: name at least "
                f"{1 if self.multi_label else 2}, each once"
            )
        if self.reference not in self.classes:
            raise ConfigurationError(
                f"aspect {self.name!r} has reference {self.reference!r}, which is none of its classes "
                f"{list(self.classes)}"
            )

    @property
    def reference_index(self) -> int:
        return self.classes.index(self.reference)

    def index(self, label: str) -> int:
        """Position of `label` in `classes`; if it is none of them, a `ConfigurationError` that names them."""
        try:
            return self.classes.index(label)
        except ValueError:
            raise ConfigurationError(
                f"aspect {self.name!r} has no class {label!r}; its classes: {', '.join(self.classes)}"
            ) from None


@dataclass(frozen=True)
class LabelSpace:
    """All aspects of a data set or model, and which of them concludes."""

    aspects: tuple[Aspect, ...] = ()
    diagnosis: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "aspects", tuple(self.aspects))
        if len(set(self.names)) != len(self.names):
            raise ConfigurationError(f"aspects {list(self.names)}: a name stands twice")
        if self.diagnosis is not None and self.diagnosis not in self.names:
            raise ConfigurationError(
                f"diagnosis {self.diagnosis!r} is none of the aspects {list(self.names)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(aspect.name for aspect in self.aspects)

    def __getitem__(self, name: str) -> Aspect:
        for aspect in self.aspects:
            if aspect.name == name:
                return aspect
        raise ConfigurationError(f"no aspect {name!r}; the aspects: {', '.join(self.names) or 'none'}")

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def to_dict(self) -> dict[str, Any]:
        """The `aspects` and `diagnosis` entries of `dataset.json`."""
        aspects = [asdict(aspect) | {"classes": list(aspect.classes)} for aspect in self.aspects]
        return {"aspects": aspects, "diagnosis": self.diagnosis}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> LabelSpace:
        aspects = tuple(Aspect(**aspect) for aspect in record.get("aspects", ()))
        return cls(aspects, record.get("diagnosis"))


@dataclass(frozen=True)
class Study:
    """One case.

    Attributes:
        id: Unique in its set.
        images: One path a view.
        split: `train`, `val`, `test`, or None where the data has no split.
        patient: Studies of one patient never stand in two splits.
        labels: Aspect name to class name, or to a tuple of class names (multi-label). A missing
            label has no entry.
        report: Section name to reference texts, one a writer; writer i is the same person in
            every section. Empty where there is no report.
        masks: Aspect or structure name to a PNG that is non-zero inside.
        source: File and line that the study was read from, for messages.
    """

    id: str
    images: tuple[Path, ...]
    split: str | None = None
    patient: str | None = None
    labels: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    report: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    source: str = ""

    def references(self) -> list[str]:
        """Whole reports, one a writer: writer i's sections joined by a space."""
        writers = max((len(texts) for texts in self.report.values()), default=0)
        sections = self.report.values()
        return [
            " ".join(texts[min(i, len(texts) - 1)] for texts in sections if texts) for i in range(writers)
        ]


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a data set: where, what, how to mend it."""

    where: str
    problem: str
    mend: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.problem}; {self.mend}"

    def as_error(self) -> DataError:
        return DataError(self.where, self.problem, self.mend)


@dataclass(frozen=True)
class StudySet:
    """A data set as read: its studies, its label space, and the faults met on the way.

    Attributes:
        root: Folder that it was read from.
        format: Name of the reader.
        studies: Only those that can be used; each of the others has a fault. A reader gives a
            `mdnet.data.study_list.StudyList`, which makes each when it is asked for.
        sections: Section names in the order of the report.
        faults: What the reader found wrong, in file order.
        left_out: Studies with an error, as far as they could be read; `mdnet data check` decodes
            their images too.
        without_images: Studies of a collection of which this folder holds a part: listed without fault,
            but none of their images is there.
        missing_images: Images that a list names and that are not there.
    """

    root: Path
    format: str
    studies: Sequence[Study]
    label_space: LabelSpace
    sections: tuple[str, ...]
    provenance: str = ""
    faults: tuple[Fault, ...] = ()
    left_out: tuple[Study, ...] = ()
    without_images: Sequence[Study] = ()
    missing_images: int = 0

    @property
    def splits(self) -> set[str | None]:
        """Names of the splits that have a study; None where one has no split."""
        return {study.split for study in self.studies}

    def split(self, name: str) -> Sequence[Study]:
        """Studies of one split; `DataError` if there are none."""
        chosen = [index for index, study in enumerate(self.studies) if study.split == name]
        if not chosen:
            have = sorted(map(str, self.splits))
            raise DataError(
                self.root, f"no study in split {name!r}", f"the splits there are: {', '.join(have)}"
            )
        from mdnet.data.study_list import StudyList  # which holds studies, so it comes after this module

        if isinstance(self.studies, StudyList):
            return self.studies.select(chosen)
        return tuple(self.studies[index] for index in chosen)

    def errors(self) -> Iterable[Fault]:
        return (fault for fault in self.faults if fault.severity == "error")
