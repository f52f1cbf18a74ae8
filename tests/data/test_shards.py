"""Tar shards: what is written is read back, by us and by webdataset, and damage is noticed."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_folders import study_entry, write_folder, write_image

from mdnet.data import shard_index
from mdnet.data.check import check
from mdnet.data.images import load_image, load_mask
from mdnet.data.readers import read_studies
from mdnet.data.sampling import WINDOW, draw_epoch
from mdnet.data.shard_index import file_size, find_member, read_file
from mdnet.data.shards import shard_numbers, write_shards
from mdnet.data.statistics import data_hash, statistics
from mdnet.data.study import Study
from mdnet.errors import ConfigurationError, DataError, ImageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Our own layout: 12 studies, one of two views, one without a split, some with masks."""
    root = tmp_path_factory.mktemp("own")
    entries = [study_entry(number) for number in range(10)]
    entries.append(study_entry(10, split=None, labels=None, report=None, patient=None))
    views = [f"images/v{view}.png" for view in range(12)]
    masks = {"mitosis": "images/s0.png", "odd/name": "images/s1.png"}
    entries.append(study_entry(11, images=views, masks=masks))
    return write_folder(root, entries)


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory) -> Path:
    return write_shards(read_studies(folder), tmp_path_factory.mktemp("shards") / "set", shard_size=4000)


@pytest.fixture(scope="module")
def whole(shards) -> dict[str, tuple]:
    return contents(read_studies(shards).studies)


def contents(studies) -> dict[str, tuple]:
    """All of every study but where its files lie."""
    return {
        study.id: (
            replace(study, images=(), masks={}, source=""),
            [load_image(path).tolist() for path in study.images],
            {name: load_mask(path).tolist() for name, path in study.masks.items()},
        )
        for study in studies
    }


def plain(studies) -> list[Study]:
    return [replace(study, source="") for study in studies]


def test_what_is_written_is_read_back(folder, shards):
    own, back = read_studies(folder), read_studies(shards)
    assert back.format == "shards"
    assert contents(back.studies) == contents(own.studies)
    assert (back.label_space, back.sections) == (own.label_space, own.sections)
    assert back.provenance == own.provenance
    assert check(shards) == list(back.faults)
    assert statistics(back) | {"format": ""} == statistics(own) | {"format": ""}
    assert len(data_hash(back)) == 64


def test_a_shard_holds_one_split_and_is_closed_at_its_size(shards):
    studies = read_studies(shards).studies
    homes = {(study.images[0].parent.name, study.split) for study in studies}
    assert len(homes) == len(list(shards.glob("*.tar")))
    assert all(name.startswith(f"{split or 'none'}-") for name, split in homes)
    assert Counter(split for _, split in homes)["train"] > 1
    ids = [study.id for study in studies if study.split == "train"]
    assert ids != sorted(ids)


def test_the_index_made_anew_is_the_one_that_was_written(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "copy")
    for name in ("shards.jsonl", "shards.npy"):
        (copy / name).unlink()
    anew, written = read_studies(copy).studies, read_studies(shards).studies
    assert contents(anew) == contents(written)
    assert [study.id for study in anew] == [study.id for study in written]
    assert (copy / "shards.npy").read_bytes() == (shards / "shards.npy").read_bytes()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its tars open
