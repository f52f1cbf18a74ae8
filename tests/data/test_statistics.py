"""Numbers of a data set, counted by hand, and the hash that goes with results."""

import json
import shutil

import pytest
from study_folders import real_data, study_entry, write_folder, write_image

from mdnet.data import read_studies
from mdnet.data.statistics import data_hash, statistics


def make(root):
    entries = [
        study_entry(
            0, report={"mitosis": ["Mitosis is rare.", "Rare mitosis."], "conclusion": "Normal."}, patient="a"
        ),
        study_entry(1, report={"mitosis": "Mitosis is rare.", "conclusion": "Normal."}, patient="a"),
        study_entry(2, report=None, patient=None, labels=None, images=["v1.png", "v2.png"]),
        study_entry(3, report={"conclusion": "Strange normal."}, labels={"findings": ["blur", "fold"]}),
        study_entry(4, report=None, split=None),
    ]
    return write_folder(root, entries)


def test_the_numbers_are_those_counted_by_hand(tmp_path):
    numbers = statistics(read_studies(make(tmp_path), strict=False))
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers == {
        "format": "studies",
        "studies": 5,
        "usable": 5,
        "without_images": 0,
        "with_errors": 0,
        "images": 6,
        "images_there": 6,
        "views": {"min": 1, "max": 2, "counts": {"1": 4, "2": 1}},
        "duplicates": {"groups": 1, "images": 2, "groups_in_two_splits": 0},  # v1 and v2
        "splits": {"train": 2, "val": 1, "test": 1, "none": 1},
        "patients": 3,
        "patients_in_two_splits": 0,
        "diagnosis": "conclusion",
        "labels": {
            "mitosis": {"absent": 2, "rare": 1, "frequent": 0, "missing": 2},
            "findings": {"blur": 4, "fold": 1, "missing": 1},
            "conclusion": {"normal": 3, "low grade": 0, "high grade": 0, "missing": 2},
        },
        "labelled": {"mitosis": 3, "findings": 4, "conclusion": 3},
        "split_labels": {
            split: {
                "mitosis": {"absent": absent, "rare": rare, "frequent": 0, "missing": missing},
                "findings": {"blur": blur, "fold": fold, "missing": unseen},
                "conclusion": {"normal": normal, "low grade": 0, "high grade": 0, "missing": missing},
            }
            for split, absent, rare, missing, blur, fold, unseen, normal in (
                ("train", 1, 1, 0, 2, 0, 0, 2),
                ("val", 0, 0, 1, 0, 0, 1, 0),
                ("test", 0, 0, 1, 1, 1, 0, 0),
                ("none", 1, 0, 0, 1, 0, 0, 1),
            )
        },
        "split_labelled": {
            "train": {"mitosis": 2, "findings": 2, "conclusion": 2},
            "val": {"mitosis": 0, "findings": 0, "conclusion": 0},
            "test": {"mitosis": 0, "findings": 1, "conclusion": 0},
            "none": {"mitosis": 1, "findings": 1, "conclusion": 1},
        },
        "sections": {"mitosis": 2, "conclusion": 3},
        "reports": 3,
        "references": 4,
        # "mitosis is rare . normal .", "rare mitosis . normal .", the first again, "strange normal ."
        "report_words": {"min": 3, "p5": 3.3, "median": 5.5, "mean": 5, "p95": 6.0, "max": 6},
        "section_words": {
            "mitosis": {"min": 3, "p5": 3.1, "median": 4.0, "mean": 3.67, "p95": 4.0, "max": 4},
            "conclusion": {"min": 2, "p5": 2.0, "median": 2.0, "mean": 2.33, "p95": 2.9, "max": 3},
        },
        "vocabulary": 6,
        "unknown_share": 0.3333,
        "unknown_share_val": None,
        "commonest_report_share": 0.5,
        "commonest_report": {"count": 2, "words": 6, "text": "Mitosis is rare. Normal."},
    }


def test_patients_in_two_splits_are_counted(tmp_path):
    entries = [study_entry(0, patient="a"), study_entry(3, patient="a"), study_entry(2, patient="b")]
    assert (
        statistics(read_studies(write_folder(tmp_path, entries), strict=False))["patients_in_two_splits"] == 1
    )


def test_a_set_without_reports_or_labels_has_numbers_too(tmp_path):
    numbers = statistics(
        read_studies(write_folder(tmp_path, [{"id": "a", "images": ["a.png"]}], dataset=None))
    )
    assert numbers["unknown_share"] is None
    assert numbers["commonest_report_share"] == 0.0
    assert numbers["commonest_report"] is None
    assert set(numbers["report_words"].values()) == {0}


