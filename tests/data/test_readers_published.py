"""Layouts that others published: R2Gen, BCIDR, the later bladder reports; and the real sets at hand."""

import json

import pytest
from study_folders import real_data, write_image

from mdnet.data import read_studies
from mdnet.data.readers.bladder import split_sentences
from mdnet.data.readers.validation import carve_validation
from mdnet.data.study import Aspect, LabelSpace, Study
from mdnet.errors import DataError

FIVE = (
    "Mild pleomorphism is seen. Nuclei are crowded. Polarity is lost. Mitosis is rare. Nucleoli are absent."
)
SIX = FIVE.replace("Polarity is lost", "Insufficient information") + " Low grade."


def r2gen_entry(number, **changes):
    entry = {
        "id": f"e{number}",
        "report": f"Report {number}.",
        "image_path": [f"e{number}/0.png"],
        "label": "mild",
    }
    return entry | {"label": ["normal", "mild", "severe"][number % 3]} | changes


def write_r2gen(root, content, folder="images"):
    root.mkdir(exist_ok=True)
    for entries in content.values():
        for entry in entries if isinstance(entries, list) else []:
            names = entry.get("image_path") if isinstance(entry, dict) else None
            for name in names if isinstance(names, list) else []:
                if isinstance(name, str):
                    write_image(root / folder / name)
    (root / "annotation.json").write_text(json.dumps(content))
    return root


def only_fault(root, severity="error"):
    found = read_studies(root, strict=False).faults
    assert [fault.severity for fault in found] == [severity], list(map(str, found))
    return found[0]


CONTENT = {
    "train": [r2gen_entry(number) for number in range(6)],
    "val": [r2gen_entry(6)],
    "test": [r2gen_entry(7)],
}


@pytest.mark.parametrize("folder", ["images", "."])
def test_r2gen_is_read_with_images_in_their_folder_or_beside(tmp_path, folder):
    studies = read_studies(write_r2gen(tmp_path, CONTENT, folder))
    assert studies.format == "r2gen"
    assert studies.faults == ()
    assert studies.studies[0] == Study(
        "e0",
        (tmp_path / folder / "e0/0.png",),
        "train",
        None,
        {"label": "normal"},
        {"report": ("Report 0.",)},
        {},
        f"{tmp_path / 'annotation.json'} train[0]",
    )
    assert [len(studies.split(name)) for name in ("train", "val", "test")] == [6, 1, 1]
    assert studies.label_space == LabelSpace(
        (Aspect("label", ("normal", "mild", "severe"), "normal", ordered=True),), "label"
    )
    assert studies.sections == ("report",)


def test_r2gen_without_labels_and_with_integer_labels(tmp_path):
    bare = {"train": [{"id": 7, "report": "A.", "image_path": "x.png"}]}
    write_image(tmp_path / "a/images/x.png")
    studies = read_studies(write_r2gen(tmp_path / "a", bare))
    assert (studies.studies[0].id, studies.label_space) == ("7", LabelSpace())
    integers = {"train": [r2gen_entry(n, label=n) for n in (10, 2, 0)], "val": [r2gen_entry(3, label=2)]}
    assert read_studies(write_r2gen(tmp_path / "b", integers)).label_space["label"].classes == (
        "0",
        "2",
        "10",
    )


def test_r2gen_lists_of_labels_are_multi_label(tmp_path):
    content = {
        "train": [r2gen_entry(0, label=["a", "b"]), r2gen_entry(1, label=[])],
        "val": [r2gen_entry(2, label=["a"])],
    }
    studies = read_studies(write_r2gen(tmp_path, content))
    assert studies.label_space["label"].multi_label
    assert [study.labels["label"] for study in studies.studies] == [("a", "b"), (), ("a",)]


def test_r2gen_classes_may_be_declared(tmp_path):
    write_r2gen(tmp_path, CONTENT)
    aspect = {"name": "label", "classes": ["severe", "mild", "normal", "dead"], "reference": "normal"}
    (tmp_path / "dataset.json").write_text(json.dumps({"aspects": [aspect], "diagnosis": "label"}))
    assert read_studies(tmp_path).label_space["label"].classes == ("severe", "mild", "normal", "dead")


