"""The five writers of synthetic tissue, and the reader of what a text states."""

from __future__ import annotations

import itertools
import re

import pytest

from mdnet.data.phantom import LABEL_SPACE, SECTIONS, WRITERS, draw_study, stated_class, write_report
from mdnet.data.phantom.specification import INSUFFICIENT
from mdnet.errors import ConfigurationError

SENTENCES = [
    (section, label, sentence)
    for writer in WRITERS
    for section, classes in writer.items()
    for label, sentences in classes.items()
    for sentence in sentences
]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_every_writer_phrases_every_class_of_every_section() -> None:
    assert len(WRITERS) == 5
    for writer in WRITERS:
        assert tuple(writer) == SECTIONS
        for section, classes in writer.items():
            assert set(classes) == {*LABEL_SPACE[section].classes, INSUFFICIENT}
            assert all(1 <= len(sentences) <= 3 for sentences in classes.values())


def test_writers_share_no_sentence_and_keep_to_a_small_vocabulary() -> None:
    sentences = [sentence for _, _, sentence in SENTENCES]
    assert len(set(sentences)) == len(sentences)
    assert all(5 <= len(words(sentence)) <= 16 for sentence in sentences)
    assert 150 <= len({word for sentence in sentences for word in words(sentence)}) <= 250


@pytest.mark.parametrize(("section", "label", "sentence"), SENTENCES)
def test_sentence_states_its_class_and_says_nothing_of_other_sections(
    section: str, label: str, sentence: str
) -> None:
    tokens = " ".join(re.findall(r"\w+|[^\w\s]", sentence.lower()))  # as a model writes it
    for text in (sentence, sentence.lower(), tokens, tokens.removesuffix(" ."), f"{sentence} {sentence}"):
        assert stated_class(section, text) == label
    if label != INSUFFICIENT:
        assert [other for other in SECTIONS if stated_class(other, sentence)] == [section]


@pytest.mark.parametrize("section", SECTIONS)
def test_two_sentences_state_a_class_only_if_they_agree(section: str) -> None:
    own = [(label, sentence) for name, label, sentence in SENTENCES if name == section]
    for (first, a), (second, b) in itertools.product(own, repeat=2):
        assert stated_class(section, f"{a} {b}") == (first if first == second else None)


@pytest.mark.parametrize(
    ("section", "text", "expected"),
    [
        ("mitosis", "", None),
        ("mitosis", "mitosis is", None),
        ("mitosis", "mitosis is mitosis is mitosis", None),
        ("mitosis", "nuclear pleomorphism is severe overall", None),
        ("mitosis", "insufficient information", INSUFFICIENT),
        ("mitosis", "rare mitotic figures are frequent", None),
        ("mitosis", "the mitotic count is low , consistent with frequent mitosis .", None),
        ("mitosis", "the mitotic count is high , and most levels have one .", "frequent"),
        ("mitosis", "no mitotic figures , insufficient information", None),
        ("polarity", "partial loss of polarity , and polarity is gone", None),
        ("polarity", "the architecture is partly disordered , and polarity is reduced", "partially lost"),
        ("polarity", "polarity is lost in the epithelium", "lost"),
        ("polarity", "there is no orderly arrangement , consistent with complete loss of polarity", "lost"),
        ("crowding", "there is no space between the nuclei , consistent with severe crowding", "severe"),
        ("crowding", "there is no space between the nuclei , consistent with no crowding", None),
        ("nucleoli", "there are no visible nucleoli that are inconspicuous", "inconspicuous"),
        ("nucleoli", "prominent , but no nucleoli word of another kind is tiny", None),
        ("conclusion", "we conclude that this is a high grade lesion", "high grade"),
        ("conclusion", "the findings are those of low grade and high grade carcinoma", None),
        ("conclusion", "overall the tile is insufficient for a diagnosis", INSUFFICIENT),
    ],
)
def test_mixtures_and_fragments(section: str, text: str, expected: str | None) -> None:
    assert stated_class(section, text) == expected


def test_whole_report_states_the_class_of_every_section() -> None:
    for index in range(60):
        spec = draw_study(2, index)
        report = write_report(spec)
        for writer in range(5):
            text = " ".join(texts[writer] for texts in report.values())
            for section in SECTIONS:
                assert stated_class(section, text) == spec.labels.get(section, INSUFFICIENT)


def test_unknown_section_names_the_sections() -> None:
    with pytest.raises(ConfigurationError, match="no section 'grade'; the sections: pleomorphism, crowding"):
        stated_class("grade", "severe")


def test_report_has_five_writers_a_section_and_repeats_itself_for_the_same_study() -> None:
    spec = draw_study(2, 7)
    report = write_report(spec)
    assert tuple(report) == SECTIONS
    for section, texts in report.items():
        label = spec.labels.get(section, INSUFFICIENT)
        assert [text in writer[section][label] for text, writer in zip(texts, WRITERS, strict=True)] == [
            True
        ] * 5
    assert write_report(spec) == report


def test_writers_vary_their_phrasing_over_studies() -> None:
    written = {
        text
        for index in range(400)
        for texts in write_report(draw_study(2, index)).values()
        for text in texts
    }
    assert written == {sentence for _, _, sentence in SENTENCES}