def test_studies_are_counted_as_listed_with_what_is_missing(tmp_path):
    """R2Gen's folder, a part of whose images is there: every study counts, its label and report too."""
    entries = [
        {"id": "a", "report": "Clear lungs.", "image_path": ["a/0.png", "a/1.png"], "label": "normal"},
        {"id": "b", "report": "Large heart.", "image_path": ["b/0.png", "b/1.png"], "label": "abnormal"},
        {"id": "c", "report": 7, "image_path": ["a/0.png"]},
    ]
    write_image(tmp_path / "images/a/0.png")
    annotation = {"train": entries, "test": [entries[1] | {"id": "d"}]}
    (tmp_path / "annotation.json").write_text(json.dumps(annotation))
    numbers = statistics(read_studies(tmp_path, strict=False))
    assert [numbers[key] for key in ("studies", "usable", "without_images", "with_errors")] == [4, 1, 2, 1]
    assert [numbers["images"], numbers["images_there"]] == [7, 2]
    assert sum(numbers["splits"].values()) == 4
    assert numbers["splits"]["test"] == 1
    assert numbers["labels"]["label"] == {"normal": 1, "abnormal": 2, "missing": 0}
    assert numbers["references"] == 3


def test_missing_images_of_a_set_that_is_to_be_whole_are_counted_too(tmp_path):
    root = write_folder(tmp_path, [study_entry(0), study_entry(1)])
    (root / "images/s1.png").unlink()
    numbers = statistics(read_studies(root, strict=False))
    assert [numbers[key] for key in ("studies", "usable", "with_errors")] == [2, 1, 1]
    assert [numbers["images"], numbers["images_there"]] == [2, 1]


def test_images_of_the_same_content_are_counted_within_and_between_splits(tmp_path):
    root = write_folder(tmp_path, [study_entry(number) for number in range(8)])
    shutil.copy(root / "images/s0.png", root / "images/s2.png")  # train and val
    for number in (4, 5):  # train
        shutil.copy(root / "images/s1.png", root / f"images/s{number}.png")
    studies = read_studies(root, strict=False)
    assert statistics(studies)["duplicates"] == {"groups": 2, "images": 5, "groups_in_two_splits": 1}
    assert statistics(studies, hash_images=False)["duplicates"] is None


def test_progress_ends_with_all_studies_and_images(tmp_path):
    calls = []
    studies = read_studies(make(tmp_path), strict=False)
    statistics(studies, progress=lambda *call: calls.append(call))
    assert calls[-1] == (11, 11)
    assert calls == sorted(calls)


def test_the_indiana_collection_is_counted_as_published():
    folder = real_data("iu_xray")
    kaggle = statistics(read_studies(folder, format="indiana", strict=False))
    assert kaggle["studies"] == 3851
    r2gen = statistics(read_studies(folder, format="r2gen", strict=False))
    assert r2gen["splits"] == {"train": 2069, "val": 296, "test": 590}
    for numbers in (kaggle, r2gen):
        assert numbers["usable"] == 2
        assert numbers["images_there"] == 4
        assert numbers["images"] - 4 > 5000


def test_the_hash_does_not_depend_on_place_or_order(tmp_path):
    first = make(tmp_path / "a")
    shutil.copytree(first, tmp_path / "b")
    lines = (first / "studies.jsonl").read_text().splitlines()
    (tmp_path / "b/studies.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    hashes = [data_hash(read_studies(tmp_path / name, strict=False)) for name in "ab"]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 64


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"s0"', '"s9"'),
        ('"split": "train"', '"split": "test"'),
        ('"absent"', '"rare"'),
        ("Mitosis is rare.", "Mitosis is Rare."),
        ('"patient": "a"', '"patient": "c"'),
    ],
)
def test_the_hash_changes_with_every_part_of_a_study(tmp_path, before, after):
    root = make(tmp_path)
    first = data_hash(read_studies(root, strict=False))
    file = root / "studies.jsonl"
    text = file.read_text()
    assert before in text
    if after == '"s9"':
        write_image(root / "images/s9.png", seed=0)
    file.write_text(text.replace(before, after))
    assert data_hash(read_studies(root, strict=False)) != first


def test_the_hash_changes_with_an_image_file(tmp_path):
    root = make(tmp_path)
    first = data_hash(read_studies(root, strict=False))
    write_image(root / "images/s0.png", size=(9, 9))
    assert data_hash(read_studies(root, strict=False)) != first
