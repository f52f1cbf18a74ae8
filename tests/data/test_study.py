"""The records: aspects, label spaces, studies, faults."""

import pytest

from mdnet.data.study import Aspect, Fault, LabelSpace, Study, StudySet
from mdnet.errors import ConfigurationError, DataError


def test_the_reference_is_the_first_class_unless_named():
    assert Aspect("a", ("x", "y")).reference == "x"
    assert Aspect("a", ("x", "y"), "y").reference_index == 1
    assert Aspect("a", ["x", "y"]).index("y") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"classes": ("x",)},
        {"classes": ("x", "x")},
        {"classes": ()},
        {"classes": ("x", "y"), "reference": "z"},
    ],
)
def test_an_aspect_that_cannot_be_is_refused(arguments):
    with pytest.raises(ConfigurationError, match="aspect 'a'"):
        Aspect("a", **arguments)


def test_an_unknown_class_or_aspect_names_the_known(tmp_path):
    space = LabelSpace((Aspect("a", ("x", "y")),), "a")
    with pytest.raises(ConfigurationError, match="its classes: x, y"):
        space["a"].index("z")
    with pytest.raises(ConfigurationError, match="the aspects: a"):
        space["b"]
    with pytest.raises(ConfigurationError, match="diagnosis 'b'"):
        LabelSpace(space.aspects, "b")
    with pytest.raises(ConfigurationError, match="stands twice"):
        LabelSpace(space.aspects * 2)


def test_a_label_space_comes_back_from_its_dictionary():
    space = LabelSpace((Aspect("a", ("x", "y"), "y", True), Aspect("b", ("u",), multi_label=True)), "a")
    assert LabelSpace.from_dict(space.to_dict()) == space
    assert "a" in space
    assert "c" not in space


def test_references_join_the_sections_of_each_writer():
    report = {"a": ("A1.", "A2."), "b": ("B.",), "c": ()}
    assert Study("s", (), report=report).references() == ["A1. B.", "A2. B."]
    assert Study("s", ()).references() == []


def test_a_split_without_study_names_those_there_are(tmp_path):
    studies = StudySet(tmp_path, "studies", (Study("s", (), "train"),), LabelSpace(), ())
    assert studies.split("train") == studies.studies
    with pytest.raises(DataError, match="no study in split 'test'; the splits there are: train"):
        studies.split("test")


def test_a_fault_reads_as_one_line_and_raises_as_one(tmp_path):
    fault = Fault("file:3", "problem", "mend")
    assert str(fault) == "error: file:3: problem; mend"
    assert str(fault.as_error()) == "file:3: problem; mend"
    warning = Fault("file:3", "problem", "mend", "warning")
    assert list(StudySet(tmp_path, "x", (), LabelSpace(), (), faults=(fault, warning)).errors()) == [fault]
