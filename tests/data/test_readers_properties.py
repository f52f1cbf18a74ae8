"""Properties of the reader of our own layout: what is written is read again; no content crashes it."""

import json
import string
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_folders import write_image

from mdnet.data import read_studies
from mdnet.data.readers.studies import write_studies
from mdnet.data.study import Aspect, LabelSpace, Study, StudySet

NAME = st.text(string.ascii_letters + string.digits + " -_é眼", min_size=1, max_size=8).filter(str.strip)
TEXT = (
    st.text(min_size=1, max_size=20)
    .map(lambda text: text.encode("utf-8", "replace").decode().strip())
    .filter(bool)
)


@st.composite
def study_sets(draw):
    names = draw(st.lists(NAME, min_size=1, max_size=3, unique=True))
    aspects = tuple(
        Aspect(
            name,
            tuple(classes := draw(st.lists(NAME, min_size=2, max_size=4, unique=True))),
            draw(st.sampled_from(classes)),
            draw(st.booleans()),
            draw(st.booleans()),
        )
        for name in names
    )
    sections = draw(st.lists(NAME, min_size=1, max_size=3, unique=True))
    studies = []
    for number, identifier in enumerate(draw(st.lists(NAME, min_size=1, max_size=4, unique=True))):
        labels = {}
        for aspect in aspects:
            if aspect.multi_label:
                labels[aspect.name] = tuple(draw(st.lists(st.sampled_from(aspect.classes), unique=True)))
            elif draw(st.booleans()):
                labels[aspect.name] = draw(st.sampled_from(aspect.classes))
        report = {
            section: tuple(draw(st.lists(TEXT, min_size=1, max_size=3)))
            for section in sections
            if draw(st.booleans())
        }
        split = draw(st.sampled_from(["train", "val", "test", None]))
        studies.append((identifier, split, f"p{number}", labels, report))
    diagnosis = draw(st.sampled_from([None, *names]))
    return (
        studies,
        LabelSpace(aspects, diagnosis),
        tuple(sections),
        draw(st.text(string.printable, max_size=9)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=study_sets())
def test_what_is_written_is_read_again(tmp_path, drawn):
    records, label_space, sections, provenance = drawn
    image = tmp_path / "images/a b.png"
    if not image.exists():
        write_image(image)
        write_image(tmp_path / "images/other.png")
    studies = tuple(
        Study(identifier, (image,), split, patient, labels, report, {"m": tmp_path / "images/other.png"})
        for identifier, split, patient, labels, report in records
    )
    written = StudySet(tmp_path, "studies", studies, label_space, sections, provenance)
    write_studies(written, tmp_path)
    back = read_studies(tmp_path, strict=False)
    assert [without_source(study) for study in back.studies] == list(studies)
    assert (back.label_space, back.sections, back.provenance) == (label_space, sections, provenance)
    assert all(fault.problem.startswith("image ") for fault in back.errors())


def without_source(study):
    return Study(study.id, study.images, study.split, study.patient, study.labels, study.report, study.masks)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["id", "images", "split", "patient", "labels", "report", "masks", "other"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(JSON_VALUES | st.dictionaries(KEYS, JSON_VALUES), max_size=4), dataset=JSON_VALUES)
def test_no_content_of_the_files_crashes_the_reader(tmp_path, lines, dataset):
    (tmp_path / "studies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    studies = read_studies(tmp_path, strict=False)
    assert all(Path(fault.where.rpartition(":")[0] or fault.where) for fault in studies.faults)
    if lines:
        assert studies.faults
