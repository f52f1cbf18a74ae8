"""Small CSV files for the tests of the table reader."""

import csv
import gzip
import io

from study_folders import write_image

from mdnet.data import read_studies
from mdnet.data.readers import ReaderOptions

HEADER = ["id", "image", "report", "label", "patient", "split"]


def record(number, **changes):
    """A row without fault."""
    row = {
        "id": f"s{number}",
        "image": f"s{number}.png",
        "report": f"Report {number}, with a comma.",
        "label": ["normal", "mild"][number % 2],
        "patient": f"p{number}",
        "split": ["train", "train", "val", "test"][number % 4],
    }
    return row | changes


def csv_text(rows, *, header=None, delimiter=","):
    header = header or list(rows[0])
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([row.get(name, "") for name in header] for row in rows)
    return out.getvalue()


def write_table(
    root, rows, *, name="studies.csv", header=None, delimiter=",", folder="images", encoding="utf-8"
):
    for number, row in enumerate(rows):
        for image in row.get("image", "").replace("|", ";").split(";"):
            if image:
                write_image(root / folder / image, seed=number)
    root.mkdir(parents=True, exist_ok=True)
    content = csv_text(rows, header=header, delimiter=delimiter).encode(encoding)
    (root / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return root


CLEAN = [record(number) for number in range(8)]


def one_fault(root, severity="error", **options):
    found = read_studies(root, strict=False, **options).faults
    assert [fault.severity for fault in found] == [severity], list(map(str, found))
    return found[0]


def with_columns(**columns):
    return ReaderOptions({role.replace("__", "."): name for role, name in columns.items()})
