"""`check`: every fault of a data set in one pass, with its line."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from study_folders import DATASET, real_data, study_entry, write_folder, write_image

from mdnet.data.check import check, count_kinds, kind_of, label_space_difference
from mdnet.data.study import Aspect, Fault, LabelSpace
from mdnet.errors import ConfigurationError, DataError

CLEAN = [study_entry(number) for number in range(8)]


def test_a_clean_set_has_no_fault(tmp_path):
    assert check(write_folder(tmp_path, CLEAN)) == []


def test_every_kind_of_fault_is_listed_in_one_pass_in_order(tmp_path):
    entries = [
        *CLEAN,
        study_entry(20, images=["broken.png"]),
        "{",
        study_entry(21, images=["missing.png"]),
        study_entry(22, images=["empty.png"], split="train"),
        study_entry(23, labels={"mitosis": "often"}),
        study_entry(24, images=["same.png"], split="test"),
        study_entry(25, split="train", report={}),
        study_entry(0, images=["z.png"]),
        study_entry(26, split="train", masks={"mitosis": "small.png", "nuclei": "bad.png"}),
        study_entry(27, split="test", images=["x.png"], patient="p0"),
    ]
    root = write_folder(tmp_path, entries)
    (root / "broken.png").write_bytes((root / "images/s0.png").read_bytes()[:90])
    (root / "missing.png").unlink()
    (root / "empty.png").write_bytes(b"")
    shutil.copy(root / "images/s0.png", root / "same.png")
    Image.fromarray(np.ones((3, 4), np.uint8)).save(root / "small.png")
    (root / "bad.png").write_text("no mask")
    found = check(root, workers=3)
    expected = [
        (9, "error", "broken.png: damaged image"),
        (10, "error", "broken JSON"),
        (11, "error", "no image"),
        (12, "error", "empty.png: the file is empty"),
        (13, "error", "unknown class 'often'"),
        (14, "warning", "same.png (test) is the same as one of study 's0' (train)"),
        (15, "warning", "empty report"),
        (16, "error", "id 's0' stands twice"),
        (17, "error", "small.png is 3 x 4, its image 8 x 10"),
        (17, "error", "bad.png: not an image"),
        (18, "error", "patient 'p0' stands in two splits"),
    ]
    assert len(found) == len(expected), list(map(str, found))
    for fault, (line, severity, problem) in zip(found, expected, strict=True):
        assert fault.where == f"{root / 'studies.jsonl'}:{line}"
        assert fault.severity == severity
        assert problem in fault.problem
        assert fault.mend
        assert "\n" not in str(fault)


def test_a_study_with_an_error_has_its_image_checked_too(tmp_path):
    root = write_folder(tmp_path, [*CLEAN, study_entry(8, split="dev"), study_entry(0, images=["b.png"])])
    (root / "images/s8.png").write_bytes(b"")
    (root / "b.png").write_bytes(b"")
    problems = [fault.problem.split(": ")[-1] for fault in check(root)]
    assert len(problems) == 4
    assert problems[1] == problems[3] == "the file is empty"


def test_without_decoding_only_the_files_of_the_layout_are_read(tmp_path):
    root = write_folder(tmp_path, CLEAN)
    (root / "images/s0.png").write_bytes(b"")
    assert check(root, decode=False) == []
    assert len(check(root)) == 1


def test_the_same_image_within_one_split_is_no_fault(tmp_path):
    root = write_folder(tmp_path, CLEAN)
    shutil.copy(root / "images/s0.png", root / "images/s4.png")
    assert check(root) == []


def test_progress_counts_every_study(tmp_path):
    calls = []
    check(write_folder(tmp_path, CLEAN), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(number + 1, 8) for number in range(8)]


def test_a_sets_that_is_larger_than_what_is_decoded_ahead(tmp_path):
    write_image(tmp_path / "a.png")
    entries = [{"id": f"s{number}", "images": ["a.png"]} for number in range(600)]
    calls = []
    assert check(write_folder(tmp_path, entries), progress=lambda *call: calls.append(call)) == []
    assert calls[-1] == (600, 600)


def test_a_label_space_unlike_the_models_is_one_fault(tmp_path):
    root = write_folder(tmp_path, CLEAN)
    own = LabelSpace.from_dict(DATASET)
    assert check(root, label_space=own) == []
    other = LabelSpace(
        (Aspect("mitosis", ("absent", "rare")), Aspect("findings", ("blur", "fold"))), "mitosis"
    )
    (fault,) = check(root, label_space=other)
    assert fault.where == str(root)
    assert fault.severity == "error"
    for part in (
        "aspect 'mitosis' has 'frequent', the model knows 'absent', 'rare'",
        "aspect 'findings' takes several classes a study, in the model one class",
        "the model has no aspect 'conclusion'",
        "the diagnosis is 'conclusion', in the model 'mitosis'",
    ):
        assert part in fault.problem


def test_order_and_reference_belong_to_the_model_and_missing_labels_do_no_harm():
    model = LabelSpace((Aspect("a", ("x", "y", "z")), Aspect("b", ("u", "v"))), "a")
    data = LabelSpace((Aspect("a", ("z", "x"), "z", ordered=True),), "a")
    assert label_space_difference(data, model) == []
    assert label_space_difference(LabelSpace(), model) == []
    assert label_space_difference(model, LabelSpace()) == [
        "the model has no aspect 'a'",
        "the model has no aspect 'b'",
    ]


def test_what_is_no_data_set_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError):
        check(tmp_path)
    with pytest.raises(DataError):
        check(tmp_path / "none")


def test_r2gen_images_are_checked_too(tmp_path):
    entry = {"id": "a", "report": "A.", "image_path": ["a.png"]}
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_text("no image")
    (tmp_path / "annotation.json").write_text(json.dumps({"train": [entry]}))
    (fault,) = check(tmp_path)
    assert fault.where == f"{tmp_path / 'annotation.json'} train[0]"
    assert "not an image" in fault.problem


def test_real_fundus_photographs_are_clean():
    assert check(real_data("csdi_cataract")) == []


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        ("no image /data/my set/a 1.png", "no image ….png"),
        ("unknown class 'often' of aspect \"cell's type\"", "unknown class … of aspect …"),
        ("mask /a/b.png is 3 x 4, its image 8 x 10", "mask … is … x …, its image … x …"),
        ("/a/b.png: damaged image (truncated)", "…: damaged image (truncated)"),
        ("the image's mean is 3.5, not the model's", "the image's mean is …, not the model's"),
        ("empty report (12 times: also at :4, :7, ...)", "empty report"),
    ],
)  # fmt: skip
def test_faults_of_one_kind_have_one_name(problem, kind):
    assert kind_of(Fault("x", problem, "mend")) == kind


def test_a_fault_that_stands_for_several_counts_as_these():
    faults = [
        Fault("x:1", "no image /a.png", "m"),
        Fault("x:2", "no image /b.png", "m"),
        Fault("x:3", "empty report (1334 times: also at :4, ...)", "m", "warning"),
    ]
    assert count_kinds(faults) == {("error", "no image …"): 2, ("warning", "empty report"): 1334}


def test_an_image_seen_first_in_no_split_is_still_told_where_it_leaks(tmp_path):
    entries = [study_entry(0, split=None), study_entry(1, split="train"), study_entry(2, split="test")]
    root = write_folder(tmp_path, entries)
    for number in (1, 2):
        shutil.copy(root / "images/s0.png", root / f"images/s{number}.png")
    leaks = [fault for fault in check(root) if "is the same as" in fault.problem]
    assert [fault.problem.split("s2.png ")[1] for fault in leaks] == [
        "(test) is the same as one of study 's1' (train)"
    ]
