"""Hugging Face data sets: folders of `save_to_disk`, parquet and JSON lines; columns and images in them."""

import io
import json
import sys

import huggingface_hub
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from study_folders import write_image

from mdnet.data import read_studies
from mdnet.data.images import load_image
from mdnet.data.readers import ReaderOptions
from mdnet.errors import ConfigurationError, DataError, MissingExtraError

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The library's cache, and no network."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def picture(number):
    values = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    PillowImage.fromarray(values).save(out, "PNG")
    return values, out.getvalue()


FEATURES = {
    "image": datasets.Image(),
    "caption": datasets.Value("string"),
    "label": datasets.ClassLabel(names=["normal", "mild"]),
    "tags": datasets.List(datasets.ClassLabel(names=["fold", "blur"])),
    "patient_id": datasets.Value("int64"),
}


def table(numbers, **changes):
    columns = {
        "image": [{"bytes": picture(n)[1], "path": None} for n in numbers],
        "caption": [f"Caption {n}." for n in numbers],
        "label": [n % 2 for n in numbers],
        "tags": [[n % 2] if n % 3 else [] for n in numbers],
        "patient_id": list(numbers),
    } | {name: value for name, value in changes.items() if name != "features"}
    features = datasets.Features(changes.get("features", FEATURES))
    return datasets.Dataset.from_dict(columns, features=features)


def dictionary(**splits):
    return datasets.DatasetDict(
        splits or {"train": table(range(4)), "validation": table([4, 5]), "test": table([6, 7])}
    )


def save(form, root):
    """The same data set in each form that is read."""
    data = dictionary()
    if form == "save_to_disk":
        data.save_to_disk(root)
        return root
    folder = root / "data" if form == "parquet in data/" else root
    folder.mkdir(parents=True)
    for split, part in data.items():
        part.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return root


FORMS = ["save_to_disk", "parquet", "parquet in data/"]


@pytest.mark.parametrize("form", FORMS)
def test_images_texts_and_labels_are_read_in_each_form(tmp_path, form):
    root = save(form, tmp_path / "set")
    options = ReaderOptions({"label": "label", "label.tag": "tags"})
    studies = read_studies(root, options=options)
    assert (studies.format, studies.faults) == ("hub", ())
    assert [len(studies.split(split)) for split in ("train", "val", "test")] == [4, 2, 2]
    second = studies.split("train")[1]
    assert (second.id, second.patient, second.source) == ("train-1", "1", f"{root} train[1]")
    assert second.labels == {"label": "mild", "tag": ("blur",)}
    assert second.report == {"report": ("Caption 1.",)}
    assert studies.label_space["label"].classes == ("normal", "mild")
    for study in studies.studies:
        assert np.array_equal(load_image(study.images[0]), picture(int(study.patient))[0])


