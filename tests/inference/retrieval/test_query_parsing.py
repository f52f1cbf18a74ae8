"""From symptom text to the parts of a query: where it ends, what it is about, which words are known."""

from __future__ import annotations

import logging

import pytest

from mdnet.data.phantom import SECTIONS, WRITERS
from mdnet.errors import ConfigurationError
from mdnet.inference.retrieval.meaning import Meanings
from mdnet.inference.retrieval.parsing import parse_query
from mdnet.models.mdnet import MDNet


@pytest.fixture(scope="module")
def model() -> MDNet:
    return MDNet.from_pretrained("mdnet_tiny/phantom")


def read(text: str, model: MDNet) -> list[tuple[str, tuple[str, ...]]]:
    return [(part.text, part.sections) for part in parse_query(text, model).parts]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mitosis is frequent", [("Mitosis is frequent", ("mitosis",))]),
        (
            "frequent mitosis, polarity lost",
            [("Frequent mitosis", ("mitosis",)), ("Polarity lost", ("polarity",))],
        ),
        (
            "High grade; many mitoses. Nucleoli are bold",
            [
                ("High grade", ("conclusion",)),
                ("Many mitoses.", ("mitosis",)),
                ("Nucleoli are bold", ("nucleoli",)),
            ],
        ),
        # "and" and a comma separate where the two sides are of different sections only
        (
            "nuclei vary widely in size and shape and polarity lost",
            [("Nuclei vary widely in size and shape", ("pleomorphism",)), ("Polarity lost", ("polarity",))],
        ),
        (
            "Mitosis is frequent, and polarity is lost.",
            [("Mitosis is frequent", ("mitosis",)), ("Polarity is lost.", ("polarity",))],
        ),
        ("large nuclei", [("Large nuclei", SECTIONS)]),  # nothing tells: any section
        (", rare mitosis ,; ", [("Rare mitosis", ("mitosis",))]),
    ],
)
def test_a_query_is_parted_where_its_sections_part(text, parts, model):
    assert read(text, model) == parts


def test_every_sentence_of_every_writer_stays_whole_and_may_be_of_its_own_section(model):
    for writer in WRITERS:
        for section, classes in writer.items():
            for sentence in (sentence for sentences in classes.values() for sentence in sentences):
                ((text, sections),) = read(sentence, model)
                assert text == sentence
                assert section in sections


def test_words_the_model_does_not_know_are_all_named_with_those_it_may_have_been(model):
    with pytest.raises(ConfigurationError) as error:
        parse_query("tumour with mitosiss, zebra", model)
    assert str(error.value) == (
        "words that the model does not know: 'tumour' (did you mean 'tumor'?); 'mitosiss' (did you mean "
        "'mitosis' or 'mitoses'?); 'zebra'; use words of its reports"
    )


def test_of_many_unknown_words_ten_are_named(model):
    with pytest.raises(ConfigurationError, match=r"'word9x'; and 20 more; use words of its reports$"):
        parse_query(" ".join(f"word{number}x" for number in range(30)), model)


@pytest.mark.parametrize(
    ("text", "signs"),
    [("(nuclei are large)", "()"), ('"nuclei: are large"!', '":"!'), ("nuclei are large？", "？")],
)
def test_signs_the_model_does_not_know_are_left_out_and_said(text, signs, model, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(text, model) == [("Nuclei are large", SECTIONS)]
    assert caplog.messages == [f"{sign!r} is left out: the model does not know it" for sign in signs]


@pytest.mark.parametrize("text", ["", " , ;", "...", "and", "(and), and"])
def test_a_query_without_a_word_is_an_error(text, model):
    with pytest.raises(ConfigurationError, match="has no word"):
        parse_query(text, model)


def test_a_model_that_writes_nothing_finds_nothing(build_model):
    with pytest.raises(ConfigurationError, match="writes no report"):
        parse_query("frequent", build_model(sections=(), tokenizer=None))


def test_another_form_of_a_known_word_is_read_as_that_and_said(model, caplog):
    with caplog.at_level(logging.WARNING):
        assert read("severe crowd, low-grade", model) == [
            ("Severe crowding", ("crowding",)),
            ("Low grade", ("conclusion",)),
        ]
    assert caplog.messages == [
        "'crowd' is read as 'crowding', which the model knows",
        "'low-grade' is read as 'low grade', which the model knows",
    ]


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("frequent mitosis", [("mitosis", "frequent")]),
        ("numerous dividing cells", [("mitosis", "frequent")]),  # by the reader, without a name
        ("no mitosis", [("mitosis", "absent")]),
        ("polarity partially lost", [("polarity", "partially lost")]),
        ("lost polarity frequent mitosis", [("polarity", "lost"), ("mitosis", "frequent")]),
        ("mitosis is not frequent", []),
        ("mitosis rare or frequent", []),
        ("severe", []),  # a class of two aspects
        ("no polarity", []),  # its reference class is "preserved"
    ],
)
def test_the_classes_that_a_text_states(text, stated, model):
    assert sorted(Meanings(model).statements_of(text)) == sorted(stated)


def test_without_phrases_classes_are_read_by_name(build_model):
    meanings = Meanings(build_model())
    assert meanings.statements_of("frequent figures") == (("mitosis", "frequent"),)
    assert meanings.statements_of("figures are not frequent") == ()
    assert meanings.statements_of("frequent nuclei , oedema") == (
        ("mitosis", "frequent"),
        ("findings", "oedema"),
    )
    assert meanings.sections_of("a high grade tumor") == ("remarks", "conclusion")  # which it guides too
    statement = meanings.statements_of("frequent")[0]
    assert meanings.agrees("Many figures are seen.", statement)  # nothing says otherwise
    assert not meanings.agrees("Rare figures are seen.", statement)
