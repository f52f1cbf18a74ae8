"""Numbers of a data set, counted by hand, and the hash that goes with results."""

import json
import shutil

import pytest
from study_folders import study_entry, write_folder, write_image

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
        "images": 6,
        "views": {"min": 1, "max": 2},
        "splits": {"train": 2, "val": 1, "test": 1, "none": 1},
        "patients": 3,
        "patients_in_two_splits": 0,
        "diagnosis": "conclusion",
        "labels": {
            "mitosis": {"absent": 2, "rare": 1, "frequent": 0, "missing": 2},
            "findings": {"blur": 4, "fold": 1, "missing": 1},
            "conclusion": {"normal": 3, "low grade": 0, "high grade": 0, "missing": 2},
        },
        "sections": {"mitosis": 2, "conclusion": 3},
        "reports": 3,
        "references": 4,
        # "mitosis is rare . normal .", "rare mitosis . normal .", the first again, "strange normal ."
        "report_words": {"min": 3, "median": 5.5, "mean": 5, "max": 6},
        "vocabulary": 6,
        "unknown_share": 0.3333,
        "commonest_report_share": 0.5,
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
    assert numbers["report_words"] == {"min": 0, "median": 0, "mean": 0, "max": 0}


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
