"""Reports split by their headings: the rules on made-up reports, and that no word is lost."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdnet.data.report_sections import split_sections

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old with cough
  // pneumonia?

 COMPARISON:  None.

 FINDINGS:

 HEART: Normal size.
 LUNGS: Clear, see
 above.

 The bones are intact.

 IMPRESSION:

 No acute process.
"""


def test_a_report_with_all_headings():
    assert split_sections(MIMIC) == {
        "examination": "CHEST (PA AND LAT)",
        "indication": "___ year old with cough // pneumonia?",
        "comparison": "None.",
        "findings": "HEART: Normal size. LUNGS: Clear, see above. The bones are intact.",
        "impression": "No acute process.",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Clear lungs: no findings.", {"report": "Clear lungs: no findings."}),
        ("", {}),
        (" \n\n ", {}),
        ("FINDINGS:\n\nIMPRESSION: A.", {"impression": "A."}),
        ("Findings: A. Impression: B.", {"findings": "A.", "impression": "B."}),
        ("FINDINGS: A CONCLUSION: B", {"findings": "A", "impression": "B"}),
        ("FINDINGS\nA.\nImpression\nB.", {"findings": "A.", "impression": "B."}),
        ("IMPRESSION: A.\nFINDINGS: B.\nCONCLUSIONS: C.", {"impression": "A. C.", "findings": "B."}),
        ("FINDINGS AND IMPRESSION: A.", {"impression": "A."}),
        ("CHEST FINDINGS: A.", {"findings": "A."}),
        ("REASON  FOR EXAM: A.", {"indication": "A."}),
        ("The findings: none. my impression: good.", {"report": "The findings: none. my impression: good."}),
        ("NON-FINDINGS: A.", {"findings": "A."}),
        ("see NON-FINDINGS: A.", {"report": "see NON-FINDINGS: A."}),
        ("INDICATION: A.\n\nClear.\n\nLarge.", {"indication": "A.", "report": "Clear. Large."}),
        ("INDICATION:\n\nA.\n\nB.", {"indication": "A.", "report": "B."}),
        ("TECHNIQUE: A.\nPORTABLE CHEST: B.", {"technique": "A.", "report": "PORTABLE CHEST: B."}),
        ("CHEST, TWO VIEWS: A.\nIMPRESSION: B.", {"report": "CHEST, TWO VIEWS: A.", "impression": "B."}),
        ("FINAL REPORT\n AP CHEST, 5:12 P.M., ___\n\n IMPRESSION: A.",
         {"examination": "AP CHEST, 5:12 P.M., ___", "impression": "A."}),
        ("AP chest, one view\nIMPRESSION: B.", {"report": "AP chest, one view", "impression": "B."}),
        ("ALL CLEAR", {"report": "ALL CLEAR"}),
        ("INDICATION: A.\n\nNORMAL\nIMPRESSION: B.",
         {"indication": "A.", "report": "NORMAL", "impression": "B."}),
        ("IMPRESSION: A.\n\nB.", {"impression": "A. B."}),
        (
            "WET READ: A.\n\nB.\n   FINAL REPORT\nC.\nFINAL REPORT\nD.",
            {"wet read": "A. B.", "report": "C. D."},
        ),
        ("A.\nFINAL REPORT\nFINDINGS: B.", {"preamble": "A.", "findings": "B."}),
        ("FINAL ADDENDUM\nA.\nFINAL REPORT\nB.", {"addendum": "A.", "report": "B."}),
    ],
)  # fmt: skip
def test_where_a_section_begins_and_ends(text, expected):
    assert split_sections(text) == expected
    assert list(split_sections(text)) == list(expected)
    assert split_sections(text.replace("\n", "\r\n")) == expected


HEADINGS = {
    "findings": "FINDINGS:",
    "impression": "CONCLUSION:",
    "comparison": "Comparisons:",
    "wet read": "WET READ:",
    "recommendation": "RECOMMENDATION(S):",
}
BODY = st.lists(
    st.sampled_from(["Clear.", "no", "___", "5.2", "mm,", "LUNGS", "眼"]), min_size=1, max_size=8
).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from(sorted(HEADINGS)), BODY), max_size=6),
    opening=BODY.map("Seen {}".format) | st.just(""),
)
def test_what_is_written_under_headings_is_read_back(parts, opening):
    expected = {"report": [opening]} if opening else {}
    for name, body in parts:
        expected.setdefault(name, []).append(body)
    text = "\n".join([opening, *(f" {HEADINGS[name]}  {body}\n" for name, body in parts)])
    assert split_sections(text) == {name: " ".join(bodies) for name, bodies in expected.items()}


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(
        st.sampled_from([*HEADINGS.values(), "FINAL REPORT", "A.", "b", "CHEST:", "\n", "\n\n", " "])
    )
)
def test_no_word_is_lost_but_headings_and_marks(text):
    written = "\n".join(text)
    kept = sorted(re.findall(r"A\.|b|CHEST:", written))
    assert sorted(" ".join(split_sections(written).values()).split()) == kept


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_is_split(text):
    assert all(body and body == " ".join(body.split()) for body in split_sections(text).values())
