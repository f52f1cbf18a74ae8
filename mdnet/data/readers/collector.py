"""What all readers share: turning entries of a file into studies, with a fault for each thing wrong.

A `Collector` gathers the studies of one data set. Its methods take a raw value from a file and the
place it stands, and give what a `Study` holds. After an error they give something empty, so that
the rest of the entry is checked too; a reader compares `error_count` before and after an entry: a
study with an error is not usable. `finish` compares the studies with each other and gives the set.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mdnet.data.readers.comparison import compare_studies, fold_warnings, repeated, sort_faults
from mdnet.data.readers.labels import did_you_mean, infer_label_space, label_space_from
from mdnet.data.readers.missing_images import PUT_IMAGE, MissingImages
from mdnet.data.study import SPLITS, Fault, LabelSpace, Study, StudySet
from mdnet.data.study_list import StudyList
from mdnet.errors import ConfigurationError

__all__ = ["DATASET_FILE", "Collector", "DatasetRecord", "is_file", "short"]

DATASET_FILE = "dataset.json"
_DATASET_KEYS = ("aspects", "diagnosis", "sections", "provenance")


@dataclass(frozen=True)
class DatasetRecord:
    """What `dataset.json` declares; None where it is silent."""

    label_space: LabelSpace | None = None
    diagnosis: str | None = None
    sections: tuple[str, ...] | None = None
    provenance: str = ""


class Collector:
    """Studies and faults of one data set while it is read.

    Args:
        root: The data set's folder.
        format: Name of the reader.
        partial: The data set is a collection whose images are fetched apart from its lists, so that a
            folder often holds some of them only: an image that is not there is then a warning, as long
            as any is there, and a study without any stands in `without_images`.
    """

    def __init__(self, root: Path, format: str, *, partial: bool = False) -> None:
        self.root = root
        self.format = format
        self.partial = partial
        self.studies: Sequence[Study] = StudyList()
        self.without_images: Sequence[Study] = StudyList()
        self.left_out: list[Study] = []
        self.faults: list[Fault] = []
        self.error_count = 0
        self.declared = DatasetRecord()
        self.carved: tuple[str, ...] = ()  # splits that were made here; then their classes count, too
        self._ids = array("q")  # hashes, of `studies`
        self._sections: dict[str, None] = {}
        self._unknown_keys: set[str] = set()
        self._missing = MissingImages()

    def error(self, where: str | Path, problem: str, mend: str) -> None:
        self.faults.append(Fault(str(where), problem, mend))
        self.error_count += 1

    def warning(self, where: str | Path, problem: str, mend: str) -> None:
        self.faults.append(Fault(str(where), problem, mend, "warning"))

    def load_json(self, file: Path) -> Any:
        """The content of a JSON file, or None after noting the error with its line."""
        try:
            return json.loads(file.read_text(encoding="utf-8-sig"))
        except OSError as error:
            self.error(file, f"cannot be read ({error.strerror})", "check path and permissions")
        except UnicodeDecodeError as error:
            self.error(file, f"byte {error.start} is not UTF-8", "save the file as UTF-8")
        except json.JSONDecodeError as error:
            self.error(f"{file}:{error.lineno}", f"broken JSON ({error.msg})", f"mend column {error.colno}")
        except RecursionError:
            self.error(file, "JSON nested too deeply", "write it as docs/data.md says")
        return None

    def load_dataset_file(self) -> None:
        """Takes note of what `dataset.json`, if there is one, declares."""
        file = self.root / DATASET_FILE
        if not file.is_file():
            return
        record = self.load_json(file)
        if record is None:
            return
        if not isinstance(record, dict):
            self.error(file, "not an object", 'write {"aspects": [...], "diagnosis": ...}')
            return
        for key in record:
            if key not in _DATASET_KEYS:
                hint = did_you_mean(key, _DATASET_KEYS)
                self.warning(file, f"unknown key {key!r}{hint}", f"known are {', '.join(_DATASET_KEYS)}")
        label_space = None
        try:
            label_space = label_space_from(record) if "aspects" in record else None
        except ConfigurationError as error:
            self.error(file, str(error), "correct it there")
        sections = record.get("sections")
        if sections is not None and not (_are_texts(sections) and len(set(sections)) == len(sections)):
            self.error(file, f"sections is {short(sections)}", "list the section names, each once")
            sections = None
        provenance = record.get("provenance") or ""
        if not isinstance(provenance, str):
            provenance = json.dumps(provenance, ensure_ascii=False)
        diagnosis = record.get("diagnosis")
        self.declared = DatasetRecord(
            label_space,
            diagnosis if isinstance(diagnosis, str) else None,
            None if sections is None else tuple(sections),
            provenance,
        )

    def note_unknown_keys(self, entry: Mapping[str, Any], where: str, known: tuple[str, ...]) -> None:
        """One warning a key, at the first place it stands, however many entries have it."""
        for key in entry:
            if key not in known and key not in self._unknown_keys:
                self._unknown_keys.add(key)
                self.warning(where, f"unknown key {key!r}{did_you_mean(key, known)}", "it is not used")

    def identifier(self, value: Any, where: str) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip():
            return value
        problem = "no id" if value is None else f"id is {short(value)}"
        self.error(where, problem, "give each study a name of its own")
        return ""

    def split(self, value: Any, where: str) -> str | None:
        """The split's name; None for none, and after noting an error."""
        if value is None or value in SPLITS:
            return value if value is None else str(value)
        hint = did_you_mean(str(value), SPLITS)
        self.error(where, f"unknown split {value!r}{hint}", f"use {', '.join(SPLITS)}")
        return None

    def patient(self, value: Any) -> str | None:
        return None if value is None or value == "" else str(value)

    def images(self, value: Any, where: str, folders: tuple[Path, ...]) -> tuple[Path, ...]:
        """Paths of a study's views, each looked for in `folders` in turn."""
        if not _are_texts(value) or not value:
            problem = "no images" if not value else f"images is {short(value)}"
            self.error(where, problem, "list at least one path")
            return ()
        found: list[Path] = []
        for name in value:
            candidates = [folder / name for folder in folders]
            path = next((candidate for candidate in candidates if is_file(candidate)), None)
            self.note_image(path, candidates[0], where)
            if path in found:
                self.warning(where, f"image {path} stands twice in one study", "name it once; it is one view")
            elif path is not None:
                found.append(path)
        return tuple(found)

    def note_image(self, found: Path | None, expected: Path, where: str) -> None:
        """Counts an image that a list names; if it was not found, that is an error, or told by `finish`."""
        if found is not None:
            self._missing.found += 1
        elif self.partial:
            self._missing.note(expected, where)
        else:
            self._missing.told += 1
            self.error(where, f"no image {expected}", PUT_IMAGE)

    def labels(self, value: Any, where: str) -> dict[str, str | tuple[str, ...]]:
        """Class names by aspect, checked against the declared label space, if there is one."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.error(where, f"labels is {short(value)}", 'write {"aspect": "class", ...}')
            return {}
        labels: dict[str, str | tuple[str, ...]] = {}
        for aspect, raw in value.items():
            if raw is None:
                continue
            label = _label(raw)
            if label is None:
                self.error(
                    where, f"label of {aspect!r} is {short(raw)}", "write a class name, or a list of them"
                )
            else:
                labels[aspect] = label
        if self.declared.label_space is not None:
            self._fit(labels, self.declared.label_space, where)
        return labels

    def _fit(
        self, labels: dict[str, str | tuple[str, ...]], space: LabelSpace, where: str, origin: str = ""
    ) -> bool:
        """Whether the labels are of the label space; a lone label of a multi-label aspect becomes a tuple.

        `origin` ends the message: where the label space was found.
        """
        good = True
        for name, label in list(labels.items()):
            if name not in space:
                hint = did_you_mean(name, space.names)
                mend = f"the aspects are {', '.join(space.names) or 'none'}{origin}"
                self.error(where, f"unknown aspect {name!r}{hint}", mend)
                good = False
                continue
            aspect = space[name]
            if isinstance(label, tuple) and not aspect.multi_label:
                mend = 'give one class, or declare "multi_label": true in dataset.json'
                problem = f"the label of aspect {name!r} is a list {short(list(label))}"
                self.error(where, problem, mend)
                good = False
                continue
            if isinstance(label, str) and aspect.multi_label:
                labels[name] = label = (label,)
            for one in (label,) if isinstance(label, str) else label:
                if one not in aspect.classes:
                    hint = did_you_mean(one, aspect.classes)
                    problem = f"unknown class {one!r} of aspect {name!r}{hint}"
                    self.error(where, problem, f"its classes are {', '.join(aspect.classes)}{origin}")
                    good = False
        return good

    def report(self, value: Any, where: str) -> dict[str, tuple[str, ...]]:
        """Section name to reference texts; a string or a list of strings is one section.

        Empty texts are left out with a warning: the study then trains without them.
        """
        if value is None:
            return {}
        if not isinstance(value, dict):
            only = self.declared.sections
            value = {only[0] if only and len(only) == 1 else "report": value}
        report = {}
        for section, raw in value.items():
            texts = [raw] if isinstance(raw, str) else raw
            if not _are_texts(texts):
                self.error(
                    where, f"report section {section!r} is {short(raw)}", "write a text, or a list of texts"
                )
                return {}
            if self.declared.sections is not None and section not in self.declared.sections:
                hint = did_you_mean(section, self.declared.sections)
                mend = f"the sections in {DATASET_FILE} are {', '.join(self.declared.sections)}"
                self.error(where, f"unknown section {section!r}{hint}", mend)
                return {}
            # a lone surrogate, which JSON can spell, could not be written out again
            kept = [text.strip().encode("utf-8", "replace").decode("utf-8") for text in texts if text.strip()]
            if len(kept) < max(1, len(texts)):
                what = "empty report" if section == "report" else f"empty text in section {section!r}"
                self.warning(where, what, "write it, or leave it: the study trains without")
            if kept:
                report[section] = tuple(kept)
        if not value:
            self.warning(where, "empty report", "write it, or leave it: the study trains without")
        return report

    def tell_unread_sections(self, counts: Mapping[str, int], where: str | Path) -> None:
        """One line for the sections that reports have and that are not read: name to number of reports."""
        if counts:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
            mend = f"list what to read under sections in {DATASET_FILE}"
            self.warning(where, f"sections of reports that are not read: {names}", mend)

    def masks(self, value: Any, where: str) -> dict[str, Path]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(path, str) and path for path in value.values()):
            self.error(where, f"masks is {short(value)}", 'write {"aspect or structure": "path", ...}')
            return {}
        masks = {}
        for name, path in value.items():
            if is_file(self.root / path):
                masks[name] = self.root / path
            else:
                self.warning(where, f"no mask {self.root / path}", "put the file there; it is left out")
        return masks

    def add(self, study: Study, *, usable: bool) -> None:
        """Takes a study in; it is left out if it is not usable, or, by `finish`, if its id is taken."""
        if not usable:
            self.left_out.append(study)
            return
        if self.partial and not study.images:
            assert isinstance(self.without_images, StudyList)
            self.without_images.append(study)
            return
        assert isinstance(self.studies, StudyList)
        self.studies.append(study)
        self._ids.append(hash(study.id))
        self._sections |= dict.fromkeys(study.report)

    def finish(self, *, patients_are_guessed: bool = False) -> StudySet:
        """Compares the studies with each other, and gives the set.

        Args:
            patients_are_guessed: Patients come from file names, so that one in two published splits
                is a warning and no error.
        """
        self._leave_out_repeated()
        without = len(self.without_images)
        for fault in self._missing.faults(self.root, studies=len(self.studies) + without, without=without):
            self.faults.append(fault)
            self.error_count += fault.severity == "error"
        label_space = self.declared.label_space
        if label_space is None:
            label_space = self._infer()
        self.faults += compare_studies(self.studies, label_space, patients_are_guessed=patients_are_guessed)
        sections = self.declared.sections
        if sections is None:
            sections = tuple(self._sections)
        if not self.studies and not self.error_count:
            self.error(self.root, "no study", "add studies, or check the path")
        return StudySet(
            self.root,
            self.format,
            self.studies if isinstance(self.studies, StudyList) else StudyList(self.studies),
            label_space,
            sections,
            self.declared.provenance,
            tuple(sort_faults(fold_warnings(self.faults))),
            tuple(self.left_out),
            self.without_images,
            self._missing.count + self._missing.told,
        )

    def _leave_out_repeated(self) -> None:
        """Of studies with one id, the first stays."""
        if not (taken := repeated(self._ids)):
            return
        firsts: dict[str, Study] = {}
        kept = []
        for index, study in enumerate(self.studies):
            first = firsts.setdefault(study.id, study) if self._ids[index] in taken else study
            if first is study:
                kept.append(index)
                continue
            self.left_out.append(study)
            if first.split != study.split:
                splits = f"{study.split}, and {first.split} at {first.source}"
                problem = f"study {study.id!r} stands in two splits: {splits}"
                self.error(study.source, problem, "keep it in one")
            else:
                problem = f"id {study.id!r} stands twice, first at {first.source}"
                self.error(study.source, problem, "give each study an id of its own")
        self.studies = StudyList(self.studies[index] for index in kept)

    def _infer(self) -> LabelSpace:
        """The label space of the training studies; the others' labels must be of it."""
        listed = (*self.studies, *self.without_images) if self.without_images else self.studies
        space, left_out = infer_label_space(listed, self.declared.diagnosis, splits=("train", *self.carved))
        for name in left_out:
            problem = f"aspect {name!r} has one class only"
            self.warning(self.root, problem, f"it is left out; name its classes in {DATASET_FILE} to keep it")
        kept = StudyList()
        for study in self.studies:
            labels = {name: label for name, label in study.labels.items() if name not in left_out}
            if self._fit(labels, space, study.source, f" in train; declare more in {DATASET_FILE}"):
                kept.append(replace(study, labels=labels))
            else:
                self.left_out.append(study)
        self.studies = kept
        return space


def short(value: Any) -> str:
    """A value as it stands in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_file(path: Path) -> bool:
    """Whether there is a file of that name, however long the name."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _label(raw: Any) -> str | tuple[str, ...] | None:
    """A class name or several; numbers and truth values are written out. None if it is neither."""
    if isinstance(raw, list):
        names = [one for one in map(_label, raw) if isinstance(one, str)]
        return tuple(dict.fromkeys(names)) if len(names) == len(raw) else None
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, int):
        return str(raw)
    return raw if isinstance(raw, str) and raw.strip() else None
