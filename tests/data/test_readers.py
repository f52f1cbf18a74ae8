"""Our own layout: what is read, each thing that can be wrong with it, and round trips."""

import pytest
from study_folders import DATASET, study_entry, write_folder, write_image

from mdnet.data import FORMATS, read_studies
from mdnet.data.study import Aspect, LabelSpace, Study
from mdnet.errors import ConfigurationError, DataError

CLEAN = [study_entry(number) for number in range(8)]


def faults(root, severity=None):
    return [fault for fault in read_studies(root, strict=False).faults if severity in (None, fault.severity)]


def one_fault(root, severity="error"):
    found = faults(root)
    assert [fault.severity for fault in found] == [severity], list(map(str, found))
    return found[0]


def test_a_clean_set_is_read_whole(tmp_path):
    studies = read_studies(write_folder(tmp_path, CLEAN))
    assert studies.format == "studies"
    assert studies.faults == ()
    assert [study.id for study in studies.studies] == [f"s{number}" for number in range(8)]
    first = studies.studies[0]
    assert first == Study(
        "s0",
        (tmp_path / "images/s0.png",),
        "train",
        "p0",
        {"mitosis": "absent", "findings": ("blur",), "conclusion": "normal"},
        {"mitosis": ("Mitosis number 0.", "Second writer."), "conclusion": ("Normal.",)},
        {},
        f"{tmp_path / 'studies.jsonl'}:1",
    )
    assert studies.label_space == LabelSpace.from_dict(DATASET)
    assert studies.sections == ("mitosis", "conclusion")
    assert studies.provenance == "made by a test"


def test_a_set_is_named_by_its_folder_or_its_file(tmp_path):
    write_folder(tmp_path, CLEAN)
    assert read_studies(tmp_path / "studies.jsonl") == read_studies(str(tmp_path))


def test_only_id_and_images_are_needed(tmp_path):
    entry = {"id": "a", "images": ["a.png"]}
    studies = read_studies(write_folder(tmp_path, [entry], dataset=None))
    assert studies.studies[0] == Study("a", (tmp_path / "a.png",), source=f"{tmp_path / 'studies.jsonl'}:1")
    assert studies.label_space == LabelSpace()
    assert studies.sections == ()


