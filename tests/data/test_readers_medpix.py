"""MedPix 2.0's layout: its files, planes and splits; on made-up cases of the published shape."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_folders import write_image

from mdnet.data import read_studies
from mdnet.data.study import Study


def description(number, **changes):
    """An image's entry, as published; a change in capitals is one of its Description."""
    about = {
        "ACR Codes": "1.-1",
        "Age": "50",
        "Caption": f"Something is seen in image {number}.",
        "Figure Part": None,
        "Modality": "CT - noncontrast",
        "Plane": ["Axial", "Coronal"][number % 2],
        "Sex": "female",
    }
    entry = {
        "Type": ["CT", "MR"][number % 2],
        "U_id": f"MPX{number // 2}",
        "image": f"MPX{number // 2}_synpic{number}",
        "Description": about | {key: value for key, value in changes.items() if key in about},
        "Location": "Chest, Pulmonary (exclude ... )",
        "Location Category": ["Thorax", "Head"][number % 2],
    }
    changed = entry | {
        key.replace("_", " ") if key == "Location_Category" else key: changes[key] for key in changes
    }
    return {key: value for key, value in changed.items() if key not in about}


def write_medpix(root, *, ending=".png", whole=None, **splits):
    """A file a split; or `whole`, the name of one file for all."""
    entries = [entry for part in splits.values() for entry in part]
    for number, entry in enumerate(entries):
        write_image(root / "images" / f"{entry['image']}{ending}", seed=number)
    if whole is None:
        for split, part in splits.items():
            lines = "".join(json.dumps(entry) + "\n" for entry in part)
            (root / f"descriptions_{split}.jsonl").write_text(lines)
    elif whole.endswith("l"):
        (root / whole).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    else:
        (root / whole).write_text(json.dumps(entries, indent=4))
    return root


CLEAN = {
    "train": [description(n) for n in range(6)],
    "dev": [description(n) for n in (6, 7)],
    "test": [description(n) for n in (8, 9)],
}


def one_fault(root, severity="error"):
    found = read_studies(root, strict=False).faults
    assert [fault.severity for fault in found] == [severity], list(map(str, found))
    return found[0]


def test_classes_may_be_declared(tmp_path):
    rare = description(10, Location_Category="Rare")
    root = write_medpix(tmp_path, **CLEAN | {"test": [*CLEAN["test"], rare]})
    fault = next(iter(read_studies(root, strict=False).errors()))
    assert (fault.problem, fault.mend[-30:]) == (
        "unknown class 'Rare' of aspect 'location'",
        "train; declare more in dataset.json"[-30:],
    )
    aspects = [{"name": "location", "classes": ["Thorax", "Head", "Rare"]}]
    aspects += [
        {"name": name, "classes": classes}
        for name, classes in (("modality", ["CT", "MR"]), ("plane", ["axial", "coronal"]))
    ]
    (root / "dataset.json").write_text(json.dumps({"aspects": aspects, "diagnosis": "location"}))
    assert read_studies(root).split("test")[2].labels["location"] == "Rare"


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_file_a_split_is_read(tmp_path, ending):
    studies = read_studies(write_medpix(tmp_path, ending=ending, **CLEAN))
    assert (studies.format, studies.faults, studies.sections) == ("medpix", (), ("caption",))
    assert studies.split("train")[0] == Study(
        "MPX0_synpic0",
        (tmp_path / f"images/MPX0_synpic0{ending}",),
        "train",
        "MPX0",
        {"location": "Thorax", "modality": "CT", "plane": "axial"},
        {"caption": ("Something is seen in image 0.",)},
        {},
        f"{tmp_path / 'descriptions_train.jsonl'}:1",
    )
    assert [len(studies.split(split)) for split in ("train", "val", "test")] == [6, 2, 2]
    assert studies.label_space.diagnosis == "location"


def test_the_published_folder_is_read_with_its_parts_of_train_passed_over(tmp_path):
    write_medpix(tmp_path, **CLEAN)
    (tmp_path / "splitted_dataset").mkdir()
    for file in tmp_path.glob("descriptions_*"):
        file.rename(tmp_path / "splitted_dataset" / file.name)
    part = tmp_path / "splitted_dataset/descriptions_train_1.jsonl"
    part.write_text(json.dumps(CLEAN["train"][0]) + "\n")
    (tmp_path / "Descriptions.json").write_text("[]")
    (tmp_path / "Case_topic.json").write_text("[]")
    (tmp_path / "images_overview.csv").write_text("Type,U_id,ID_Image\n")
    expected = read_studies(tmp_path)
    assert (expected.format, len(expected.studies)) == ("medpix", 10)
    assert expected.faults == ()
    inside = read_studies(tmp_path / "splitted_dataset")
    assert [study.id for study in inside.studies] == [study.id for study in expected.studies]


