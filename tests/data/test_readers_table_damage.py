"""Everything that can be wrong with a CSV file, and what is written is read again."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import CLEAN, csv_text, record, write_table

from mdnet.data import read_studies
from mdnet.errors import ConfigurationError, DataError


def broken(content):
    """What `content` makes of the bytes of a clean table."""
    return content(csv_text(CLEAN).encode())


@pytest.mark.parametrize(
    ("content", "place", "problem", "mend"),
    [
        (lambda b: b.replace(b"Report 2", b"Rep\xf6rt"), ":4", "is not UTF-8", "iconv -f latin-1"),
        (lambda b: b"\xff\xfe" + b.decode().encode("utf-16-le"), ":1", "byte 0 of line 1", "iconv -f utf-16"),
        (lambda b: b.replace(b"Report 2", b"Rep\0rt"), ":4", "a NUL byte in line 4", "copy the file"),
        (lambda b: b.replace(b"s2.png", b"s2.png,x"), ":4", "7 cells under 6 columns", "quote a cell"),
        (lambda b: b.replace(b'with a comma."', b"with a comma."), ":9", "broken table", "quote"),
        (lambda b: b.replace(b'"Report 2,', b'"Report" 2,'), ":4", "broken table", "quote"),
        (lambda b: b.replace(b"Report 2", b"R" * 200_000), ":4", "broken table (field larger", "quote"),
        (lambda b: b"", ":0", "no header", "name the columns"),
        (lambda b: b"id,image\n", "", "no study", "add studies"),
        (lambda b: b.replace(b"id,", b"label,", 1), ":1", "column 'label' stands twice", "a name of its own"),
    ],
)  # fmt: skip
def test_what_is_broken_in_the_file_is_one_error_with_its_line(tmp_path, content, place, problem, mend):
    root = write_table(tmp_path, CLEAN)
    (root / "studies.csv").write_bytes(broken(content))
    fault = next(iter(read_studies(root, strict=False).errors()))
    expected = root / "studies.csv" if place else root
    assert fault.where == f"{expected}{place}" or "broken table" in problem, fault
    assert problem in fault.problem
    assert mend in fault.mend
    with pytest.raises(DataError):
        read_studies(root)


def test_a_broken_row_leaves_the_others_as_they_are(tmp_path):
    root = write_table(tmp_path, CLEAN)
    (root / "studies.csv").write_bytes(csv_text(CLEAN).encode().replace(b"Report 2", b"Rep\xf6rt"))
    assert [study.id for study in read_studies(root, strict=False).studies] == [
        f"s{number}" for number in range(8) if number != 2
    ]


def test_a_cut_gzip_file_is_an_error(tmp_path):
    root = write_table(tmp_path, CLEAN, name="a.csv.gz")
    packed = (root / "a.csv.gz").read_bytes()
    for damage in (packed[:-20], b"no gzip", packed[:40] + b"\xff" * 20 + packed[60:]):
        (root / "a.csv.gz").write_bytes(damage)
        assert "broken .gz" in next(iter(read_studies(root, strict=False).errors())).problem


def test_blank_lines_and_what_excel_writes_are_taken(tmp_path):
    root = write_table(tmp_path, CLEAN)
    text = csv_text(CLEAN, delimiter=";").replace("\n", "\r\n").replace("s2;", "\r\n;;;;;\r\ns2;", 1)
    (root / "studies.csv").write_bytes(b"\xef\xbb\xbfsep=;\r\n" + text.encode())
    studies = read_studies(root)
    assert studies.faults == ()
    assert [study.source.rpartition(":")[2] for study in studies.studies[:4]] == ["3", "4", "7", "8"]


def test_a_report_over_several_lines_keeps_them_and_the_line_it_began_on(tmp_path):
    root = write_table(tmp_path, [record(0, report='One.\nTwo, "three".\n'), *CLEAN[1:]])
    studies = read_studies(root).studies
    assert studies[0].report == {"report": ('One.\nTwo, "three".',)}
    assert [study.source.rpartition(":")[2] for study in studies[:2]] == ["2", "5"]


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=15)
WORD = st.text(string.ascii_letters + " é眼", min_size=1, max_size=6).map(str.strip).filter(bool)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "report": TEXT,
                "label": st.sampled_from(["a", "b b", "c,d", ""]),
                "patient": WORD.map("p {}".format),
            },
        ),
        min_size=1,
        max_size=6,
    ),
    form=st.sampled_from([("x.csv", ","), ("x.csv", ";"), ("x.tsv", "\t"), ("x.csv.gz", ",")]),
)
def test_what_is_written_is_read_again(tmp_path_factory, rows, form):
    name, delimiter = form
    root = tmp_path_factory.mktemp("written")
    full = [record(n, image="same.png", split="train") | row for n, row in enumerate(rows)]
    full.append(record(99, patient="other", split="val", label=""))
    write_table(root, full, name=name, delimiter=delimiter)
    aspect = {"name": "label", "classes": ["a", "b b", "c,d"]}
    (root / "dataset.json").write_text(json.dumps({"aspects": [aspect]}))
    back = read_studies(root).studies
    for row, study in zip(full, back, strict=True):
        assert study.id == row["id"]
        assert study.report.get("report", ("",)) == (row["report"].strip(),)
        assert study.labels == ({"label": row["label"]} if row["label"] else {})
        assert (study.patient, study.split) == (row["patient"], row["split"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_is_told_or_changes_its_own_line_only(tmp_path, data):
    if not (tmp_path / "images").is_dir():
        write_table(tmp_path, CLEAN)
    original = csv_text(CLEAN).encode()
    place = data.draw(st.integers(0, len(original) - 1))
    flipped = bytearray(original)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path / "studies.csv"
    file.write_bytes(original)
    before = {study.id: study for study in read_studies(tmp_path).studies}
    file.write_bytes(flipped)
    try:
        after = read_studies(tmp_path, strict=False)
    except ConfigurationError as error:
        assert str(file) in str(error)  # noqa: PT017  (few flips are an error of this kind)
        return
    line = original[:place].count(b"\n") + 1
    untouched = [study for study in before.values() if study.source != f"{file}:{line}"]
    if not after.faults:
        found = {study.id: study for study in after.studies}
        assert all(found.get(study.id) == study for study in untouched)
        assert len(found) == len(before)
