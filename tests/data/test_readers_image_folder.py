"""Image folders: a folder a class, with and without splits."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_folders import write_image

from mdnet.data import read_studies
from mdnet.data.study import Aspect, Study
from mdnet.errors import ConfigurationError


def write_images(root, names):
    for number, name in enumerate(names):
        write_image(root / name, seed=number)
    return root


SPLIT = [
    f"{split}/{label}/{n}.png"
    for split in ("train", "val", "test")
    for label in ("normal", "mild")
    for n in "ab"
]


def test_classes_under_splits_are_read(tmp_path):
    studies = read_studies(write_images(tmp_path, SPLIT))
    assert (studies.format, studies.faults, studies.sections) == ("image_folder", (), ())
    path = tmp_path / "train/mild/a.png"
    assert studies.studies[4] == Study(
        "train/mild/a.png", (path,), "train", None, {"label": "mild"}, {}, {}, str(path)
    )
    assert [len(studies.split(split)) for split in ("train", "val", "test")] == [4, 4, 4]
    assert studies.label_space.aspects == (Aspect("label", ("normal", "mild"), "normal", ordered=True),)
    assert studies.label_space.diagnosis == "label"


def test_classes_without_splits_are_parted_by_a_hash(tmp_path):
    names = [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(30)]
    studies = read_studies(write_images(tmp_path, names))
    assert [fault.severity for fault in studies.faults] == ["warning"]
    assert studies.faults[0].problem.startswith("no split; by a hash of the study, as no patient is known: ")
    assert {study.split for study in studies.studies} == {"train", "val", "test"}
    assert studies.studies == read_studies(tmp_path).studies


def test_other_names_of_splits_and_deeper_folders_are_taken(tmp_path):
    names = ["Training/a/deep/er/x.png", "Training/b/x.PNG", "valid/a/x.tif", "valid/b/x.png"]
    studies = read_studies(write_images(tmp_path, names))
    assert {study.id: study.split for study in studies.studies} == dict(
        zip(names, ["train", "train", "val", "val"], strict=True)
    )
    assert studies.studies[0].labels == {"label": "a"}


def test_what_is_not_read_is_told(tmp_path):
    write_images(tmp_path, [*SPLIT, "test/loose.png", "test/other.png", "masks/a.png", ".git/x/a.png"])
    (tmp_path / "train/normal/Thumbs.db").write_bytes(b"x")
    studies = read_studies(tmp_path)
    assert [(fault.where, fault.problem, fault.severity) for fault in studies.faults] == [
        (str(tmp_path / "masks"), "no split by that name", "warning"),
        (str(tmp_path / "test"), "2 images are in no class's folder", "warning"),
    ]
    assert len(studies.studies) == len(SPLIT)


def test_classes_may_be_declared(tmp_path):
    write_images(tmp_path, [*SPLIT, "train/odd/a.png"])
    aspect = {"name": "label", "classes": ["mild", "normal"], "reference": "normal"}
    (tmp_path / "dataset.json").write_text(json.dumps({"aspects": [aspect], "diagnosis": "label"}))
    studies = read_studies(tmp_path, strict=False)
    assert studies.label_space["label"].reference == "normal"
    assert [(fault.where, fault.problem) for fault in studies.errors()] == [
        (str(tmp_path / "train/odd/a.png"), "unknown class 'odd' of aspect 'label'")
    ]


def test_one_folder_of_images_is_no_image_folder(tmp_path):
    write_images(tmp_path, ["images/a.png", "images/b.png"])
    with pytest.raises(ConfigurationError, match="no data set in a known format"):
        read_studies(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["images/a.png", "masks/a.png", "Labels/a.png"],
        ["train/images/a.png", "valid/images/b.png", "test/images/c.png"],
        ["train/normal/a.png", "test/normal/b.png"],
    ],
)
def test_folders_that_name_no_two_classes_are_no_image_folder(tmp_path, names):
    with pytest.raises(ConfigurationError, match="no data set in a known format"):
        read_studies(write_images(tmp_path, names))


def test_masks_beside_the_images_of_a_class_are_no_images(tmp_path):
    kinds = [f"{label}/{kind}/{n}.png" for label in "ab" for kind in ("images", "masks") for n in range(9)]
    studies = read_studies(write_images(tmp_path, [*kinds, "masks/1.png"]))
    assert {study.images[0].parent.name for study in studies.studies} == {"images"}
    assert len(studies.studies) == 18
    told = [fault.where for fault in studies.faults if fault.problem.startswith("'masks' is no class")]
    assert told == [str(tmp_path / name) for name in ("a/masks", "b/masks", "masks")]


def test_a_folder_of_data_sets_is_none_and_one_in_it_is_named(tmp_path):
    write_images(tmp_path, [f"{part}/{name}" for part in ("v1", "v2") for name in SPLIT])
    with pytest.raises(ConfigurationError, match=f"the folder {tmp_path / 'v1'} in it does: name that"):
        read_studies(tmp_path)
    assert len(read_studies(tmp_path / "v1").studies) == len(SPLIT)


def test_data_sets_of_other_layouts_in_one_folder_are_no_classes(tmp_path):
    write_images(tmp_path, ["one/images/a.png", "two/images/a.png"])
    (tmp_path / "two/annotation.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=f"holds the data set {tmp_path / 'two'}, and maybe others"):
        read_studies(tmp_path)


def test_folders_that_could_be_patients_are_told(tmp_path):
    studies = read_studies(write_images(tmp_path, [f"p{n}/{view}.png" for n in range(8) for view in "ab"]))
    problems = [fault.problem for fault in studies.faults]
    assert "16 images in 8 folders, each taken for a class" in problems


def test_a_class_that_the_hash_keeps_out_of_train_is_no_error(tmp_path):
    names = [f"{label}/{n}.png" for label in "ab" for n in range(30)] + [f"rare{n}/x.png" for n in range(20)]
    studies = read_studies(write_images(tmp_path, names))
    assert len(studies.studies) == len(names)
    trained = {study.labels["label"] for study in studies.split("train")}
    assert trained < set(studies.label_space["label"].classes)
    assert any("and not in train" in fault.problem for fault in studies.faults)


def test_a_table_beside_classes_has_to_be_chosen(tmp_path):
    write_images(tmp_path, ["a/x.png", "b/x.png", "b/y.png"])
    (tmp_path / "list.csv").write_text("image,label\na/x.png,a\nb/x.png,b\n")
    with pytest.raises(ConfigurationError, match="could be in format table or image_folder: name one"):
        read_studies(tmp_path)
    assert len(read_studies(tmp_path, format="image_folder").studies) == 3
    assert len(read_studies(tmp_path, format="table").studies) == 2


def test_a_link_that_leads_back_is_not_followed_for_ever(tmp_path):
    write_images(tmp_path, ["a/x.png", "b/x.png"])
    (tmp_path / "a/back").symlink_to(tmp_path)
    assert len(read_studies(tmp_path).studies) == 2


NAME = st.text(string.ascii_letters + "é眼 -", min_size=1, max_size=8).map(str.strip).filter(bool)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    classes=st.lists(NAME, min_size=2, max_size=3, unique_by=str.casefold),
    names=st.lists(NAME, min_size=1, max_size=3, unique_by=str.casefold),
)
def test_every_image_is_read_with_the_name_of_its_folder(tmp_path_factory, classes, names):
    root = tmp_path_factory.mktemp("folder")
    for split in ("train", "dev"):
        write_images(root / split, [f"{label}/{name}.png" for label in classes for name in names])
    studies = read_studies(root)
    assert {(s.split, s.labels["label"], s.images[0].stem) for s in studies.studies} == {
        (split, label, name) for split in ("train", "val") for label in classes for name in names
    }
    assert studies.faults == ()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_of_an_image_leaves_the_studies_as_they_are(tmp_path, data):
    if not (tmp_path / "train").is_dir():
        write_images(tmp_path, SPLIT)
    before = read_studies(tmp_path)
    path = tmp_path / data.draw(st.sampled_from(SPLIT))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert read_studies(tmp_path) == before