def test_blank_lines_byte_order_mark_and_windows_line_ends_are_taken(tmp_path):
    write_folder(tmp_path, CLEAN)
    file = tmp_path / "studies.jsonl"
    content = file.read_bytes().replace(b"\n", b"\r\n\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + content)
    studies = read_studies(tmp_path)
    assert len(studies.studies) == 8
    assert studies.studies[1].source.endswith(":3")


@pytest.mark.parametrize(
    ("report", "sections", "expected"),
    [
        ("One text.", None, {"report": ("One text.",)}),
        (["One.", "Two."], None, {"report": ("One.", "Two.")}),
        ("One text.", ["findings"], {"findings": ("One text.",)}),
        ({"b": "B.", "a": ["A.", "A2."]}, None, {"b": ("B.",), "a": ("A.", "A2.")}),
        (None, None, {}),
    ],
)
def test_a_report_is_a_text_a_list_or_sections(tmp_path, report, sections, expected):
    entry = {"id": "a", "images": ["a.png"], "report": report}
    studies = read_studies(
        write_folder(tmp_path, [entry], dataset={"sections": sections} if sections else None)
    )
    assert studies.studies[0].report == expected
    assert studies.sections == tuple(sections or expected)


@pytest.mark.parametrize("name", ["notes.txt", "images/s0.png", "reports.xlsx"])
def test_a_file_that_is_no_list_does_not_stand_for_its_folder(tmp_path, name):
    write_folder(tmp_path, CLEAN)
    (tmp_path / name).write_text("x")
    with pytest.raises(ConfigurationError, match="is no table, and no list of a data set: name the data"):
        read_studies(tmp_path / name)


def test_without_dataset_file_label_space_and_sections_come_from_the_training_studies(tmp_path):
    studies = read_studies(write_folder(tmp_path, CLEAN, dataset=None))
    assert studies.label_space == LabelSpace(
        (
            Aspect("mitosis", ("absent", "rare"), "absent", ordered=True),
            Aspect("findings", ("blur",), "blur", multi_label=True),
        ),
        None,
    )
    assert studies.sections == ("mitosis", "conclusion")
    assert [str(fault) for fault in studies.faults] == [
        f"warning: {tmp_path}: aspect 'conclusion' has one class only; "
        "it is left out; name its classes in dataset.json to keep it"
    ]


@pytest.mark.parametrize(
    ("classes", "ordered_classes", "reference", "ordered"),
    [
        (
            ["severe", "mild", "normal", "acceptable"],
            ("normal", "acceptable", "mild", "severe"),
            "normal",
            True,
        ),
        (["low grade", "high grade", "normal"], ("normal", "low grade", "high grade"), "normal", True),
        (["2", "10", "0"], ("0", "2", "10"), "0", False),
        (["normal", "abnormal"], ("abnormal", "normal"), "normal", False),
        (["thorax", "head"], ("head", "thorax"), "head", False),
        (["normal", "absent"], ("absent", "normal"), "absent", False),
    ],
)
def test_inferred_classes_are_put_in_order(tmp_path, classes, ordered_classes, reference, ordered):
    entries = [study_entry(number, labels={"x": name}, split="train") for number, name in enumerate(classes)]
    space = read_studies(write_folder(tmp_path, entries, dataset=None)).label_space
    assert space == LabelSpace((Aspect("x", ordered_classes, reference, ordered),), "x")


def test_numbers_and_truth_values_are_class_names_too(tmp_path):
    entries = [study_entry(n, labels={"grade": n, "tumour": n == 1}, split="train") for n in range(3)]
    studies = read_studies(write_folder(tmp_path, entries, dataset=None))
    assert studies.studies[1].labels == {"grade": "1", "tumour": "true"}
    assert studies.label_space["tumour"].reference == "false"


def test_a_lone_label_of_a_multi_label_aspect_is_one_of_many(tmp_path):
    entry = study_entry(0, labels={"findings": "fold", "mitosis": None})
    assert read_studies(write_folder(tmp_path, [entry])).studies[0].labels == {"findings": ("fold",)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": None}, "no id"),
        ({"id": ""}, "id is ''"),
        ({"id": ["a"]}, "id is ['a']"),
        ({"images": None}, "no images"),
        ({"images": []}, "no images"),
        ({"images": "images/s1.png"}, "images is 'images/s1.png'"),
        ({"images": [3]}, "images is [3]"),
        ({"split": "training"}, "unknown split 'training' (did you mean 'train'?)"),
        ({"split": ["train"]}, "unknown split ['train'] (did you mean 'train'?)"),
        ({"labels": []}, "labels is []"),
        ({"labels": {"mitosis": "rar"}}, "unknown class 'rar' of aspect 'mitosis' (did you mean 'rare'?)"),
        ({"labels": {"findings": ["fold", "x"]}}, "unknown class 'x' of aspect 'findings'"),
        ({"labels": {"mitoses": "rare"}}, "unknown aspect 'mitoses' (did you mean 'mitosis'?)"),
        ({"labels": {"mitosis": ["rare"]}}, "the label of aspect 'mitosis' is a list ['rare']"),
        ({"labels": {"mitosis": 1.5}}, "label of 'mitosis' is 1.5"),
        ({"labels": {"mitosis": {"a": 1}}}, "label of 'mitosis' is {'a': 1}"),
        ({"labels": {"findings": [["fold"]]}}, "label of 'findings' is [['fold']]"),
        ({"report": 5}, "report section 'report' is 5"),
        ({"report": {"mitosis": {"a": 1}}}, "report section 'mitosis' is {'a': 1}"),
        ({"report": {"mitoses": "A."}}, "unknown section 'mitoses' (did you mean 'mitosis'?)"),
        ({"masks": ["a.png"]}, "masks is ['a.png']"),
    ],
)
def test_each_fault_of_a_study_is_one_error_with_its_line_and_leaves_the_study_out(tmp_path, change, problem):
    root = write_folder(tmp_path, [CLEAN[0], study_entry(1, **change), *CLEAN[4:]])
    fault = one_fault(root)
    assert fault.problem == problem
    assert fault.where == f"{root / 'studies.jsonl'}:2"
    assert fault.mend
    studies = read_studies(root, strict=False)
    assert [study.id for study in studies.studies] == ["s0", "s4", "s5", "s6", "s7"]
    with pytest.raises(DataError) as caught:
        read_studies(root)
    assert str(caught.value) == f"{fault.where}: {fault.problem}; {fault.mend}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": "a", ', "broken JSON"),
        ("nonsense", "broken JSON"),
        ("[1, 2]", "not an object"),
        ('"text"', "not an object"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_line_is_one_error_with_its_line(tmp_path, line, problem):
    root = write_folder(tmp_path, [*CLEAN[:2], line, *CLEAN[2:]])
    fault = one_fault(root)
    assert fault.where.endswith("studies.jsonl:3")
    assert problem in fault.problem
    assert len(read_studies(root, strict=False).studies) == 8


def test_a_line_that_is_not_utf8_is_one_error(tmp_path):
    root = write_folder(tmp_path, CLEAN)
    file = root / "studies.jsonl"
    file.write_bytes(file.read_bytes() + b'{"id": "\xff"}\n')
    assert "not UTF-8" in one_fault(root).problem
    assert one_fault(root).where.endswith(":9")


def test_a_missing_image_names_the_file(tmp_path):
    root = write_folder(tmp_path, CLEAN)
    (root / "images/s3.png").unlink()
    fault = one_fault(root)
    assert fault.problem == f"no image {root / 'images/s3.png'}"
    assert fault.where.endswith(":4")


def test_an_image_name_that_no_file_system_takes_is_a_missing_image(tmp_path):
    root = write_folder(tmp_path, [*CLEAN, study_entry(9, images=["a" * 5000])], images=False)
    for entry in CLEAN:
        write_image(root / entry["images"][0])
    assert one_fault(root).problem.startswith("no image")


def test_duplicate_ids_name_both_lines(tmp_path):
    root = write_folder(tmp_path, [*CLEAN, study_entry(4, images=["other.png"], patient="p0")])
    fault = one_fault(root)
    assert fault.problem == f"id 's4' stands twice, first at {root / 'studies.jsonl'}:5"
    assert fault.where.endswith(":9")


def test_one_study_in_two_splits(tmp_path):
    root = write_folder(tmp_path, [*CLEAN, study_entry(4, images=["other.png"], split="test")])
    fault = one_fault(root)
    assert fault.problem.startswith("study 's4' stands in two splits: test, and train at ")
    assert fault.where.endswith(":9")


def test_a_patient_in_two_splits_is_told_once(tmp_path):
    extra = [study_entry(number, patient="p0", split="test", labels=None) for number in (20, 21)]
    root = write_folder(tmp_path, [*CLEAN, *extra])
    fault = one_fault(root)
    assert (
        fault.problem == f"patient 'p0' stands in two splits: test, and train at {root / 'studies.jsonl'}:1"
    )
    assert len(read_studies(root, strict=False).studies) == 10


def test_an_image_in_two_splits(tmp_path):
    root = write_folder(tmp_path, [*CLEAN, study_entry(20, images=["images/s0.png"], split="val")])
    assert one_fault(root).problem.startswith(f"image {root / 'images/s0.png'} stands in two splits")


@pytest.mark.parametrize(
    ("report", "problem", "left"),
    [
        ("", "empty text in section", {}),
        (" \n", "empty text in section", {}),
        ({}, "empty report", {}),
        ([], "empty text in section", {}),
        ({"mitosis": "", "conclusion": "B."}, "empty text in section 'mitosis'", {"conclusion": ("B.",)}),
        ({"mitosis": ["A.", " "]}, "empty text in section 'mitosis'", {"mitosis": ("A.",)}),
    ],
)
def test_an_empty_report_is_a_warning_and_the_study_stays(tmp_path, report, problem, left):
    dataset = DATASET if isinstance(report, dict) else DATASET | {"sections": ["mitosis"]}
    root = write_folder(tmp_path, [study_entry(0, report=report)], dataset=dataset)
    assert one_fault(root, "warning").problem.startswith(problem)
    assert read_studies(root).studies[0].report == left


def test_an_empty_report_of_one_section_is_called_so(tmp_path):
    root = write_folder(tmp_path, [{"id": "a", "images": ["a.png"], "report": ""}], dataset=None)
    assert one_fault(root, "warning").problem == "empty report"


def test_a_missing_mask_is_a_warning_and_left_out(tmp_path):
    write_image(tmp_path / "m.png")
    root = write_folder(tmp_path, [study_entry(0, masks={"mitosis": "m.png", "nuclei": "none.png"})])
    assert one_fault(root, "warning").problem == f"no mask {root / 'none.png'}"
    assert read_studies(root).studies[0].masks == {"mitosis": root / "m.png"}


def test_an_unknown_key_is_told_once_with_the_nearest_known(tmp_path):
    root = write_folder(tmp_path, [study_entry(number, pateint="x") for number in range(2)])
    fault = one_fault(root, "warning")
    assert fault.problem == "unknown key 'pateint' (did you mean 'patient'?)"
    assert fault.where.endswith(":1")


def test_a_study_without_split_among_others_is_a_warning(tmp_path):
    root = write_folder(tmp_path, [*CLEAN, study_entry(20, split=None)])
    assert one_fault(root, "warning").problem == "no split"
    assert read_studies(write_folder(tmp_path / "b", [study_entry(0, split=None)])).faults == ()


def test_a_declared_class_that_is_tested_and_never_trained_is_a_warning(tmp_path):
    root = write_folder(tmp_path, [*CLEAN, study_entry(19, labels={"mitosis": "frequent"})])
    assert (
        one_fault(root, "warning").problem
        == "class 'frequent' of aspect 'mitosis' is in test and not in train"
    )


def test_an_undeclared_class_that_is_tested_and_never_trained_is_an_error(tmp_path):
    entries = [study_entry(number, labels={"x": f"c{number % 2}"}) for number in range(4)]
    root = write_folder(tmp_path, [*entries, study_entry(7, labels={"x": "c9"})], dataset=None)
    fault = one_fault(root)
    assert fault.problem.startswith("unknown class 'c9' of aspect 'x'")
    assert fault.mend == "its classes are c0, c1 in train; declare more in dataset.json"
    assert fault.where.endswith(":5")


def test_all_faults_are_told_in_the_order_of_their_lines(tmp_path):
    entries = [*CLEAN, study_entry(8, split="dev"), study_entry(9, labels={"mitosis": "x"}, extra=1)]
    entries += [study_entry(10, report=""), "{", study_entry(0, images=["b.png"])]
    found = faults(
        write_folder(tmp_path, entries, dataset=DATASET | {"sections": ["mitosis"], "licence": "x"})
    )
    places = [fault.where.rpartition(":")[2] for fault in found if "jsonl" in fault.where]
    assert places == sorted(places, key=int)
    assert len(set(places)) == 13  # the first eight have the section that is not declared
    with pytest.raises(DataError, match=r"and \d+ more: mdnet data check"):
        read_studies(tmp_path)


def test_two_faults_of_one_line_are_both_told(tmp_path):
    root = write_folder(tmp_path, [study_entry(0, split="dev", labels={"mitosis": "x"}, report=3)])
    assert len(faults(root, "error")) == 3


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ([], "not an object"),
        ({"aspects": {}}, "'aspects' is no list"),
        ({"aspects": [{"classes": ["a", "b"]}]}, "aspects[0] has no name"),
        ({"aspects": [{"name": "x", "classes": ["a"]}]}, "aspect 'x' has classes ['a']"),
        ({"aspects": [{"name": "x", "classes": ["a", "a"]}]}, "aspect 'x' has classes ['a', 'a']"),
        ({"aspects": [{"name": "x", "classes": "ab"}]}, "aspect 'x' has classes 'ab'"),
        (
            {"aspects": [{"name": "x", "classes": ["a", "b"], "reference": "c"}]},
            "aspect 'x' has reference 'c'",
        ),
        ({"aspects": [{"name": "x", "classes": ["a", "b"], "multilabel": True}]}, "unknown key 'multilabel'"),
        ({"aspects": [{"name": "x", "classes": ["a", "b"], "ordered": "yes"}]}, "ordered 'yes'"),
        ({"aspects": [{"name": "x", "classes": ["a", "b"]}] * 2}, "a name stands twice"),
        ({"aspects": [{"name": "x", "classes": ["a", "b"]}], "diagnosis": "y"}, "diagnosis 'y'"),
        ({"sections": "mitosis"}, "sections is 'mitosis'"),
        ({"sections": ["a", "a"]}, "sections is ['a', 'a']"),
    ],
)
def test_a_wrong_dataset_file_is_an_error_there(tmp_path, dataset, problem):
    root = write_folder(tmp_path, [{"id": "a", "images": ["a.png"]}], dataset=dataset)
    fault = one_fault(root)
    assert fault.where == str(root / "dataset.json")
    assert problem in fault.problem


