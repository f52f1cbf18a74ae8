"""`split`: who stays together, every class in its share, the same on any machine."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from study_folders import real_data, study_entry, write_folder

from mdnet.data import Aspect, LabelSpace, Study, StudySet, read_studies
from mdnet.data.splitting import split_studies, write_split
from mdnet.data.study import SPLITS
from mdnet.errors import ConfigurationError, DataError

SHARES = (0.7, 0.1, 0.2)
SPACE = LabelSpace(
    (
        Aspect("grade", ("none", "mild", "severe")),
        Aspect("findings", tuple("abcdefgh"), multi_label=True),
        Aspect("site", ("left", "right")),
    ),
    "grade",
)


def draw(number, *, seed=0, patients=None):
    """Studies without files: grades 60, 30, 10 percent, findings of 2 to 30 percent, some labels missing."""
    random = np.random.default_rng(seed)
    often = np.linspace(0.02, 0.3, 8)
    studies = []
    for index in range(number):
        labels = {
            "grade": str(random.choice(("none", "mild", "severe"), p=(0.6, 0.3, 0.1))),
            "findings": tuple(
                name for name, share in zip("abcdefgh", often, strict=True) if random.random() < share
            ),
            "site": str(random.choice(("left", "right"))),
        }
        kept = {name: label for name, label in labels.items() if random.random() < 0.9}
        patient = None if patients is None else f"p{random.integers(patients)}"
        image = Path(f"/none/{index}.png")
        studies.append(Study(f"s{index}", (image,), "train", patient, kept))
    return StudySet(Path("/none"), "studies", tuple(studies), SPACE, ())


def class_counts(studies):
    counts = {split: Counter() for split in SPLITS}
    for study in studies:
        for aspect, label in study.labels.items():
            for name in (label,) if isinstance(label, str) else label:
                counts[study.split][aspect, name] += 1
    return counts


@pytest.mark.parametrize("shares", [SHARES, (0.5, 0.25, 0.25), (0.8, 0.0, 0.2)])
def test_every_class_of_every_aspect_is_in_its_share(shares):
    split = split_studies(draw(1000), shares).studies
    counts = class_counts(split)
    for key in counts["train"]:
        whole = sum(counts[name][key] for name in SPLITS)
        for name, share in zip(SPLITS, shares, strict=True):
            assert abs(counts[name][key] - share * whole) <= 3, (name, key)
    sizes = Counter(study.split for study in split)
    assert all(abs(sizes[name] - 1000 * share) <= 10 for name, share in zip(SPLITS, shares, strict=True))
    assert shares[1] > 0 or sizes["val"] == 0


def test_one_diagnosis_is_dealt_out_to_the_study():
    """With one label a study, iterative stratification is exact: no class is off by a whole study."""
    studies = draw(1000)
    space = LabelSpace(SPACE.aspects[:1], "grade")
    plain = tuple(
        Study(each.id, each.images, None, None, {"grade": each.labels.get("grade", "none")})
        for each in studies.studies
    )
    counts = class_counts(split_studies(StudySet(Path("/"), "", plain, space, ()), SHARES).studies)
    for key in counts["train"]:
        whole = sum(counts[name][key] for name in SPLITS)
        assert all(
            abs(counts[name][key] - share * whole) < 1 for name, share in zip(SPLITS, SHARES, strict=True)
        )


def test_a_class_of_two_studies_is_in_train_before_anywhere_else():
    studies = [Study(f"s{i}", (Path(f"/{i}"),), None, None, {"site": "left"}) for i in range(50)]
    studies += [Study(f"r{i}", (Path(f"/r{i}"),), None, None, {"site": "right"}) for i in range(2)]
    split = split_studies(StudySet(Path("/"), "", tuple(studies), SPACE, ()), SHARES).studies
    assert "train" in {study.split for study in split if study.id.startswith("r")}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_patient_is_never_parted_and_classes_keep_their_shares(seed):
    split = split_studies(draw(900, seed=seed, patients=300), SHARES, seed=seed).studies
    homes = {}
    for study in split:
        homes.setdefault(study.patient, set()).add(study.split)
    assert all(len(home) == 1 for home in homes.values())
    counts = class_counts(split)
    for name in ("none", "mild", "severe"):
        whole = sum(counts[split_name]["grade", name] for split_name in SPLITS)
        for split_name, share in zip(SPLITS, SHARES, strict=True):
            assert abs(counts[split_name]["grade", name] / whole - share) < 0.05


def test_studies_with_the_same_image_stay_together(tmp_path):
    """Through a chain: one by content, one by name, one by the patient."""
    entries = [study_entry(number) for number in range(40)]
    entries[1]["images"].append("images/s2.png")
    entries[3]["patient"] = entries[2]["patient"]
    root = write_folder(tmp_path, entries)
    shutil.copy(root / "images/s0.png", root / "images/s1.png")
    calls = []
    for seed in range(6):
        split = split_studies(
            read_studies(root, strict=False), SHARES, seed=seed, progress=lambda *call: calls.append(call)
        )
        assert len({study.split for study in split.studies[:4]}) == 1
    assert calls[-1] == (40, 40)


def test_a_seed_gives_one_split_whatever_the_order_and_another_seed_another():
    studies = draw(300, patients=120)
    turned = StudySet(studies.root, "", tuple(reversed(studies.studies)), SPACE, ())
    first = {study.id: study.split for study in split_studies(studies, SHARES, seed=3).studies}
    assert {study.id: study.split for study in split_studies(turned, SHARES, seed=3).studies} == first
    assert {study.id: study.split for study in split_studies(studies, SHARES, seed=4).studies} != first


def test_the_split_of_a_known_set_is_known():
    """What was published with a seed must come out of it on every machine and in every later version."""
    studies = tuple(
        Study(f"s{i}", (Path(f"/{i}.png"),), None, f"p{i // 2}", {"grade": ("none", "mild")[i % 3 == 0]})
        for i in range(20)
    )
    split = split_studies(StudySet(Path("/"), "", studies, SPACE, ()), (0.6, 0.2, 0.2), seed=5).studies
    assert "".join(str(study.split)[1] for study in split) == "rrrrrreeaaeeaarrrrrr"


def test_what_the_studies_say_is_not_changed():
    studies = draw(100)
    split = split_studies(studies, SHARES)
    for before, after in zip(studies.studies, split.studies, strict=True):
        assert (before.id, before.images, before.labels) == (after.id, after.images, after.labels)
    assert [study.split for study in studies.studies] == ["train"] * 100


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.1), (0.9, 0.2, -0.1), (0, 0.5, 0.5), (0.5, 0.5)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ConfigurationError, match=r"the shares are train .*they sum to 1"):
        split_studies(draw(50), shares)


def test_fewer_patients_than_splits_are_refused_and_a_giant_one_is_said(caplog):
    with pytest.raises(DataError, match="20 studies in 2 groups"):
        split_studies(draw(20, patients=2), SHARES)
    assert len(split_studies(draw(20, patients=2), (0.5, 0, 0.5)).studies) == 20
    split_studies(draw(40, patients=4), SHARES)
    assert "stay together: more than a split's share" in caplog.text


def test_the_source_stays_as_it_was_and_the_new_list_names_its_images(tmp_path):
    root = write_folder(tmp_path / "in", [study_entry(number) for number in range(20)])
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    studies = read_studies(root, strict=False)
    folder = write_split(split_studies(studies, SHARES), tmp_path / "a" / "out")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "studies.jsonl"]
    lines = [json.loads(line) for line in (folder / "studies.jsonl").read_text().splitlines()]
    assert lines[0]["images"] == ["../../in/images/s0.png"]
    back = read_studies(folder)
    assert [image.resolve() for each in back.studies for image in each.images] == [
        image for each in studies.studies for image in each.images
    ]
    assert back.label_space == studies.label_space
    assert Counter(study.split for study in back.studies) == {"train": 14, "val": 2, "test": 4}


def test_paths_hold_where_a_folder_is_a_link(tmp_path):
    root = write_folder(tmp_path / "deep/er/in", [study_entry(number) for number in range(20)])
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "elsewhere/x").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere/x")
    studies = read_studies(tmp_path / "link", strict=False)
    back = read_studies(write_split(split_studies(studies, SHARES), tmp_path / "out/new"))
    assert len(back.studies) == 20


def test_a_list_may_be_named_by_its_file_and_nothing_is_overwritten(tmp_path):
    studies = read_studies(write_folder(tmp_path / "in", [study_entry(i) for i in range(20)]), strict=False)
    split = split_studies(studies, SHARES)
    assert write_split(split, tmp_path / "out/studies.jsonl") == tmp_path / "out"
    with pytest.raises(ConfigurationError, match="not an empty folder"):
        write_split(split, tmp_path / "in")


def test_images_in_shards_cannot_be_named(tmp_path):
    from mdnet.data.shards import write_shards

    studies = read_studies(write_folder(tmp_path / "in", [study_entry(i) for i in range(20)]), strict=False)
    shards = read_studies(write_shards(studies, tmp_path / "shards"), strict=False)
    with pytest.raises(DataError, match=r"in shards.*mdnet data convert"):
        write_split(split_studies(shards, SHARES), tmp_path / "out")


def test_real_photographs_keep_their_groups():
    studies = read_studies(real_data("csdi_cataract"))
    split = split_studies(studies, SHARES).studies
    homes = {}
    for study in split:
        homes.setdefault(study.patient, set()).add(study.split)
    assert all(len(home) == 1 for home in homes.values())
    counts = class_counts(split)
    for key in counts["train"]:
        whole = sum(counts[name][key] for name in SPLITS)
        assert all(
            abs(counts[name][key] - share * whole) <= 1 for name, share in zip(SPLITS, SHARES, strict=True)
        )
