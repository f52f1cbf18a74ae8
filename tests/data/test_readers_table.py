"""Tables: columns, views, labels, splits, images."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_folders import write_image
from tables import CLEAN, HEADER, csv_text, one_fault, record, with_columns, write_table

from mdnet.data import read_studies
from mdnet.data.readers import ReaderOptions
from mdnet.data.readers.validation import carve_splits
from mdnet.data.study import Study
from mdnet.errors import ConfigurationError


@pytest.mark.parametrize("folder", ["images", "."])
@pytest.mark.parametrize(
    ("name", "delimiter", "encoding"),
    [
        ("studies.csv", ",", "utf-8"),
        ("studies.csv", ";", "utf-8-sig"),
        ("studies.csv", "\t", "utf-8"),
        ("studies.tsv", "\t", "utf-8"),
        ("STUDIES.CSV", ",", "utf-8"),
        ("studies.csv.gz", ",", "utf-8"),
        ("studies.tsv.gz", "\t", "utf-8-sig"),
    ],
)
def test_a_clean_table_is_read_whole(tmp_path, name, delimiter, encoding, folder):
    write_table(tmp_path, CLEAN, name=name, delimiter=delimiter, encoding=encoding, folder=folder)
    studies = read_studies(tmp_path)
    assert (studies.format, studies.faults) == ("table", ())
    assert studies.studies[0] == Study(
        "s0",
        (tmp_path / folder / "s0.png",),
        "train",
        "p0",
        {"label": "normal"},
        {"report": ("Report 0, with a comma.",)},
        {},
        f"{tmp_path / name}:2",
    )
    assert [study.id for study in studies.studies] == [f"s{number}" for number in range(8)]
    assert studies.label_space["label"].classes == ("normal", "mild")
    assert read_studies(tmp_path / name) == studies


def test_two_readers_one_truth(tmp_path):
    rows = [record(0, image="a.png;b.png"), *CLEAN[1:], record(8, patient="", label="")]
    write_table(tmp_path, rows)
    entries = [{key: value for key, value in row.items() if value} for row in rows]
    for entry in entries:
        entry["image_path"] = entry.pop("image").split(";")
    by_split = {split: [e for e in entries if e["split"] == split] for split in ("train", "val", "test")}
    (tmp_path / "annotation.json").write_text(json.dumps(by_split))
    lines = []
    for entry in entries:
        own = {key: entry[key] for key in ("id", "split", "patient", "report") if key in entry}
        own["images"] = [f"images/{name}" for name in entry["image_path"]]
        own["labels"] = {"label": entry["label"]} if "label" in entry else {}
        lines.append(json.dumps(own) + "\n")
    (tmp_path / "studies.jsonl").write_text("".join(lines))
    read = {name: read_studies(tmp_path, format=name) for name in ("table", "r2gen", "studies")}
    truth = {study.id: without_source(study) for study in read["studies"].studies}
    assert len(truth) == 9
    for found in read.values():
        assert {study.id: without_source(study) for study in found.studies} == truth
        assert found.label_space == read["studies"].label_space
        assert found.sections == ("report",)


def without_source(study):
    return Study(study.id, study.images, study.split, study.patient, study.labels, study.report, study.masks)


def test_columns_are_found_by_common_names_however_they_are_written(tmp_path):
    write_image(tmp_path / "x.png")
    header = "Image Index,Finding Labels,Patient ID,FINDINGS,Impression,Partition"
    (tmp_path / "a.csv").write_text(f"{header}\nx.png,Mass|Nodule,7,Seen.,Mass.,Training\n")
    study = read_studies(tmp_path).studies[0]
    assert (study.patient, study.split, study.id) == ("7", "train", "x.png")
    assert study.labels == {"label": ("Mass", "Nodule")}
    assert study.report == {"findings": ("Seen.",), "impression": ("Mass.",)}


def test_columns_are_taken_as_named(tmp_path):
    header = ["key", "scan", "note", "report", "grade", "site", "label", "who", "fold"]
    rows = [
        {"key": f"k{n}", "scan": "a.png", "note": f"N{n}.", "report": "no", "grade": str(n), "who": "w"}
        | {"site": ["left", "right"][n % 2], "label": "no", "fold": "train"}
        for n in range(3)
    ]
    write_image(tmp_path / "a.png")
    write_table(tmp_path, rows, header=header)
    columns = with_columns(
        id="key", image="scan", report__findings="note", label__grade="grade", label__site="site",
        patient="who", split="fold",
    )  # fmt: skip
    studies = read_studies(tmp_path, options=columns)
    assert studies.faults == ()
    assert studies.studies[1].labels == {"grade": "1", "site": "right"}
    assert studies.studies[1].report == {"findings": ("N1.",)}
    assert (studies.studies[1].id, studies.studies[1].patient) == ("k1", "w")


def test_a_named_column_that_is_not_there_names_the_near_ones(tmp_path):
    write_table(tmp_path, CLEAN)
    with pytest.raises(ConfigurationError) as caught:
        read_studies(tmp_path, options=with_columns(report="reprot"))
    assert str(caught.value) == (
        f"{tmp_path / 'studies.csv'}:1: no column 'reprot' for report (did you mean 'report'?); "
        "the columns: id, image, report, label, patient, split"
    )


def test_without_a_column_of_images_one_has_to_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("id,scan\n1,x.png\n")
    with pytest.raises(ConfigurationError, match=r"name it: --column image=NAME; the columns: id, scan"):
        read_studies(tmp_path)


def test_columns_that_are_not_used_are_told_unless_some_are_named(tmp_path):
    write_table(tmp_path, [row | {"grade": "2", "note": "x"} for row in CLEAN])
    fault = one_fault(tmp_path, "warning")
    assert (fault.where, fault.problem) == (f"{tmp_path / 'studies.csv'}:1", "columns not used: grade, note")
    assert read_studies(tmp_path, options=with_columns(report="note")).faults == ()


def test_rows_of_one_id_are_its_views_in_their_order(tmp_path):
    rows = [record(0, image="z.png"), CLEAN[1], record(0, image="a.png", report="", label="", split="")]
    studies = read_studies(write_table(tmp_path, rows))
    assert [study.id for study in studies.studies] == ["s0", "s1"]
    assert studies.studies[0].images == (tmp_path / "images/z.png", tmp_path / "images/a.png")
    assert studies.studies[0].source.endswith(":2")


@pytest.mark.parametrize("cell", ["b.png;a.png", "b.png | a.png"])
def test_one_cell_may_hold_several_views(tmp_path, cell):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    (tmp_path / "studies.csv").write_text(csv_text([record(0, image=cell, label="")]))
    assert [path.name for path in read_studies(tmp_path).studies[0].images] == ["b.png", "a.png"]


def test_a_view_that_is_named_twice_is_one(tmp_path):
    root = write_table(tmp_path, [*CLEAN, record(0)])
    assert one_fault(root, "warning").problem.startswith("image 's0.png' stands twice in one study")
    assert len(read_studies(root).studies[0].images) == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": "mild"}, "label 'mild' of a study that has 'normal' at "),
        ({"report": "Other."}, "report 'Other.' of a study that has 'Report 0, with a comma.' at "),
        ({"split": "Dev"}, "split 'val' of a study that has 'train' at "),
        ({"patient": "p9"}, "patient 'p9' of a study that has 'p0' at "),
    ],
)
def test_rows_of_one_id_that_disagree_are_an_error_naming_both_lines(tmp_path, change, problem):
    root = write_table(tmp_path, [*CLEAN, record(0, image="b.png", **change)])
    fault = one_fault(root)
    assert fault.problem == f"{problem}{root / 'studies.csv'}:2"
    assert fault.where == f"{root / 'studies.csv'}:10"
    assert "s0" not in [study.id for study in read_studies(root, strict=False).studies]


def test_labels_parted_by_a_bar_make_every_label_of_the_column_a_list(tmp_path):
    labels = ["Mass", "Mass|Nodule", "", " Nodule | ", "Mass", "Mass", "Mass", "Mass"]
    studies = read_studies(
        write_table(tmp_path, [row | {"label": x} for row, x in zip(CLEAN, labels, strict=True)])
    )
    assert studies.label_space["label"].multi_label
    read = [study.labels.get("label") for study in studies.studies]
    assert read == [("Mass",), ("Mass", "Nodule"), None, ("Nodule",), *[("Mass",)] * 4]


def test_a_declared_aspect_decides_whether_a_bar_parts_classes(tmp_path):
    rows = [record(n, label=["a|b", "c"][n % 2]) for n in range(4)]
    write_table(tmp_path, rows)
    aspect = {"name": "label", "classes": ["a|b", "c"]}
    (tmp_path / "dataset.json").write_text(json.dumps({"aspects": [aspect]}))
    assert read_studies(tmp_path).studies[0].labels == {"label": "a|b"}
    aspect = {"name": "label", "classes": ["a", "b", "c"], "multi_label": True}
    (tmp_path / "dataset.json").write_text(json.dumps({"aspects": [aspect]}))
    assert [study.labels["label"] for study in read_studies(tmp_path).studies[:2]] == [("a", "b"), ("c",)]


def test_whole_numbers_that_were_written_as_fractions_are_whole_again(tmp_path):
    rows = [record(n, label=["0.0", "1.0", "", "2"][n % 4]) for n in range(4)]
    studies = read_studies(write_table(tmp_path, rows), strict=False)
    assert [study.labels.get("label") for study in studies.studies[:3]] == ["0", "1", None]
    rows = [record(n, label=["0.5", "1.0"][n % 2]) for n in range(4)]
    assert read_studies(write_table(tmp_path, rows)).studies[1].labels == {"label": "1.0"}


@pytest.mark.parametrize(
    ("policy", "edema"),
    [
        ("missing", ["present", None, "absent", None]),
        ("present", ["present", "present", "absent", None]),
        ("absent", ["present", "absent", "absent", None]),
        ("class", ["present", "uncertain", "absent", None]),
    ],
)
def test_an_uncertain_label_counts_as_the_policy_says(tmp_path, policy, edema):
    values = [("1.0", "0"), ("-1.0", "1"), ("0.0", "0"), ("", "1")]
    splits = ["train", "train", "train", "val"]
    rows = [record(n, label="", edema=a, mass=b, split=splits[n]) for n, (a, b) in enumerate(values)]
    root = write_table(tmp_path, rows)
    options = ReaderOptions({"label.edema": "edema", "label.mass": "mass"}, policy)
    studies = read_studies(root, options=options)
    assert [study.labels.get("edema") for study in studies.studies] == edema
    assert [study.labels["mass"] for study in studies.studies] == ["absent", "present"] * 2
    assert studies.faults[0].problem.startswith("1 labels of aspect 'edema' are -1, uncertain: they ")
    assert studies.faults[0].where.endswith(":3")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Train", "train"), ("training", "train"), ("val", "val"), ("validate", "val"), ("validation", "val"),
        ("valid", "val"), ("DEV", "val"), ("test", "test"), (" Testing ", "test"),
    ],
)  # fmt: skip
def test_splits_go_by_many_names(tmp_path, name, split):
    root = write_table(tmp_path, [record(0, split=name)])
    assert read_studies(root, strict=False).studies[0].split == split


def test_an_unknown_split_is_an_error(tmp_path):
    root = write_table(tmp_path, [*CLEAN, record(8, split="tset")])
    assert one_fault(root).problem == "unknown split 'tset' (did you mean 'test'?)"


def test_without_a_split_patients_are_parted_the_same_way_every_time(tmp_path):
    rows = [record(n, patient=f"p{n // 2}", split="") for n in range(60)]
    root = write_table(tmp_path, rows)
    fault = one_fault(root, "warning")
    studies = read_studies(root)
    counts = [len(studies.split(split)) for split in ("train", "val", "test")]
    assert fault.problem == "no split; by a hash of the patient: {} train, {} val, {} test".format(*counts)
    assert sum(counts) == 60
    homes = {}
    for study in studies.studies:
        homes.setdefault(study.patient, set()).add(study.split)
    assert {len(home) for home in homes.values()} == {1}
    fewer = read_studies(write_table(tmp_path / "fewer", rows[:40])).studies
    assert [study.split for study in fewer] == [study.split for study in studies.studies[:40]]


@given(st.lists(st.text(max_size=3), max_size=60))
def test_carved_splits_keep_patients_whole_and_train_filled(patients):
    studies = carve_splits([Study(str(n), (), None, patient) for n, patient in enumerate(patients)])
    homes = {study.patient: study.split for study in studies}
    assert all(study.split == homes[study.patient] for study in studies)
    counts = [list(homes.values()).count(split) for split in ("train", "val", "test")]
    assert (counts[0] > 0) == (len(homes) > 0)
    assert (counts[1] > 0) == (len(homes) > 1)
    assert (counts[2] > 0) == (len(homes) - counts[1] > 1)


def test_a_file_a_split_is_one_data_set(tmp_path):
    for name, part in [("train", CLEAN[:4]), ("valid", CLEAN[4:6]), ("test", CLEAN[6:])]:
        write_table(tmp_path, part, name=f"{name}.csv", header=[n for n in HEADER if n != "split"])
    studies = read_studies(tmp_path)
    assert studies.faults == ()
    assert [len(studies.split(name)) for name in ("train", "val", "test")] == [4, 2, 2]


def test_of_several_tables_one_has_to_be_named(tmp_path):
    write_table(tmp_path, CLEAN, name="a.csv")
    write_table(tmp_path, CLEAN[:4], name="b.csv")
    with pytest.raises(ConfigurationError, match=r"holds 2 tables \(a\.csv, b\.csv\): name the one to read"):
        read_studies(tmp_path)
    assert len(read_studies(tmp_path / "b.csv").studies) == 4


def test_another_layout_beside_a_table_is_taken(tmp_path):
    write_table(tmp_path, CLEAN)
    (tmp_path / "annotation.json").write_text(json.dumps({"train": [], "test": []}))
    assert read_studies(tmp_path, strict=False).format == "r2gen"
    assert read_studies(tmp_path, format="table").format == "table"
    assert read_studies(tmp_path / "studies.csv").format == "table"


@pytest.mark.parametrize(
    "name", ["s0", "/old/home/images/s0.png", "C:\\data\\images\\s0.png", "elsewhere/s0", "./s0.png"]
)
def test_images_are_found_without_ending_and_from_another_folder(tmp_path, name):
    root = write_table(tmp_path, CLEAN)
    (root / "studies.csv").write_text(csv_text([record(0, image=name), *CLEAN[1:]]))
    assert read_studies(root).studies[0].images[0].resolve() == root / "images/s0.png"


def test_one_file_is_not_taken_for_two_images_of_other_folders(tmp_path):
    root = write_table(tmp_path, [*CLEAN, record(0, image="0.png")])
    rows = [*CLEAN, record(8, image="CXR1/0.png"), record(9, image="CXR2/0.png")]
    (root / "studies.csv").write_text(csv_text(rows))
    fault = one_fault(root)
    assert fault.problem == "image 'CXR2/0.png' is not there, and '0.png' is already 'CXR1/0.png'"


def test_a_missing_image_names_the_first_place_it_was_looked_for(tmp_path):
    root = write_table(tmp_path, CLEAN)
    (root / "images/s3.png").unlink()
    fault = one_fault(root)
    assert fault.problem == f"no image {root / 's3.png'}"
    assert fault.where.endswith(":5")


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"id": ""}, "no id"), ({"image": ""}, "no images")],
)
def test_an_empty_cell_that_is_needed_is_an_error(tmp_path, change, problem):
    root = write_table(tmp_path, [*CLEAN, record(8, **change)])
    assert (one_fault(root).problem, one_fault(root).where[-3:]) == (problem, ":10")


def test_images_of_another_folder_with_the_same_names_are_not_taken(tmp_path, monkeypatch):
    root = write_table(tmp_path / "set", CLEAN)
    (root / "images").rename(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    assert "no image" in next(iter(read_studies(root, strict=False).errors())).problem


def test_a_patient_is_the_same_with_and_without_a_fraction(tmp_path):
    root = write_table(
        tmp_path, [record(n, patient=str(n), split="train") for n in range(4)], name="train.csv"
    )
    write_table(tmp_path, [record(9, patient="2.0", split="test")], name="test.csv")
    assert one_fault(root).problem.startswith("patient '2' stands in two splits")


def test_what_pandas_writes_for_missing_is_missing(tmp_path):
    rows = [*CLEAN, record(8, label="nan", patient="NaN", report="<NA>")]
    study = read_studies(write_table(tmp_path, rows)).studies[8]
    assert (study.labels, study.patient, study.report) == ({}, None, {})


def test_a_grade_that_goes_below_zero_is_no_observation(tmp_path):
    rows = [record(n, split="train", flag=str(n % 2), score=str(n % 4 - 1)) for n in range(8)]
    options = ReaderOptions({"label.flag": "flag", "label.score": "score"})
    space = read_studies(write_table(tmp_path, rows), options=options).label_space
    assert (space["flag"].classes, space["score"].classes) == (("0", "1"), ("-1", "0", "1", "2"))


def test_an_empty_report_is_a_warning(tmp_path):
    assert (
        one_fault(write_table(tmp_path, [*CLEAN, record(8, report=" ")]), "warning").problem == "empty report"
    )