def test_a_broken_dataset_file_names_the_line(tmp_path):
    root = write_folder(tmp_path, [{"id": "a", "images": ["a.png"]}], dataset=None)
    (root / "dataset.json").write_text('{\n "aspects": [,]}')
    fault = one_fault(root)
    assert fault.where == f"{root / 'dataset.json'}:2"
    assert fault.mend == "mend column 14"


def test_an_empty_set_is_an_error(tmp_path):
    assert one_fault(write_folder(tmp_path, [])).problem == "no study"


def test_what_is_no_data_set_is_told_with_all_formats(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read_studies(tmp_path / "none")
    with pytest.raises(ConfigurationError) as caught:
        read_studies(tmp_path)
    for name, layout in FORMATS.items():
        assert f"{name} looks for {layout.looks_for}" in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"no format 'r2gn' \(did you mean 'r2gen'\?\)"):
        read_studies(tmp_path, format="r2gn")
    with pytest.raises(ConfigurationError, match=r"not in format 'r2gen': no annotation\.json there"):
        read_studies(tmp_path, format="r2gen")


def test_a_folder_in_two_layouts_needs_the_format_named(tmp_path):
    write_folder(tmp_path, CLEAN)
    (tmp_path / "annotation.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="could be in format studies or r2gen"):
        read_studies(tmp_path)
    assert read_studies(tmp_path, format="studies").format == "studies"
