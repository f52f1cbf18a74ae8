"""`convert`: what is written is read back the same, and what a layout cannot hold is said."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from study_folders import DATASET, study_entry, write_folder, write_image

from mdnet.data import LabelSpace, read_studies
from mdnet.data.convert import LAYOUTS, convert, losses
from mdnet.data.images import load_image
from mdnet.data.shard_index import read_file
from mdnet.errors import ConfigurationError, DataError, ImageError


def make(root):
    """Several views, writers and masks, a missing label, no report, ids that are no file names."""
    entries = [
        study_entry(0, id="A/1", images=["images/x.png", "y.jpg", "z.png"], masks={"mitosis": "m.png"}),
        study_entry(1, id="a-2f-1", images=["x.bmp"]),  # as the first one's name is written
        study_entry(2, id="学" * 200, labels=None, report=None, patient=None),
        study_entry(3, images=["images/x.png"], split="train", masks={"cell type": "n.png"}),
        study_entry(4, images=["images/s4.png", "images/s4b.png"], labels={"findings": []}),
    ]
    write_folder(root, entries)
    for number, name in enumerate(("m.png", "n.png")):
        inside = np.random.default_rng(number).integers(0, 2, (8, 10), dtype=np.uint8) * 255
        Image.fromarray(inside).save(root / name)
    return read_studies(root)


def told(studies, *, files=True):
    """Everything that a study says, by its id; files by their bytes."""
    return {
        study.id: (
            study.split,
            study.patient,
            dict(study.labels),
            dict(study.report),
            [read_file(image) for image in study.images] if files else len(study.images),
            {name: read_file(mask) for name, mask in study.masks.items()} if files else list(study.masks),
        )
        for study in studies.studies
    }


def test_our_own_layout_holds_everything(tmp_path):
    studies = make(tmp_path / "in")
    assert losses(studies, "studies") == []
    back = read_studies(convert(studies, tmp_path / "out", to="studies"))
    assert told(back) == told(studies)
    assert [study.id for study in back.studies] == [study.id for study in studies.studies]
    assert (back.label_space, back.sections) == (studies.label_space, studies.sections)
    assert back.provenance == studies.provenance == DATASET["provenance"]
    assert all(image.is_relative_to(tmp_path / "out") for study in back.studies for image in study.images)


def test_a_file_that_two_studies_share_is_copied_once(tmp_path):
    studies = make(tmp_path / "in")
    back = read_studies(convert(studies, tmp_path / "out", to="studies"))
    by_id = {study.id: study for study in back.studies}
    assert by_id["s3"].images[0] == by_id["A/1"].images[0]
    assert len(list((tmp_path / "out/images").iterdir())) == 7


def test_shards_hold_everything(tmp_path):
    studies = make(tmp_path / "in")
    shards = read_studies(convert(studies, tmp_path / "shards", to="shards"))
    back = read_studies(convert(shards, tmp_path / "out", to="studies"))
    assert told(back, files=False) == told(studies, files=False)
    pixels = {study.id: [load_image(image).tolist() for image in study.images] for study in studies.studies}
    assert {s.id: [load_image(image).tolist() for image in s.images] for s in back.studies} == pixels
    assert (back.label_space, back.sections) == (studies.label_space, studies.sections)
    assert losses(studies, "shards") == [
        "1 images are written as PNG, 8 bits: shards hold PNG, JPEG and WebP"
    ]


def test_r2gen_holds_what_it_can_and_the_rest_is_said(tmp_path, caplog):
    studies = make(tmp_path / "in")
    with caplog.at_level(logging.WARNING, "mdnet"):
        folder = convert(studies, tmp_path / "out", to="r2gen")
    said = "\n".join(caplog.messages)
    for loss in (
        "up to 2 writers a report: the first one is kept",
        "sections mitosis, conclusion: their texts become one, in this order",
        "labels of mitosis, findings are left out",
        "the aspect 'conclusion' is called 'label'",
        "2 masks are left out",
    ):
        assert loss in said
    back = read_studies(folder, strict=False)
    before, after = told(studies), told(back)
    assert after.keys() == before.keys()
    for name, (split, patient, labels, report, images, masks) in after.items():
        assert (split, patient, images) == (before[name][0], before[name][1], before[name][4])
        assert labels == ({"label": before[name][2]["conclusion"]} if "conclusion" in before[name][2] else {})
        texts = [before[name][3][section][0] for section in studies.sections if before[name][3]]
        assert report == ({"report": (" ".join(texts),)} if texts else {})
        assert masks == {}
    assert back.label_space.names == ("label",)
    assert back.label_space["label"].classes == studies.label_space["conclusion"].classes
    assert back.provenance == studies.provenance


def test_what_r2gen_holds_comes_back_equal(tmp_path):
    """Studies, R2Gen, studies, R2Gen: once brought to what R2Gen holds, nothing changes any more."""
    aspects = [{"name": "label", "classes": ["normal", "abnormal"], "reference": "abnormal"}]
    dataset = {"aspects": aspects, "diagnosis": "label", "sections": ["findings"], "provenance": "a test"}
    entries = [
        study_entry(number, labels={"label": "normal"}, report={"findings": [f"Text {number}."]})
        for number in range(6)
    ]
    studies = read_studies(write_folder(tmp_path / "in", entries, dataset=dataset))
    assert losses(studies, "r2gen") == []
    r2gen = read_studies(convert(studies, tmp_path / "r2gen", to="r2gen"))
    back = read_studies(convert(r2gen, tmp_path / "out", to="studies"))
    for found in (r2gen, back):
        assert told(found) == told(studies)
        assert (found.label_space, found.sections) == (studies.label_space, studies.sections)
        assert found.provenance == "a test"


def test_r2gen_asks_for_a_split(tmp_path):
    studies = read_studies(write_folder(tmp_path / "in", [study_entry(0, split=None), study_entry(1)]))
    with pytest.raises(DataError, match=r"1 of 2 studies have no split.*mdnet data split"):
        convert(studies, tmp_path / "out", to="r2gen")
    assert not (tmp_path / "out").exists()


def test_links_lead_to_the_files_and_copies_do_not(tmp_path):
    studies = make(tmp_path / "in")
    linked = read_studies(convert(studies, tmp_path / "links", to="studies", link=True))
    copied = read_studies(convert(studies, tmp_path / "copies", to="studies"))
    assert told(linked) == told(copied) == told(studies)
    assert all(image.is_symlink() for study in linked.studies for image in study.images)
    assert not any(image.is_symlink() for study in copied.studies for image in study.images)
    with pytest.raises(ConfigurationError, match="shards hold their images"):
        convert(studies, tmp_path / "out", to="shards", link=True)


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a"])
def test_no_header_of_a_dicom_file_is_handed_on(tmp_path, caplog, name, link):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.PatientName = "Surname^Given"
    image.Rows, image.Columns, image.SamplesPerPixel = 4, 6, 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = np.arange(24, dtype=np.uint8).tobytes()
    write_folder(tmp_path / "in", [study_entry(0, images=[name])], images=False)
    image.save_as(tmp_path / "in" / name, enforce_file_format=True)
    studies = read_studies(tmp_path / "in")
    with caplog.at_level(logging.WARNING, "mdnet"):
        back = read_studies(convert(studies, tmp_path / "out", to="studies", link=link))
    (path,) = back.studies[0].images
    assert path.suffix == ".png"
    assert not path.is_symlink()
    assert np.array_equal(load_image(path), load_image(studies.studies[0].images[0]))
    with Image.open(path) as written:
        assert written.mode == "L"
    assert "1 images or masks are written as PNG" in caplog.text
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or b"Surname" not in file.read_bytes()


def test_a_16_bit_tiff_keeps_its_bits(tmp_path):
    root = write_folder(tmp_path / "in", [study_entry(0, images=["a.tif"])], images=False)
    Image.fromarray(np.arange(80, dtype=np.uint16).reshape(8, 10) * 800).save(root / "a.tif")
    back = read_studies(convert(read_studies(root), tmp_path / "out", to="studies"))
    assert back.studies[0].images[0].read_bytes() == (root / "a.tif").read_bytes()


def test_a_file_without_an_ending_gets_the_one_of_its_content(tmp_path):
    """As the images of a Hugging Face data set are called."""
    root = write_folder(tmp_path / "in", [study_entry(0, images=["abc"])], images=False)
    write_image(root / "a.jpg").rename(root / "abc")
    back = read_studies(convert(read_studies(root), tmp_path / "out", to="studies"))
    assert back.studies[0].images[0].name == "s0.jpg"


@pytest.mark.parametrize("to", LAYOUTS)
def test_a_damaged_image_ends_it_and_leaves_nothing(tmp_path, to):
    root = write_folder(tmp_path / "in", [study_entry(0), study_entry(1, images=["a.nii"])], images=False)
    write_image(root / "images/s0.png")
    (root / "a.nii").write_bytes(b"no volume")
    with pytest.raises(ImageError, match=r"a\.nii"):
        convert(read_studies(root), tmp_path / "out", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_full_folder_and_an_unknown_layout_are_refused(tmp_path):
    studies = make(tmp_path / "in")
    for to in LAYOUTS:
        with pytest.raises(ConfigurationError, match="not an empty folder"):
            convert(studies, tmp_path / "in", to=to)
    with pytest.raises(ConfigurationError, match="no layout 'csv' to convert to"):
        convert(studies, tmp_path / "out", to="csv")


def test_a_killed_process_leaves_nothing_under_the_name(tmp_path):
    """Killed while the first files are copied, in a process of its own."""
    make(tmp_path / "in")
    script = """if True:
        import os, shutil, signal, sys
        from mdnet.data import read_studies
        from mdnet.data import convert
        convert.shutil.copyfile = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        convert.convert(read_studies(sys.argv[1]), sys.argv[2], to="studies")
    """
    words = [sys.executable, "-c", script, tmp_path / "in", tmp_path / "out"]
    assert subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}).returncode == -9
    assert not (tmp_path / "out").exists()
    assert all(path.name.startswith(".out.") for path in tmp_path.iterdir() if path.name != "in")


def test_a_full_disk_is_told_by_the_folder(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr("mdnet.data.convert.shutil.copyfile", full)
    with pytest.raises(OSError, match="free some space") as error:
        convert(make(tmp_path / "in"), tmp_path / "out", to="studies")
    assert error.value.filename == str(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("to", LAYOUTS)
def test_progress_counts_every_study(tmp_path, to):
    calls = []
    convert(make(tmp_path / "in"), tmp_path / "out", to=to, progress=lambda *call: calls.append(call))
    assert calls[-1] == (5, 5)


def test_a_set_without_labels_and_reports_converts_too(tmp_path):
    entries = [
        {"id": "a", "images": ["a.png"], "split": "train"},
        {"id": "b", "images": ["b.png"], "split": "val"},
    ]
    studies = read_studies(write_folder(tmp_path / "in", entries, dataset=None))
    for to in LAYOUTS:
        back = read_studies(convert(studies, tmp_path / to, to=to))
        assert told(back) == told(studies)
        assert back.label_space == LabelSpace()


def test_annotation_is_what_r2gens_own_code_reads(tmp_path):
    folder = convert(make(tmp_path / "in"), tmp_path / "out", to="r2gen")
    annotation = json.loads((folder / "annotation.json").read_text())
    assert set(annotation) == {"train", "val", "test"}
    for split, entries in annotation.items():
        for entry in entries:
            assert entry["split"] == split
            assert isinstance(entry["id"], str)
            assert isinstance(entry["report"], str)
            assert all((folder / "images" / name).is_file() for name in entry["image_path"])