@pytest.mark.parametrize("key", ["patient", "subject_id", "case_id", "photo_group"])
def test_r2gen_patients_are_known_by_their_keys_and_never_stand_in_two_splits(tmp_path, key):
    content = {
        "train": [r2gen_entry(0, **{key: 5}), r2gen_entry(1)],
        "test": [r2gen_entry(2, **{key: 5}, label="mild")],
    }
    root = write_r2gen(tmp_path, content)
    errors = list(read_studies(root, strict=False).errors())
    assert [error.problem for error in errors][:1] == [
        f"patient '5' stands in two splits: test, and train at {root / 'annotation.json'} train[0]"
    ]
    with pytest.raises(DataError, match="patient '5' stands in two splits"):
        read_studies(root)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": None}, "no id"),
        ({"image_path": None}, "no images"),
        ({"image_path": [1]}, "images is [1]"),
        ({"label": 0.5}, "label of 'label' is 0.5"),
        ({"label": "mild?"}, "unknown class 'mild?' of aspect 'label' (did you mean 'mild'?)"),
        ({"report": 7}, "report section 'report' is 7"),
    ],
)
def test_r2gen_faults_name_the_entry(tmp_path, change, problem):
    root = write_r2gen(tmp_path, CONTENT | {"test": [r2gen_entry(7), r2gen_entry(8) | change]})
    fault = only_fault(root)
    assert (fault.where, fault.problem) == (f"{root / 'annotation.json'} test[1]", problem)
    assert len(read_studies(root, strict=False).studies) == 8


def test_r2gen_missing_images_and_empty_reports(tmp_path):
    root = write_r2gen(tmp_path, CONTENT)
    (root / "images/e3/0.png").unlink()
    told = {fault.where: (fault.severity, fault.problem) for fault in read_studies(root).faults}
    assert told == {
        f"{root / 'annotation.json'} train[3]": ("warning", f"no image {root / 'images/e3/0.png'}"),
        str(root): ("warning", "1 of 8 studies have no image and are left out"),
    }
    assert [study.id for study in read_studies(root).without_images] == ["e3"]
    for number, empty in enumerate(["", None]):
        content = CONTENT | {"test": [r2gen_entry(7, report=empty)]}
        assert only_fault(write_r2gen(tmp_path / str(number), content), "warning").problem == "empty report"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "not an object"),
        (CONTENT | {"validate": []}, "unknown split 'validate'"),
        (CONTENT | {"test": {}}, "split 'test' is no list"),
        (CONTENT | {"test": [3]}, "not an object"),
    ],
)
def test_r2gen_files_of_another_shape(tmp_path, content, problem):
    root = write_r2gen(tmp_path, content if isinstance(content, dict) else {})
    (root / "annotation.json").write_text(json.dumps(content))
    assert problem in only_fault(root).problem


def test_r2gen_broken_json_names_the_line(tmp_path):
    (tmp_path / "annotation.json").write_text('{"train": [\n{"id": 1,}\n]}')
    assert only_fault(tmp_path).where == f"{tmp_path / 'annotation.json'}:2"


def write_bladder(root, content, *, layout):
    folder, ending = {"bcidr": ("Img", "labels"), "bladder": ("Images", "annotation")}[layout]
    (root / folder).mkdir(parents=True, exist_ok=True)
    for split, entries in content.items():
        for name in entries:
            write_image(root / folder / f"{name}.png")
        (root / f"{split}_{ending}.json").write_text(json.dumps(entries))
    return root


SECTIONS = ("pleomorphism", "crowding", "polarity", "mitosis", "nucleoli", "conclusion")


def tile(number, text=FIVE, **changes):
    return {"caption": [text] * 5, "label": number % 4} | changes


def test_bcidr_is_read(tmp_path):
    content = {"train": {f"t{n}": tile(n) for n in range(40)}, "test": {"u0": tile(2)}}
    studies = read_studies(write_bladder(tmp_path, content, layout="bcidr"))
    assert (studies.format, studies.faults, studies.sections) == ("bcidr", (), SECTIONS[:5])
    assert studies.label_space.diagnosis == "conclusion"
    first = studies.studies[0]
    assert first.id == "t0"
    assert first.images == (tmp_path / "Img/t0.png",)
    assert first.labels == {"conclusion": "normal"}
    assert first.report["pleomorphism"] == ("Mild pleomorphism is seen.",) * 5
    assert first.report["nucleoli"][0] == "Nucleoli are absent."
    assert studies.split("test")[0].labels == {"conclusion": "high grade"}
    assert {study.labels["conclusion"] for study in studies.studies} == {
        "normal", "low grade", "high grade", "insufficient information",
    }  # fmt: skip


def test_the_later_bladder_reports_are_read(tmp_path):
    content = {"train": {f"t{n}": tile(n, SIX) for n in range(40)}, "test": {"u0": tile(1, SIX)}}
    studies = read_studies(write_bladder(tmp_path, content, layout="bladder"))
    assert (studies.format, studies.faults, studies.sections) == ("bladder", (), SECTIONS)
    report = studies.split("test")[0].report
    assert report["polarity"][0] == "Insufficient information."
    assert report["conclusion"] == ("Low grade.",) * 5


def test_a_tenth_of_train_becomes_val_and_test_stays(tmp_path):
    content = {"train": {f"t{n}": tile(n) for n in range(300)}, "test": {f"u{n}": tile(n) for n in range(20)}}
    studies = read_studies(write_bladder(tmp_path, content, layout="bcidr"))
    counts = {split: len(studies.split(split)) for split in ("train", "val", "test")}
    assert counts["test"] == 20
    assert counts["train"] + counts["val"] == 300
    assert 15 <= counts["val"] <= 45


