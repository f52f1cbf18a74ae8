"""The Indiana chest X-rays in all their layouts, R2Gen's of MIMIC-CXR, and the real files at hand."""

import json
import logging
from dataclasses import replace

import pytest
from chest_folders import (
    EXAMS,
    Exam,
    by_id,
    change_cells,
    open_i_name,
    problems_of,
    r2gen_iu_entry,
    write_images,
    write_indiana,
    write_openi,
    write_r2gen,
)
from study_folders import real_data, write_image

from mdnet.data import read_studies
from mdnet.data.readers.indiana_studies import image_key, study_id
from mdnet.data.study import Aspect, LabelSpace, Study
from mdnet.errors import ConfigurationError, DataError


def plain(study, **changes):
    """Without what two layouts cannot share: the place in the file, and the split made up for it."""
    return replace(study, source="", split=None, images=tuple(path.name for path in study.images), **changes)


def test_the_pair_of_csv_files_is_read(tmp_path):
    studies = read_studies(write_indiana(tmp_path))
    assert studies.format == "indiana"
    assert studies.sections == ("findings", "impression")
    assert studies.label_space == LabelSpace(
        (
            Aspect("label", ("normal", "abnormal"), "normal"),
            Aspect("problems", ("Opacity", "Spine"), multi_label=True),
        ),
        "label",
    )
    found = by_id(studies)
    assert list(found) == [f"CXR{exam.number}_IM-{exam.number:04}" for exam in EXAMS]
    assert replace(found["CXR7_IM-0007"], split=None) == Study(
        "CXR7_IM-0007",
        (tmp_path / "images/7_IM-0007-1001.dcm.png", tmp_path / "images/7_IM-0007-2001.dcm.png"),
        None,
        None,
        {"label": "abnormal", "problems": ("Opacity", "Spine")},
        {"findings": ("A small opacity is seen.",), "impression": ("Opacity, left.",)},
        source=f"{tmp_path / 'indiana_reports.csv'}:2",
    )
    assert found["CXR30_IM-0030"].labels == {"label": "normal", "problems": ()}
    assert found["CXR31_IM-0031"].labels == {"label": "abnormal", "problems": ("Spine",)}
    assert found["CXR31_IM-0031"].report == {"impression": ("The heart is large.",)}
    assert found["CXR32_IM-0032"].labels == {}
    assert {study.split for study in studies.studies} == {"train", "val", "test"}


def test_what_a_clean_collection_does_not_use_is_told_with_counts(tmp_path):
    root = write_indiana(tmp_path)
    problems = problems_of(root)
    assert "1 problems are named in fewer than 2 reports: Cardiomegaly" in problems
    assert "1 reports were not indexed" in problems
    assert "sections of reports that are not read: indication (5)" in problems
    assert "empty text in section 'findings'" in problems
    assert "empty text in section 'impression'" in problems
    assert sum("no split; by a hash of the study" in problem for problem in problems) == 1
    assert len([problem for problem in problems if "not in train" not in problem]) == 6
    assert problems_of(root, "error") == []


@pytest.mark.parametrize(
    "folder",
    ["images", "images/images_normalized", "images_normalized", "sample_images", "NLMCXR_png", "png", "."],
)
def test_images_are_found_in_each_usual_folder_by_either_name(tmp_path, folder):
    for name in ("kaggle", "openi"):
        root = write_indiana(tmp_path / name, folder=None)
        for exam in EXAMS:
            names = (
                [open_i_name(exam, one) + ".png" for one in exam.names()] if name == "openi" else exam.names()
            )
            write_images(root / folder, names)
        studies = read_studies(root)
        assert (len(studies.studies), studies.missing_images) == (5, 0)
        assert by_id(studies)["CXR12_IM-0012"].images[0].parent == root / folder


def test_names_of_one_image_in_all_layouts():
    names = ["CXR7_IM-2263-1001.png", "7_IM-2263-1001.dcm.png", "CXR7_IM-2263-1001", "7_IM-2263-1001.JPG"]
    assert {image_key(name) for name in names} == {"7_IM-2263-1001"}
    assert image_key("CXR1_1_IM-0001-3001.png") == image_key("1_IM-0001-3001.dcm.png")
    assert study_id("7", names) == "CXR7_IM-2263"
    assert study_id("1", ["1_IM-0001-4001.dcm.png", "1_IM-0001-3001.dcm.png"]) == "CXR1_1_IM-0001"
    assert study_id("5", ["6_IM-0001-4001.dcm.png"]) == study_id("5", []) == "CXR5"


