"""What reports say: negation, phrases, the file that names them, and the exact reader of the phantom."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdnet.data.negation import Negation, split_clauses, split_phrase
from mdnet.data.phantom import LABEL_SPACE, SECTIONS, draw_study, write_report
from mdnet.data.phantom.specification import INSUFFICIENT
from mdnet.data.statements import PhantomReader, PhraseReader, statement_reader
from mdnet.data.study import Aspect, LabelSpace, StudySet
from mdnet.errors import DataError

SPACE = LabelSpace(
    (
        Aspect("effusion", ("absent", "present")),
        Aspect("polarity", ("preserved", "partially lost", "lost")),
        Aspect("finding", ("nodule", "oedema", "2", "no"), multi_label=True),
        Aspect("grade", ("mild", "severe")),
    ),
    "grade",
)
FILE = """\
phrases:
  effusion:
    absent: [lungs are dry]
    present: [effusion, pleural fluid]
  polarity:
    preserved: polarity is kept
    partially lost: [not completely lost]
    lost: [completely lost, lost]
  finding:
    nodule: [nodule, nodules, Größe, 结节]
    oedema: [oedema]
    2: ["2+", 2.5 cm]
    no: [unremarkable]
sections:
  grade: [conclusion, effusion]
negations: [kein, 无]
"""


@pytest.fixture
def reader(tmp_path: Path) -> PhraseReader:
    return read_file(tmp_path, FILE)


def read_file(folder: Path, text: str) -> PhraseReader:
    file = folder / "phrases.yaml"
    file.write_text(text, encoding="utf-8")
    return PhraseReader.from_yaml(file, SPACE, sections=("effusion", "conclusion", "report"))


def is_negated(text: str, phrase: str = "effusion") -> list[bool]:
    words = split_clauses(text)[0]
    wanted = list(split_phrase(phrase) or ())
    starts = [place for place in range(len(words)) if words[place : place + len(wanted)] == wanted]
    return Negation().negated(words, [(start, start + len(wanted)) for start in starts])


@pytest.mark.parametrize(
    "text",
    [
        "no effusion",
        "No pleural effusion, pneumothorax or consolidation",
        "no focal consolidation, suspicious pulmonary opacity, pneumothorax or definite pleural effusion",
        "lungs are clear without evidence of effusion",
        "negative for effusion",
        "the lungs are free of effusion",
        "absence of effusion",
        "there isn't any effusion",
        "neither nodule nor effusion",
        "effusion is not seen",
        "a pleural effusion was not identified",
        "effusion cannot be seen",
        "effusion has resolved",
        "effusion is unlikely",
        "pleural effusion: none",
        "nodule or effusion is absent",
        "pneumonia is not seen, no effusion",
    ],
)
def test_a_denied_phrase_is_negated(text: str) -> None:
    assert is_negated(text) == [True]


@pytest.mark.parametrize(
    "text",
    [
        "small effusion",
        "no nodule but a small effusion",
        "no nodule is seen the effusion has grown",
        "no change in effusion",
        "effusion cannot be excluded",
        "not only effusion",
        "no one two three four five six effusion",  # six words between: NegEx reaches over five
        "effusion one two three four five six not seen",
        "effusion is large, nodule not seen",
        "effusion is large nodule is not seen",
        "the borders are not sharp, suggesting effusion",
        "knowledge of effusion",  # the letters of a trigger inside a word
    ],
)
def test_a_phrase_out_of_reach_is_not_negated(text: str) -> None:
    assert is_negated(text) == [False]


def test_the_reach_is_five_words() -> None:
    assert is_negated("no one two three four five effusion") == [True]
    assert is_negated("effusion one two three four five not seen") == [True]


def test_a_phrase_with_its_own_verb_is_a_clause_of_its_own() -> None:
    # Real reports without full stops: "... lack of polarity observed mitosis is rare ...".
    assert is_negated("lack of polarity observed mitosis is rare", "mitosis is rare") == [False]
    assert is_negated("lack of polarity observed rare mitosis", "rare mitosis") == [True]


def test_a_trigger_inside_a_phrase_negates_nothing() -> None:
    words = ["no", "crowding", "pleomorphism"]
    assert Negation().negated(words, [(0, 2), (2, 3)]) == [False, False]
    assert Negation().negated(words, [(1, 2), (2, 3)]) == [True, True]


def test_clauses_are_words_of_one_form() -> None:
    text = "The NUCLEI’s size: 2.5 cm (3+)…  Gro\u0308ße, well-spaced;\nno\nnodule\n\n结节，无"
    assert split_clauses(text) == [
        ["the", "nuclei's", "size", "2.5", "cm", "3", "+"],
        ["grösse", ",", "well", "spaced"],
        ["no", "nodule"],
        ["结", "节"],
        ["无"],
    ]
    assert split_phrase("a. b") is None
    assert split_phrase("()") is None


@pytest.mark.parametrize(
    ("report", "aspect", "stated"),
    [
        ("Small left EFFUSION.", "effusion", {"present"}),
        ("No effusion.", "effusion", {"absent"}),  # of two classes, to deny one is to state the other
        ("Effusions.", "effusion", None),
        ("The lungs are dry. Pleural fluid on the left.", "effusion", {"absent", "present"}),
        ("Polarity is not completely lost.", "polarity", {"partially lost"}),
        ("Polarity is completely lost.", "polarity", {"lost"}),
        ("Polarity is not lost.", "polarity", None),  # of three classes, denying one leaves two
        ("Nodule and oedema.", "finding", {"nodule", "oedema"}),
        ("Nodule without oedema.", "finding", {"nodule"}),
        ("No nodule or oedema.", "finding", set()),
        ("The heart is normal.", "finding", None),
        ("Her2 is 2+, size 2.5\ncm.", "finding", {"2"}),
        ("GRO\u0308SSE", "finding", {"nodule"}),
        ("Kein Nodule.", "finding", set()),
        ("左肺见结节。", "finding", {"nodule"}),
        ("左肺无明显结节。", "finding", set()),
        ("", "finding", None),
    ],
)
def test_a_report_states(reader: PhraseReader, report: str, aspect: str, stated: set[str] | None) -> None:
    assert reader.read({"report": report})[aspect] == (None if stated is None else frozenset(stated))


def test_an_aspect_is_read_in_its_sections_else_in_all(tmp_path: Path) -> None:
    reader = read_file(
        tmp_path, FILE.replace("  polarity:\n", "  grade: {severe: severe, mild: mild}\n  polarity:\n")
    )
    texts = {"effusion": "mild effusion", "conclusion": "severe", "polarity": "effusion, lost"}
    assert reader.read(texts)["effusion"] == {"present"}
    assert reader.read(texts | {"effusion": "nothing"})["effusion"] is None
    assert reader.read(texts)["grade"] == {"mild", "severe"}
    assert reader.read({"conclusion": "severe", "polarity": "mild"})["grade"] == {"severe"}
    assert reader.read({"report": "a mild one"})["grade"] == {"mild"}


def test_aspects_without_phrases_are_not_read(reader: PhraseReader) -> None:
    assert list(reader.read({"report": "mild"})) == ["effusion", "polarity", "finding"]
    assert reader.due({"grade": "mild"}) == {"grade": "mild"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"phrases\.yaml: a name with a colon is due here"),
        ("sections: {}", r"phrases\.yaml: no phrases; write `phrases:"),
        ("a: [b", r"phrases\.yaml: broken YAML .*line 1"),
        (
            "phrase: {}",
            r"phrases\.yaml:1: unknown key 'phrase' \(did you mean 'phrases'\?\); there are: phrases,",
        ),
        ("phrases:\n  efusion: {}", r"yaml:2: unknown aspect 'efusion' \(did you mean 'effusion'\?\)"),
        (
            "phrases:\n  effusion:\n    presnt: [a]",
            r"yaml:3: unknown class of aspect 'effusion': 'presnt' \(did you mean 'present'\?\)",
        ),
        ("phrases:\n  effusion: [a]", r"yaml:2: a name with a colon is due here"),
        ("phrases:\n  effusion:\n    present:\n      a: b", r"yaml:4: a text or a list of texts is due here"),
        ("phrases:\n  effusion:\n    present:", r"yaml:3: a text or a list of texts is due here"),
        ("phrases:\n  effusion:\n    present: ['a. b']", r"yaml:3: 'a\. b' is no phrase"),
        (
            "phrases:\n  effusion:\n    absent: [a B]\n    present: [A  b]",
            r"yaml:4: 'a b' stands for 'absent' and for 'present'; write longer",
        ),
        ("phrases:\n  grade: {}\n  grade: {}", r"yaml:3: key 'grade' stands twice"),
        ("phrases:\n  ? [a]\n  : b", r"yaml:2: a key that is no text"),
        (
            "phrases: {grade: {mild: mild}}\nsections:\n  grade: conclusions",
            r"yaml:3: unknown section 'conclusions' \(did you mean 'conclusion'\?\)",
        ),
    ],
)
def test_a_bad_file_is_named_with_line_key_and_mend(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read_file(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml: cannot be read"):
        PhraseReader.from_yaml(tmp_path / "none.yaml", SPACE, sections=())
    (tmp_path / "latin.yaml").write_bytes("größe".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.yaml: byte 2 is not UTF-8"):
        PhraseReader.from_yaml(tmp_path / "latin.yaml", SPACE, sections=())


def test_the_reader_is_that_of_the_file_then_of_the_phantom(tmp_path: Path) -> None:
    def data(space: LabelSpace) -> StudySet:
        return StudySet(tmp_path, "studies", (), space, ("effusion", "conclusion"))

    assert statement_reader(data(SPACE)) is None
    assert isinstance(statement_reader(data(LABEL_SPACE)), PhantomReader)
    (tmp_path / "phrases.yaml").write_text("phrases: {grade: {mild: mild}}")
    found = statement_reader(data(SPACE))
    assert found is not None
    assert found.read({"conclusion": "mild"}) == {"grade": {"mild"}}


def test_phantom_reports_are_read_exactly_whole_or_by_section() -> None:
    reader = PhantomReader()
    for index in range(30):
        spec = draw_study(seed=5, index=index)
        due = {name: frozenset((label,)) for name, label in reader.due(spec.labels).items()}
        assert set(due) == set(SECTIONS)
        report = {name: texts[0] for name, texts in write_report(spec).items()}
        assert reader.read(report) == due
        assert reader.read({"report": " ".join(report.values())}) == due


def test_a_phantom_report_is_silent_or_ambiguous() -> None:
    said = PhantomReader().read({"mitosis": "Mitosis is rare. Mitosis is frequent.", "nucleoli": "None."})
    assert said["mitosis"] == {"rare", "frequent"}
    assert said["nucleoli"] is None
    assert PhantomReader().due({"conclusion": INSUFFICIENT})["mitosis"] == INSUFFICIENT