@pytest.mark.parametrize("whole", ["Descriptions.jsonl", "Descriptions.json"])
def test_one_file_for_all_is_parted_by_cases(tmp_path, whole):
    entries = [description(n) for n in range(80)]
    studies = read_studies(write_medpix(tmp_path, whole=whole, all=entries))
    assert [fault.severity for fault in studies.faults] == ["warning"]
    assert studies.faults[0].problem.startswith("no split; by a hash of the patient: ")
    homes = {}
    for study in studies.studies:
        homes.setdefault(study.patient, set()).add(study.split)
    assert {len(home) for home in homes.values()} == {1}
    assert {split for home in homes.values() for split in home} == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("plane", "expected"),
    [
        ("Axial", "axial"), ("Transverse", "axial"), ("Sagittal", "sagittal"), ("coronal ", "coronal"),
        ("3D Reconstruction", "other"), ("AP", "other"), ("NOS - Not specified", None),
        (None, None), ("", None),
    ],
)  # fmt: skip
def test_planes(tmp_path, plane, expected):
    train = [description(0, Plane=plane), *CLEAN["train"][1:]]
    train += [description(10, Plane="Oblique"), description(12, Plane="Sagittal")]
    studies = read_studies(write_medpix(tmp_path, **CLEAN | {"train": train}))
    assert studies.split("train")[0].labels.get("plane") == expected


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image": None}, "no id"),
        ({"image": 3.5}, "id is 3.5"),
        ({"Description": None}, "no description"),
        ({"Description": "text"}, "no description"),
        ({"Location_Category": 1.5}, "label of 'location' is 1.5"),
        ({"Caption": 7}, "report section 'caption' is 7"),
        ({"Type": ["CT"]}, "the label of aspect 'modality' is a list ['CT']"),
    ],
)
def test_what_is_wrong_with_an_entry_is_told_with_its_line(tmp_path, change, problem):
    root = write_medpix(tmp_path, **CLEAN)
    file = root / "descriptions_test.jsonl"
    file.write_text(file.read_text() + json.dumps(description(10, **change)) + "\n")
    write_image(root / "images/MPX5_synpic10.png")
    errors = list(read_studies(root, strict=False).errors())
    assert [error.where for error in errors if error.problem == problem] == [f"{file}:3"]
    assert len(read_studies(root, strict=False).studies) == 10


def test_a_missing_image_and_an_empty_caption(tmp_path):
    root = write_medpix(tmp_path, **CLEAN)
    (root / "images/MPX4_synpic8.png").unlink()
    assert one_fault(root).problem == f"no image {root / 'images/MPX4_synpic8'}"
    other = CLEAN | {"test": [description(8, Caption=None)]}
    assert (
        one_fault(write_medpix(tmp_path / "b", **other), "warning").problem
        == "empty text in section 'caption'"
    )


@pytest.mark.parametrize("content", ["{", "{}", "3", '[3, {"a": 1}]', "[null]"])
def test_a_list_of_another_shape_is_an_error_with_its_place(tmp_path, content):
    (tmp_path / "Descriptions.json").write_text(content)
    errors = list(read_studies(tmp_path, strict=False).errors())
    assert errors
    assert all(error.where.startswith(str(tmp_path / "Descriptions.json")) for error in errors)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_is_told_or_changes_its_own_line_only(tmp_path, data):
    if not (tmp_path / "images").is_dir():
        write_medpix(tmp_path, **CLEAN)
    file = tmp_path / "descriptions_train.jsonl"
    original = "".join(json.dumps(entry) + "\n" for entry in CLEAN["train"]).encode()
    file.write_bytes(original)
    before = read_studies(tmp_path).studies
    place = data.draw(st.integers(0, len(original) - 1))
    flipped = bytearray(original)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    after = read_studies(tmp_path, strict=False)
    if not after.faults:
        line = original[:place].count(b"\n") + 1
        found = {study.id: study for study in after.studies}
        untouched = [study for study in before if study.source != f"{file}:{line}"]
        assert all(found.get(study.id) == study for study in untouched)
        assert len(found) == len(before)