def test_a_part_of_the_images_is_enough_and_what_is_missing_is_counted(tmp_path, caplog):
    exams = [Exam(number) for number in range(2, 12)]
    root = write_indiana(tmp_path, exams, folder=None)
    write_images(root / "images", [*exams[3].names(), exams[5].names()[1], *exams[7].names()])
    with caplog.at_level(logging.WARNING):
        studies = read_studies(root)
    assert [len(study.images) for study in studies.studies] == [2, 1, 2]
    assert (len(studies.without_images), studies.missing_images, studies.left_out) == (7, 15, ())
    assert {study.report["findings"] for study in studies.without_images} == {("The lungs are clear.",)}
    told = [record.getMessage() for record in caplog.records]
    assert (
        "15 of the 20 images listed are not there, such as " + str(root / "images/2_IM-0002-1001") in told[0]
    )
    assert "7 of 10 studies have no image and are left out" in told[1]
    assert problems_of(root, "error") == []


def test_a_few_missing_images_are_named_each_at_its_place(tmp_path):
    root = write_indiana(tmp_path)
    (root / "images/12_IM-0012-1001.dcm.png").unlink()
    (root / "images/30_IM-0030-2001.dcm.png").unlink()
    found = {
        fault.where.rpartition(":")[2]: fault
        for fault in read_studies(root).faults
        if "no image" in fault.problem
    }
    assert found["3"].problem == f"no image {root / 'images/12_IM-0012-1001.dcm.png'}"
    assert found["4"].severity == "warning"
    assert "1 of 5 studies have no image and are left out" in problems_of(root)


def test_a_collection_without_any_of_its_images_is_an_error(tmp_path):
    root = write_indiana(tmp_path, folder=None)
    write_image(root / "images/elsewhere.png")
    with pytest.raises(DataError, match=r"none of the 9 images listed is there, such as .*7_IM-0007-1001"):
        read_studies(root)
    assert len(problems_of(root, "error")) == 1


def test_the_same_warning_many_times_is_one_line(tmp_path):
    root = write_indiana(tmp_path, [Exam(number, findings="") for number in range(2, 14)])
    (empty,) = [fault for fault in read_studies(root).faults if "empty text" in fault.problem]
    assert empty.where == f"{root / 'indiana_reports.csv'}:2"
    assert empty.problem == "empty text in section 'findings' (12 times: also at :3, :4, :5, :6, ...)"


def test_sections_and_classes_may_be_declared(tmp_path):
    root = write_indiana(tmp_path)
    problems = {"name": "problems", "classes": ["Cardiomegaly", "Spine"], "multi_label": True}
    record = {"aspects": [problems], "sections": ["indication", "impression"]}
    (root / "dataset.json").write_text(json.dumps(record))
    studies = read_studies(root)
    assert (studies.label_space.names, studies.sections) == (("problems",), ("indication", "impression"))
    study = by_id(studies)["CXR31_IM-0031"]
    assert study.labels == {"problems": ("Cardiomegaly", "Spine")}
    assert list(study.report) == ["indication", "impression"]
    (root / "dataset.json").write_text('{"sections": ["finding"]}')
    assert "no report has a section 'finding'" in problems_of(root, "error")


