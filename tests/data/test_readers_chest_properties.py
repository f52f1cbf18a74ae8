"""Properties of the readers of chest X-ray collections: round trips, and a byte that is not what it was."""

import contextlib
import itertools

import pytest
from chest_folders import (
    EXAMS,
    OBSERVATIONS,
    RADIOGRAPHS,
    Exam,
    Radiograph,
    r2gen_iu_entry,
    write_indiana,
    write_mimic,
    write_openi,
    write_r2gen,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_folders import write_image

from mdnet.data import read_studies
from mdnet.data.readers import ReaderOptions
from mdnet.errors import ConfigurationError, DataError

SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
TEXT = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=' ",\n;<&>'), max_size=20)
VIEWS = st.lists(st.sampled_from(["Frontal", "Lateral"]), min_size=1, max_size=4)
PROBLEMS = st.just(["normal"]) | st.lists(
    st.sampled_from(["Opacity", "Spine, Lower", "眼"]), min_size=1, unique=True
)
fresh = itertools.count()


@st.composite
def exams(draw):
    found = []
    for number in draw(st.lists(st.integers(2, 9999), min_size=1, max_size=4, unique=True)):
        views = [(f"{1001 + place}", view) for place, view in enumerate(draw(VIEWS))]
        found.append(Exam(number, draw(TEXT), draw(TEXT), draw(PROBLEMS), views))
    return found


@pytest.mark.parametrize("write", [write_indiana, write_openi])
@settings(max_examples=25, deadline=None, suppress_health_check=SHARED)
@given(written=exams())
def test_what_is_written_of_indiana_is_read_back(tmp_path, write, written):
    root = write(tmp_path / str(next(fresh)), written)
    studies = read_studies(root)
    assert studies.missing_images == 0
    common = studies.label_space["problems"].classes if "problems" in studies.label_space else ()
    assert len(studies.studies) == len(written)
    found = {study.id: study for study in studies.studies}
    for exam in written:
        study = found[f"CXR{exam.number}_IM-{exam.number:04}"]
        texts = {"findings": exam.findings.strip(), "impression": exam.impression.strip()}
        assert study.report == {name: (text,) for name, text in texts.items() if text}
        assert study.labels["label"] == ("normal" if exam.problems == ["normal"] else "abnormal")
        if common:
            assert study.labels["problems"] == tuple(name for name in exam.problems if name in common)
        names = exam.names()
        frontal = [name for name, (_, view) in zip(names, exam.views, strict=True) if view == "Frontal"]
        ordered = [
            name.split(".")[0] for name in [*frontal, *(name for name in names if name not in frontal)]
        ]
        assert [path.name.split(".")[0].removeprefix("CXR") for path in study.images] == ordered


@st.composite
def radiographs(draw):
    found = []
    dicoms = (f"{number:02x}-ab" for number in itertools.count())
    for number in draw(st.lists(st.integers(51000000, 59999999), min_size=1, max_size=3, unique=True)):
        views = draw(st.lists(st.sampled_from(["PA", "AP", "", "LL", "LATERAL"]), min_size=1, max_size=3))
        labels = draw(
            st.dictionaries(st.sampled_from(OBSERVATIONS[9:]), st.sampled_from(["1.0", "0.0", "-1.0"]))
        )
        words = st.lists(st.sampled_from(["Clear.", "no", "___", "5.2"]), min_size=1, max_size=5).map(
            " ".join
        )
        findings, impression = draw(words), draw(words)
        report = (
            f" FINAL REPORT\n INDICATION:  x\n \n FINDINGS:  {findings}\n \n IMPRESSION:\n {impression}\n"
        )
        images = [(next(dicoms), view) for view in views]
        split = draw(st.sampled_from(["train", "validate", "test"]))
        study = Radiograph(number, 10000000 + number, images, split, report, labels)
        found.append((study, findings, impression))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=SHARED)
@given(written=radiographs())
def test_what_is_written_of_mimic_is_read_back(tmp_path, written):
    validated = RADIOGRAPHS[2]  # without one, some of train would become val
    root = write_mimic(tmp_path / str(next(fresh)), [*(study for study, _, _ in written), validated])
    studies = read_studies(root, options=ReaderOptions(uncertain="class"))
    assert studies.studies[-1].id == str(validated.study)
    classes = {"1.0": "present", "0.0": "absent", "-1.0": "uncertain"}
    for found, (study, findings, impression) in zip(studies.studies[:-1], written, strict=True):
        assert (found.id, found.patient) == (str(study.study), str(study.subject))
        assert found.split == study.split.replace("validate", "val")
        assert found.report == {"findings": (findings,), "impression": (impression,)}
        labels = {name: label for name, label in found.labels.items() if name != "label"}
        assert labels == {name: classes[value] for name, value in study.labels.items()}
        rank = {"PA": 0, "AP": 1, "": 2, "LL": 3, "LATERAL": 3}
        ordered = sorted(study.images, key=lambda image: rank[image[1]])
        assert [path.stem for path in found.images] == [dicom for dicom, _ in ordered]


def write_r2gen_indiana(root):
    entries = [r2gen_iu_entry(exam, "train") for exam in EXAMS]
    return write_r2gen(root, {"train": entries[1:], "val": entries[:1]})


WRITERS = {
    "indiana": (write_indiana, ["indiana_reports.csv", "indiana_projections.csv"]),
    "openi": (write_openi, ["ecgen-radiology/7.xml", "ecgen-radiology/30.xml"]),
    "r2gen": (write_r2gen_indiana, ["annotation.json"]),
    "mimic_cxr": (
        lambda root: write_mimic(root, RADIOGRAPHS),
        [f"mimic-cxr-2.0.0-{kind}.csv" for kind in ("metadata", "split", "chexpert")]
        + ["files/p10/p10000032/s50000001.txt"],
    ),
    "mimic_cxr packed": (
        lambda root: write_mimic(root, RADIOGRAPHS, ending=".csv.gz"),
        [f"mimic-cxr-2.0.0-{kind}.csv.gz" for kind in ("metadata", "split", "chexpert")],
    ),
}


def holdings(studies):
    """The images of every study, usable or not, and everything that is told."""
    everything = [*studies.studies, *studies.without_images, *studies.left_out]
    return sorted(sorted(study.images) for study in everything), set(map(str, studies.faults))


@pytest.fixture(params=WRITERS)
def collection(request, tmp_path):
    """A collection that all examples of a test share: (read it, files by their content)."""
    write, names = WRITERS[request.param]
    root = write(tmp_path)
    write_image(root / "images/8_IM-0008-1001.png")  # may not be taken for another's
    files = {root / name: (root / name).read_bytes() for name in names}
    return lambda: holdings(read_studies(root, format=request.param.split()[0], strict=False)), files


@settings(max_examples=40, deadline=None, suppress_health_check=SHARED)
@given(data=st.data())
def test_a_flipped_byte_is_an_error_a_counted_skip_or_seen_in_a_study(collection, data):
    """No study and no image may be lost, or be taken for another's, without a line that says so."""
    read, files = collection
    for file, content in files.items():
        file.write_bytes(content)
    held, told = read()
    file = data.draw(st.sampled_from(list(files)))
    flipped = bytearray(files[file])
    place = data.draw(st.integers(0, len(flipped) - 1))
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    with contextlib.suppress(DataError, ConfigurationError):
        found, lines = read()
        assert found == held or lines - told, bytes(flipped[max(0, place - 20) : place + 20])
