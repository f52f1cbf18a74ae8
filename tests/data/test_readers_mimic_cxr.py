"""MIMIC-CXR-JPG as PhysioNet publishes it, on small files of that shape."""

from dataclasses import replace

import pytest
from chest_folders import RADIOGRAPHS, Radiograph, by_id, change_cells, image_path, problems_of, write_mimic

from mdnet.data import read_studies
from mdnet.data.readers import ReaderOptions
from mdnet.data.readers.mimic_cxr import OBSERVATIONS
from mdnet.data.study import Aspect, LabelSpace, Study


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
@pytest.mark.parametrize("reports", ["files", "mimic-cxr-reports/files"])
def test_mimic_cxr_is_read(tmp_path, ending, reports):
    studies = read_studies(write_mimic(tmp_path, ending=ending, reports=reports))
    assert studies.format == "mimic_cxr"
    assert studies.sections == ("findings", "impression")
    assert studies.label_space.diagnosis == "label"
    assert studies.label_space.names == ("label", *OBSERVATIONS)
    assert studies.label_space["Edema"] == Aspect("Edema", ("absent", "present"), "absent")
    first, second, third, fourth = studies.studies
    names = [image_path(RADIOGRAPHS[0], dicom) for dicom in ("0c-3", "0b-2", "0a-1")]
    assert first == Study(
        "50000001",
        tuple(tmp_path / name for name in names),
        "train",
        "10000032",
        {
            "label": "abnormal",
            "Pleural Effusion": "present",
            "Pneumothorax": "absent",
            "Support Devices": "present",
        },
        {"findings": ("A small effusion.",), "impression": ("Effusion.",)},
        source=f"{tmp_path / f'mimic-cxr-2.0.0-metadata{ending}'}:2",
    )
    assert (second.labels, second.report) == ({"label": "normal"}, {"findings": ("Lungs are clear.",)})
    assert (third.split, third.labels) == ("val", {"Support Devices": "present"})
    assert third.report == {"findings": ("Clear lungs and no headings.",)}
    assert [path.stem for path in third.images] == ["0f-6", "0e-5"]
    assert (fourth.split, fourth.labels) == ("test", {})
    assert [fault.problem for fault in studies.faults] == [
        "sections of reports that are not read: comparison (1), indication (1)",
        "2 uncertain labels (-1) count as missing",
    ]


@pytest.mark.parametrize(
    ("policy", "edema", "pneumonia", "label"),
    [
        ("missing", None, None, None),
        ("present", "present", "present", "abnormal"),
        ("absent", "absent", "absent", None),
        ("class", "uncertain", "uncertain", None),
    ],
)
def test_uncertain_labels_follow_the_policy_and_are_counted(tmp_path, policy, edema, pneumonia, label):
    studies = read_studies(write_mimic(tmp_path), options=ReaderOptions(uncertain=policy))
    first, _, third, _ = studies.studies
    assert (first.labels.get("Edema"), third.labels.get("Pneumonia")) == (edema, pneumonia)
    assert third.labels.get("label") == label
    assert any(fault.problem == f"2 uncertain labels (-1) count as {policy}" for fault in studies.faults)
    classes = ("absent", "present", "uncertain") if policy == "class" else ("absent", "present")
    assert studies.label_space["Pneumonia"].classes == classes


def test_mimic_labels_are_negbio_s_where_only_those_are_there(tmp_path):
    assert by_id(read_studies(write_mimic(tmp_path, labeller="negbio")))["50000002"].labels == {
        "label": "normal"
    }
    changed = [replace(study, labels={"No Finding": ""}) for study in RADIOGRAPHS]
    write_mimic(tmp_path, changed)
    assert by_id(read_studies(tmp_path))["50000002"].labels == {}


def test_mimic_without_labels_metadata_or_split_is_read(tmp_path):
    root = write_mimic(tmp_path)
    (root / "mimic-cxr-2.0.0-chexpert.csv").unlink()
    assert read_studies(root).label_space == LabelSpace()
    (root / "mimic-cxr-2.0.0-metadata.csv").rename(root / "metadata.csv")
    studies = read_studies(root, format="mimic_cxr")
    assert [path.stem for path in studies.studies[0].images] == ["0a-1", "0b-2", "0c-3"]
    assert studies.studies[2].split == "val"
    (root / "metadata.csv").rename(root / "mimic-cxr-2.0.0-metadata.csv")
    (root / "mimic-cxr-2.0.0-split.csv").unlink()
    assert {study.split for study in read_studies(root).studies} == {"train", "val", "test"}
    assert any("no split; by a hash of the patient" in problem for problem in problems_of(root))


def test_mimic_reports_that_are_not_there_or_say_nothing_are_told(tmp_path):
    study = Radiograph(50000005, 13000001, (("11-8", "PA"),), report=None)
    empty = Radiograph(50000006, 13000001, (("12-9", "PA"),), report="INDICATION: Cough.")
    root = write_mimic(tmp_path, [*RADIOGRAPHS, study, empty])
    found = {fault.problem: fault.where for fault in read_studies(root).faults}
    assert found["no report"] == "p13/p13000001/s50000005.txt"
    assert found["no text in findings or impression"].endswith("s50000006.txt")
    assert by_id(read_studies(root))["50000005"].report == {}
    (root / "files/p13/p13000001/s50000006.txt").write_bytes(b"FINDINGS: \xff")
    assert problems_of(root, "error") == ["byte 10 is not UTF-8"]


def test_mimic_with_a_part_of_its_images_reads_those_studies(tmp_path):
    root = write_mimic(tmp_path)
    for study in RADIOGRAPHS[1:]:
        for dicom, _ in study.images:
            (root / image_path(study, dicom)).unlink()
    studies = read_studies(root)
    assert [study.id for study in studies.studies] == ["50000001"]
    assert [study.split for study in studies.without_images] == ["train", "val", "test"]
    assert studies.missing_images == 4


@pytest.mark.parametrize(
    ("file", "change", "severity", "problem"),
    [
        ("metadata", (1, "dicom_id", "../0a"), "error", "dicom_id is '../0a'"),
        ("metadata", (1, "subject_id", "x"), "error", "subject_id is 'x'"),
        ("metadata", (1, "study_id", ""), "error", "study_id is ''"),
        ("metadata", (2, "dicom_id", "0a-1"), "error", "image '0a-1' stands twice"),
        (
            "metadata",
            (2, "subject_id", "10000033"),
            "error",
            "study '50000001' is of patient '10000033', and of",
        ),
        ("split", (2, "split", "test"), "error", "study '50000001' stands in two splits: test, and train"),
        ("split", (1, "split", "trian"), "error", "unknown split 'trian' (did you mean 'train'?)"),
        ("split", (1, "dicom_id", "ff"), "warning", "an image that the metadata do not know so"),
        ("split", (1, "subject_id", "1"), "warning", "an image that the metadata do not know so"),
        ("chexpert", (1, "study_id", "9"), "warning", "labels of a study that is not listed"),
        ("chexpert", (2, "study_id", "50000001"), "error", "labels of study '50000001' stand twice"),
        ("chexpert", (1, "Edema", "2.0"), "error", "label of 'Edema' is '2.0'"),
        ("chexpert", (0, "Edema", "edema"), "error", "no column 'Edema'"),
    ],
)
def test_faults_of_the_mimic_files_are_told(tmp_path, file, change, severity, problem):
    root = write_mimic(tmp_path)
    change_cells(root / f"mimic-cxr-2.0.0-{file}.csv", change)
    assert any(found.startswith(problem) for found in problems_of(root, severity)), problems_of(root)