@pytest.mark.parametrize(
    ("file", "change", "severity", "problem"),
    [
        ("reports", (2, "uid", "7"), "error", "uid '7' stands twice, first at "),
        ("reports", (2, "uid", " "), "error", "id is ''"),
        ("reports", (2, "uid", "99"), "warning", "uid '12' is not in indiana_reports.csv"),
        ("reports", (2, "uid", "99"), "warning", "no image is listed"),
        ("projections", (2, "uid", "12"), "warning", "image '7_IM-0007-1001.dcm.png' is of another report"),
        ("projections", (1, "filename", ""), "error", "no filename"),
        ("projections", (2, "filename", "7_IM-0007-2001.dcm.png"), "error", "image '7_IM-0007-2001.dcm.png'"),
        ("projections", (1, "projection", "Latral"), "warning", "unknown projection 'Latral' (did you mean"),
        ("projections", (0, "filename", "file"), "error", "no column 'filename'"),
        ("reports", (0, "image", "uid"), "error", "a column's name stands twice"),
    ],
)  # fmt: skip
def test_faults_of_the_csv_files_are_told(tmp_path, file, change, severity, problem):
    root = write_indiana(tmp_path)
    change_cells(root / f"indiana_{file}.csv", change)
    assert any(found.startswith(problem) for found in problems_of(root, severity)), problems_of(root)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "byte 0 of line 7 is not UTF-8"),
        (b'99,normal,"normal', "broken table"),
        (b"99,normal\n", "2 cells under 8 columns"),
    ],
)
def test_a_broken_csv_file_is_an_error_in_its_row(tmp_path, content, problem):
    root = write_indiana(tmp_path)
    file = root / "indiana_reports.csv"
    file.write_bytes(file.read_bytes() + content)
    (fault,) = read_studies(root, strict=False).errors()
    assert fault.problem.startswith(problem)
    assert fault.where == f"{file}:7"


def test_reports_as_xml_are_read(tmp_path):
    studies = read_studies(write_openi(tmp_path))
    assert studies.format == "openi"
    assert [study.id for study in studies.studies][:2] == ["CXR7_IM-0007", "CXR12_IM-0012"]
    study = studies.studies[0]
    assert [path.name for path in study.images] == ["CXR7_IM-0007-1001.png", "CXR7_IM-0007-2001.png"]
    assert study.labels == {"label": "abnormal", "problems": ("Opacity", "Spine")}
    assert study.source == str(tmp_path / "ecgen-radiology/7.xml")


def test_xml_texts_are_joined_unescaped_and_counted(tmp_path):
    root = write_openi(tmp_path, [Exam(2, "A < B & C."), Exam(3)])
    file = root / "ecgen-radiology/2.xml"
    more = '<AbstractText Label="Findings">More <b>bold</b>.</AbstractText><AbstractText>X</AbstractText>'
    more += "</Abstract>"
    file.write_text(file.read_text().replace("</Abstract>", more))
    assert by_id(read_studies(root))["CXR2_IM-0002"].report["findings"] == ("A < B & C. More bold.",)
    assert "a text without label" in problems_of(root, "warning")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "broken XML"),
        ("<eCitation><a></eCitation>", "broken XML"),
        ("<html/>", "its element is 'html', not eCitation"),
        (
            '<!DOCTYPE e [<!ENTITY a "aaaa">]><eCitation>&a;</eCitation>',
            "no plain XML (it has a document type)",
        ),
        ('<?xml version="1.0" encoding="utf-99"?><eCitation/>', ""),
    ],
)
def test_a_broken_xml_file_is_an_error_of_that_file_only(tmp_path, content, problem):
    root = write_openi(tmp_path)
    (root / "ecgen-radiology/30.xml").write_text(content)
    studies = read_studies(root, strict=False)
    (fault,) = studies.errors()
    assert problem in fault.problem
    assert fault.where.startswith(str(root / "ecgen-radiology/30.xml"))
    assert len(studies.studies) == 4


def test_an_xml_report_without_images_is_left_out_and_told(tmp_path):
    root = write_openi(tmp_path, [*EXAMS, Exam(50, views=())])
    studies = read_studies(root)
    assert [study.id for study in studies.left_out] == ["CXR50"]
    assert "no image is listed" in problems_of(root, "warning")
    (root / "ecgen-radiology/51.xml").write_bytes((root / "ecgen-radiology/7.xml").read_bytes())
    assert any(problem.startswith("report '7' stands twice") for problem in problems_of(root, "error"))