def test_webdataset_reads_our_shards(folder, shards):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    names = [str(path) for path in sorted(shards.glob("*.tar"))]
    own = contents(read_studies(folder).studies)
    seen = list(webdataset.WebDataset(names, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert {sample["json"]["id"] for sample in seen} == set(own)
    for sample in seen:
        study, images, _ = own[sample["json"]["id"]]
        assert sample["json"].get("labels", {}).keys() == study.labels.keys()
        assert [sample[f"{view}.png"].tolist() for view in range(len(images))] == images


def add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    shard.addfile(entry, io.BytesIO(content))


def test_shards_of_other_makers_are_read(tmp_path):
    root = tmp_path / "theirs"
    image = write_image(tmp_path / "a.jpg").read_bytes()
    root.mkdir()
    with tarfile.open(root / "faces-train-000.tar", "w") as shard:
        add(shard, "a/0001.jpg", image)
        add(shard, "a/0001.txt", b"The heart is large.")
        add(shard, "a/0001.cls", b"3\n")
        add(shard, "b/0001.left.jpg", image)
        add(shard, "b/0001.json", json.dumps({"labels": {"label": "4"}, "width": 10, "images": 7}).encode())
        add(shard, "README", b"no dot in the name")
        add(shard, "b/._0001.jpg", b"as macOS adds them")
    with tarfile.open(root / "faces-validation-000.tar", "w") as shard:
        add(shard, "/0002.jpg", image)
        add(shard, "0002.json", b'["no record"]')
    found = read_studies(root).studies
    train = root / "faces-train-000.tar"
    report = {"report": ("The heart is large.",)}
    assert plain(found) == [
        Study("a/0001", (train / "a/0001.jpg",), "train", None, {"label": "3"}, report),
        Study("b/0001", (train / "b/0001.left.jpg",), "train", None, {"label": "4"}),
        Study("0002", (root / "faces-validation-000.tar/0002.jpg",), "val"),
    ]
    assert load_image(found[0].images[0]).shape == (8, 10, 3)
    assert read_file(found[1].images[0]) == image
    assert file_size(found[1].images[0]) == len(image)


def test_two_files_of_one_name_are_an_error_and_not_one_of_them(tmp_path):
    with tarfile.open(tmp_path / "train-0.tar", "w") as shard:
        for number in range(2):
            add(shard, "a.png", write_image(tmp_path / "image.png", seed=number).read_bytes())
            add(shard, "a.json", json.dumps({"id": f"s{number}"}).encode())
    (tmp_path / "image.png").unlink()
    with pytest.raises(DataError, match="two files in a shard have one name"):
        read_studies(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train-0.tar"]


@pytest.mark.parametrize("name", ["x.dcm", "x.png"])
def test_what_is_no_png_or_jpeg_is_written_without_its_header(tmp_path, name):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    root = write_folder(tmp_path / "own", [study_entry(0, images=[name])], images=False)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    dicom = FileDataset(root / name, {}, file_meta=meta, preamble=b"\0" * 128)
    dicom.SOPClassUID, dicom.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    dicom.PatientName = "Doe^Jane"
    dicom.Rows, dicom.Columns, dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
    dicom.BitsAllocated = dicom.BitsStored = 8
    dicom.HighBit, dicom.PixelRepresentation = 7, 0
    dicom.PixelData = bytes(range(0, 200, 10))
    pydicom.dcmwrite(root / name, dicom, enforce_file_format=True)
    written = write_shards(read_studies(root, strict=False), tmp_path / "set")
    path = read_studies(written, strict=False).studies[0].images[0]
    np.testing.assert_array_equal(load_image(path), load_image(root / name))
    assert all(b"Doe" not in file.read_bytes() for file in written.iterdir())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_is_an_error_or_changes_nothing(shards, whole, tmp_path, data):
    copy = shutil.copytree(shards, tmp_path / "damaged", dirs_exist_ok=True)
    file = data.draw(st.sampled_from(sorted(path for path in copy.iterdir() if path.name != "dataset.json")))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    found = read_studies(copy, strict=False)
    assert len(found.studies) == len(whole) or any(found.errors())
    for study in found.studies:
        try:
            (identifier, read), *_ = contents([study]).items()
        except DataError:
            continue
        assert read == whole[identifier]


def test_a_size_or_place_that_no_shard_has_is_an_error_and_takes_no_memory(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "copy")
    path = read_studies(copy).studies[0].images[0]
    whole = np.load(copy / "shards.npy")
    for column in ("offset", "size"):
        for number in (1 << 63, 1 << 40, (1 << 64) - 1):
            index = whole.copy()
            index[column] = number
            shard_index._mapped.cache_clear()
            np.save(copy / "shards.npy", index)
            with pytest.raises(ImageError, match="not what was put into the shard"):
                load_image(path)


def test_a_damaged_head_of_the_index_is_one_error_whatever_the_damage(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "copy")
    path = read_studies(copy).studies[0].images[0]
    whole = (copy / "shards.npy").read_bytes()
    head = whole.index(b"\n") + 1
    for place in range(head):
        content = bytearray(whole)
        content[place] ^= 1 + place % 255
        shard_index._mapped.cache_clear()  # which goes by size and time, and a clock may be coarse
        (copy / "shards.npy").write_bytes(content)
        with pytest.raises(DataError, match=r"delete shards\.npy"):
            load_image(path)


@pytest.mark.parametrize("change", ["another", "missing", "shorter", "half"])
def test_shards_other_than_those_indexed_are_an_error_with_a_mend(shards, tmp_path, change):
    copy = shutil.copytree(shards, tmp_path / "copy")
    first = min(copy.glob("*.tar"))
    if change == "another":
        shutil.copy(first, copy / "train-999999.tar")
    elif change == "missing":
        first.unlink()
    elif change == "shorter":
        first.write_bytes(first.read_bytes()[:700])
    else:
        records = (copy / "shards.jsonl").read_bytes()
        (copy / "shards.jsonl").write_bytes(records[: len(records) // 2])
    with pytest.raises(DataError, match=r"delete it and shards\.npy"):
        read_studies(copy)
    if change == "shorter":
        (copy / "shards.jsonl").unlink()
        with pytest.raises(DataError, match="no whole tar"):
            read_studies(copy)


def test_a_member_that_is_not_there_is_an_image_error(shards):
    first = min(shards.glob("*.tar"))
    for path in (first / "absent.png", first / "absent/0.png", shards / "dataset.json" / "x.png"):
        assert find_member(path) is None
        with pytest.raises(ImageError, match="no such"):
            load_image(path)


def test_an_unreadable_image_leaves_no_half_of_a_set(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "own")
    studies = read_studies(copy)
    (copy / "images/s3.png").unlink()
    with pytest.raises(FileNotFoundError):
        write_shards(studies, tmp_path / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"own"}
    with pytest.raises(ConfigurationError, match="not an empty folder"):
        write_shards(studies, copy)


def test_an_epoch_goes_through_windows_of_shards_with_every_study_once(shards):
    studies = read_studies(shards).studies
    numbers = shard_numbers(studies)
    homes = [study.images[0].parent for study in studies]
    assert [homes[0] == home for home in homes] == (numbers == 0).tolist()
    of_study = np.repeat(np.arange(3 * WINDOW), 5)
    first = [draw.study for draw in draw_epoch(len(of_study), seed=3, epoch=0, shards=of_study)]
    assert sorted(first) == list(range(len(of_study)))
    windows = np.split(of_study[first], 3)
    assert [len(set(window)) for window in windows] == [WINDOW] * 3
    assert all(len(set(window[:WINDOW])) > 2 for window in windows)  # mixed, not shard by shard
    again = [draw.study for draw in draw_epoch(len(of_study), seed=3, epoch=0, shards=of_study)]
    other = [draw.study for draw in draw_epoch(len(of_study), seed=3, epoch=1, shards=of_study)]
    assert again == first
    assert set(of_study[other[: 5 * WINDOW]]) != set(windows[0])