@pytest.mark.parametrize(
    ("entry", "severity", "problem"),
    [
        (tile(0, label=4), "error", "unknown class 4 of aspect 'conclusion'"),
        (tile(0, label=True), "error", "unknown class True of aspect 'conclusion'"),
        (tile(0, label="normal"), "error", "unknown class 'normal' of aspect 'conclusion'"),
        (tile(0, caption=None), "error", "caption is None"),
        (tile(0, caption=[1]), "error", "caption is [1]"),
        ([], "error", "not an object"),
        (tile(0, caption=[]), "warning", "empty report"),
        (tile(0, caption=["", " "]), "warning", "empty report"),
        (tile(0, caption=[FIVE, SIX, FIVE]), "warning", "caption 1 has 6 sentences, not 5"),
    ],
)
def test_bladder_faults_name_the_image(tmp_path, entry, severity, problem):
    content = {"train": {f"t{n}": tile(n) for n in range(8)}, "test": {"u0": tile(0), "u1": entry}}
    root = write_bladder(tmp_path, content, layout="bcidr")
    fault = only_fault(root, severity)
    assert (fault.where, fault.problem) == (f"{root / 'test_labels.json'} 'u1'", problem)
    studies = read_studies(root, strict=False)
    assert len(studies.split("test")) == (1 if severity == "error" else 2)


def test_a_caption_left_out_keeps_the_writers_of_the_others_together(tmp_path):
    texts = [FIVE.replace("rare", "absent"), "One sentence only.", FIVE]
    content = {"train": {"t0": tile(0, caption=texts)}}
    report = read_studies(write_bladder(tmp_path, content, layout="bcidr")).studies[0].report
    assert report["mitosis"] == ("Mitosis is absent.", "Mitosis is rare.")
    assert {len(texts) for texts in report.values()} == {2}


def test_tiles_of_one_slide_stay_together(tmp_path):
    train = {f"1_{slide:05d}_sub0_{number:03d}": tile(0) for slide in range(30) for number in range(3)}
    studies = read_studies(write_bladder(tmp_path, {"train": train}, layout="bcidr"))
    homes = {}
    for study in studies.studies:
        homes.setdefault(study.patient, set()).add(study.split)
    assert sorted(homes) == [f"1_{slide:05d}" for slide in range(30)]
    assert {len(home) for home in homes.values()} == {1}
    assert {split for home in homes.values() for split in home} == {"train", "val"}


def test_a_slide_in_two_published_splits_is_a_warning(tmp_path):
    content = {"train": {"118421_001": tile(0), "t": tile(0)}, "test": {"118421_002": tile(0)}}
    root = write_bladder(tmp_path, content, layout="bcidr")
    problems = [str(fault) for fault in read_studies(root).faults]
    assert any("warning" in text and "patient '118421' stands in two splits" in text for text in problems)


def test_sentences_are_parted_by_stop_and_space():
    assert split_sentences("A is 2.5 mm. B ok.  C") == ["A is 2.5 mm.", "B ok.", "C."]
    assert split_sentences(" . ") == []


def studies_of(groups):
    return [Study(f"s{n}", (), "train", patient) for n, patient in enumerate(groups)]


def test_carving_is_deterministic_and_does_not_depend_on_the_other_studies():
    many = carve_validation(studies_of([f"p{n // 2}" for n in range(400)]))
    few = carve_validation(studies_of([f"p{n // 2}" for n in range(200)]))
    assert many[:200] == few
    assert 10 < sum(study.split == "val" for study in few) < 40


def test_carving_leaves_what_has_a_val_split_or_is_too_small_alone():
    one = studies_of(["a", "a"])
    assert carve_validation(one) == one
    given = [*studies_of(["a", "b", "c"]), Study("v", (), "val")]
    assert carve_validation(given) == given
    two = carve_validation(studies_of(["a", "b"]))
    assert sorted(study.split for study in two) == ["train", "val"]


def test_real_fundus_photographs_are_read():
    studies = read_studies(real_data("csdi_cataract"))
    assert studies.faults == ()
    assert {split: len(studies.split(split)) for split in ("train", "val")} == {"train": 129, "val": 19}
    assert studies.label_space["label"] == Aspect(
        "label", ("normal", "acceptable", "mild", "moderate", "severe"), "normal", ordered=True
    )
    assert all(study.patient for study in studies.studies)


def test_real_medpix_is_read():
    studies = read_studies(real_data("medpix2"))
    assert studies.faults == ()
    assert {split: len(studies.split(split)) for split in ("train", "val")} == {"train": 1653, "val": 197}
    assert len(studies.label_space["label"].classes) == 5