def test_indiana_studies_are_the_same_in_all_their_layouts(tmp_path):
    """What differs by nature: R2Gen has the findings only, no `problems`, and `no_indexing` as a class."""
    exams = [Exam(1, problems=("Opacity",), views=(("4001", "Frontal"), ("3001", "Lateral"))), *EXAMS]
    kaggle = by_id(read_studies(write_indiana(tmp_path / "kaggle", exams)))
    openi = by_id(read_studies(write_openi(tmp_path / "openi", exams)))
    entries = [r2gen_iu_entry(exam, "train") for exam in exams if exam.findings]
    entries[0]["id"] = "CXR1_1_IM-0001"
    r2gen = by_id(read_studies(write_r2gen(tmp_path / "r2gen", {"train": entries})))
    assert list(kaggle) == list(openi)
    for name, study in kaggle.items():
        same_images = [image_key(path.name) for path in openi[name].images]
        assert [image_key(path.name) for path in study.images] == same_images
        assert replace(plain(study), images=()) == replace(plain(openi[name]), images=())
    assert set(r2gen) == set(kaggle) - {"CXR31_IM-0031"}
    for name, study in r2gen.items():
        assert study.report["report"] == kaggle[name].report["findings"]
        assert len(study.images) == len(kaggle[name].images)
        if study.labels["label"] != "no_indexing":
            assert study.labels["label"] == kaggle[name].labels["label"]


def test_r2gen_entries_of_indiana_find_images_by_their_projections(tmp_path):
    exam = Exam(7)
    pairs = [[name, view] for name, (_, view) in zip(exam.names(), exam.views, strict=True)]
    content = {
        "train": [r2gen_iu_entry(exam, "train", projections=pairs), r2gen_iu_entry(Exam(8), "train")],
        "val": [r2gen_iu_entry(Exam(9), "val", projections=5)],
    }
    root = write_r2gen(tmp_path, content, images=False)
    write_images(root / "sample_images", [open_i_name(exam, exam.names()[1]) + ".png"])
    studies = read_studies(root)
    assert [study.images for study in studies.studies] == [(root / "sample_images/CXR7_IM-0007-2001.png",)]
    assert (len(studies.without_images), studies.missing_images) == (2, 5)
    assert studies.studies[0].split == "train"  # no val is carved where the list has one
    write_images(root / "images", content["train"][0]["image_path"])
    assert len(read_studies(root).studies[0].images) == 2


def test_r2gen_entries_of_mimic_are_one_image_each_with_their_patient(tmp_path):
    entry = {
        "id": "0a-1", "study_id": 50000001, "subject_id": 10000032, "report": "Clear.",
        "image_path": ["p10/p10000032/s50000001/0a-1.jpg"], "split": "train",
    }  # fmt: skip
    other = entry | {"id": "0b-2", "image_path": ["p10/p10000032/s50000001/0b-2.jpg"]}
    third = entry | {"id": "0c-3", "image_path": ["p11/p11/s5/0c-3.jpg"], "split": "val", "subject_id": 11}
    root = write_r2gen(tmp_path, {"train": [entry, other], "val": [third], "test": []})
    studies = read_studies(root)
    assert studies.faults == ()
    assert replace(studies.studies[0], source="") == Study(
        "0a-1", (root / "images" / entry["image_path"][0],), "train", "10000032", {}, {"report": ("Clear.",)}
    )
    assert [(study.id, study.patient) for study in studies.studies[1:]] == [
        ("0b-2", "10000032"),
        ("0c-3", "11"),
    ]


# the real files


def test_real_chest_reports_in_two_layouts_need_the_format_named():
    with pytest.raises(ConfigurationError, match="could be in format r2gen or indiana: name one"):
        read_studies(real_data("iu_xray"))


def listed(studies):
    return {study.id: study for part in (studies.studies, studies.without_images) for study in part}


def test_real_chest_reports_as_csv_and_as_r2gen_are_the_same_studies():
    root = real_data("iu_xray")
    kaggle = read_studies(root, format="indiana")
    r2gen = read_studies(root, format="r2gen")
    assert {len(kaggle.studies), len(r2gen.studies)} == {2}
    assert (len(listed(kaggle)), kaggle.missing_images) == (3851, 7462)
    assert (len(listed(r2gen)), r2gen.missing_images) == (2955, 5906)
    splits = [study.split for study in listed(r2gen).values()]
    assert [splits.count(name) for name in ("train", "val", "test")] == [2069, 296, 590]
    others = listed(kaggle)
    for name, study in listed(r2gen).items():
        other = others[name]
        assert study.report["report"] == other.report["findings"]
        assert study.images == other.images
        assert study.labels["label"] == other.labels.get("label", "no_indexing")