def test_images_inside_a_table_are_written_once(tmp_path, cache):
    root = save("save_to_disk", tmp_path / "set")
    first = read_studies(root)
    files = {path: path.stat().st_mtime_ns for path in (cache / "mdnet_images").rglob("*") if path.is_file()}
    assert len(files) == 8
    assert read_studies(root) == first
    assert files == {
        path: path.stat().st_mtime_ns for path in (cache / "mdnet_images").rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("mark", ["DICM", "its name"])
def test_a_dicom_image_inside_a_table_is_not_copied(tmp_path, cache, mark):
    data = {"bytes": b"\0" * 128 + b"DICM" + b"patient name", "path": None}
    if mark == "its name":
        data = {"bytes": b"patient name", "path": "a.DCM"}
    others = [{"bytes": picture(number)[1], "path": None} for number in (0, 2, 3)]
    images = [others[0], data, *others[1:]]
    features = FEATURES | {"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}}
    dictionary(train=table(range(4), image=images, features=features)).save_to_disk(tmp_path / "set")
    errors = list(read_studies(tmp_path / "set", strict=False).errors())
    assert [(error.where, error.problem) for error in errors] == [
        (f"{tmp_path / 'set'} train[1]", "a DICOM image inside the table")
    ]
    assert len(list((cache / "mdnet_images").rglob("*"))) == 6  # three images in three folders


def test_json_lines_that_name_images_beside_them_are_read(tmp_path):
    for split, numbers in [("train", range(4)), ("dev", [4, 5])]:
        lines = []
        for number in numbers:
            write_image(tmp_path / f"images/{number}.png", seed=number)
            entry = {"image": f"images/{number}.png", "text": f"T {number}.", "label": ["a", "b"][number % 2]}
            lines.append(json.dumps(entry) + "\n")
        (tmp_path / f"my_{split}.jsonl").write_text("".join(lines))
    studies = read_studies(tmp_path)
    assert (studies.format, studies.faults) == ("hub", ())
    assert [len(studies.split(split)) for split in ("train", "val")] == [4, 2]
    first = studies.split("val")[0]
    assert (first.images, first.labels) == ((tmp_path / "images/4.png",), {"label": "a"})


@pytest.mark.parametrize("only", ["a Dataset", "train"])
def test_a_set_without_splits_is_parted_by_patients(tmp_path, only):
    part = table(range(40), patient_id=[n // 2 for n in range(40)])
    (part if only == "a Dataset" else dictionary(train=part)).save_to_disk(tmp_path / "set")
    studies = read_studies(tmp_path / "set")
    assert studies.faults[0].problem.startswith("no split; by a hash of the patient: ")
    assert {study.split for study in studies.studies} == {"train", "val", "test"}


def test_a_split_column_is_taken(tmp_path):
    features = FEATURES | {"split": datasets.Value("string")}
    part = table(range(4), split=["train", "train", "dev", "test"], features=features)
    part.save_to_disk(tmp_path / "set")
    studies = read_studies(tmp_path / "set").studies
    assert [study.split for study in studies] == ["train", "train", "val", "test"]


def test_an_unknown_split_is_told_once_and_not_read(tmp_path):
    dictionary(train=table(range(4)), test=table([4, 5]), extra=table([6, 7])).save_to_disk(tmp_path / "set")
    studies = read_studies(tmp_path / "set")
    assert [(fault.where, fault.problem) for fault in studies.faults] == [
        (f"{tmp_path / 'set'} extra", "unknown split 'extra'")
    ]
    assert len(studies.studies) == 6


def write_lines(file, numbers):
    """JSON lines with their images."""
    for number in numbers:
        write_image(file.parent / f"{number}.png", seed=number)
    lines = [json.dumps({"image": f"{n}.png", "text": f"T {n}."}) + "\n" for n in numbers]
    file.write_text("".join(lines))


def test_a_file_of_no_split_beside_those_of_splits_is_an_error(tmp_path):
    for name, numbers in [("train", range(4)), ("test", [4]), ("holdout", [5])]:
        write_lines(tmp_path / f"{name}.jsonl", numbers)
    with pytest.raises(DataError, match="its name says no split") as error:
        read_studies(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "holdout.jsonl"))


def test_one_file_is_read_alone_with_the_split_of_its_name(tmp_path):
    for name, numbers in [("train", range(4)), ("test", [4, 5]), ("other", [6, 7, 8])]:
        write_lines(tmp_path / f"{name}.jsonl", numbers)
    assert [study.split for study in read_studies(tmp_path / "test.jsonl").studies] == ["test", "test"]
    found = read_studies(tmp_path / "other.jsonl").studies
    assert [study.images[0].name for study in found] == ["6.png", "7.png", "8.png"]
    assert len({study.split for study in found}) == 3


def test_several_images_and_several_references(tmp_path):
    features = FEATURES | {
        "image": datasets.List(datasets.Image()),
        "caption": datasets.List(datasets.Value("string")),
    }
    images = [[{"bytes": picture(n + k)[1], "path": None} for k in range(2)] for n in (0, 10, 20, 30)]
    texts = [[f"One {n}.", f"Two {n}."] for n in range(4)]
    table(range(4), image=images, caption=texts, features=features).save_to_disk(tmp_path / "set")
    study = read_studies(tmp_path / "set").studies[1]
    assert study.report == {"report": ("One 1.", "Two 1.")}
    assert [load_image(path)[0, 0, 0] for path in study.images] == [picture(n)[0][0, 0, 0] for n in (10, 11)]


def test_a_class_number_of_minus_one_is_no_label(tmp_path):
    table(range(4), label=[0, 1, -1, 0]).save_to_disk(tmp_path / "set")
    studies = read_studies(tmp_path / "set").studies
    assert [study.labels.get("label") for study in studies] == ["normal", "mild", None, "normal"]


def test_columns_are_by_name(tmp_path):
    save("parquet", tmp_path / "set")
    with pytest.raises(
        ConfigurationError, match=r"no column 'captoin' for report \(did you mean 'caption'\?\)"
    ):
        read_studies(tmp_path / "set", options=ReaderOptions({"report": "captoin"}))
    studies = read_studies(tmp_path / "set", options=ReaderOptions({"report.findings": "caption"}))
    assert studies.sections == ("findings",)


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    save("parquet", tmp_path / "set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mdnet\[datasets\]'"):
        read_studies(tmp_path / "set")


def test_a_name_that_is_no_folder_needs_the_format_and_the_hub(tmp_path):
    with pytest.raises(DataError, match="a data set of the Hugging Face hub takes the format hub"):
        read_studies("nobody/nothing-here")
    with pytest.raises(DataError, match="nobody/nothing-here: datasets cannot load it"):
        read_studies("nobody/nothing-here", format="hub")


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(TEXT, min_size=3, max_size=5),
    labels=st.lists(st.sampled_from([0, 1]), min_size=5, max_size=5),
)
def test_what_is_written_is_read_again(tmp_path_factory, texts, labels):
    root = tmp_path_factory.mktemp("hub") / "set"
    count = len(texts)
    train = table(range(count), caption=texts, label=labels[:count])
    other = table([90, 91], label=[0, 1])
    dictionary(train=train, validation=other).save_to_disk(root)
    aspect = {"name": "label", "classes": ["normal", "mild"]}
    (root / "dataset.json").write_text(json.dumps({"aspects": [aspect]}))
    back = read_studies(root).split("train")
    assert [study.report["report"][0] for study in back] == [text.strip() for text in texts]
    assert [study.labels["label"] for study in back] == [["normal", "mild"][n] for n in labels[:count]]


@pytest.mark.parametrize("form", ["save_to_disk", "parquet"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_never_crashes(tmp_path, form, data):
    root = tmp_path / "set"
    if not root.is_dir():
        save(form, root)
    ending = {"save_to_disk": "*.arrow", "parquet": "*.parquet"}[form]
    file = sorted(root.rglob(ending))[0]
    original = file.read_bytes()
    flipped = bytearray(original)
    flipped[data.draw(st.integers(0, len(original) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    try:
        studies = read_studies(root, strict=False)
        assert len(studies.studies) + len(studies.left_out) == 8
    except (DataError, ConfigurationError) as error:
        assert str(root) in str(error)  # noqa: PT017
    finally:
        file.write_bytes(original)
