"""The vocabulary: words, round trips, special tokens, saving."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mdnet.data.loading import StudyDataset
from mdnet.data.preprocessing import Preprocessing
from mdnet.data.study import LabelSpace, Study
from mdnet.data.text import ReportTokenizer, join_words, split_words, warning_of_length
from mdnet.errors import ConfigurationError, WeightsError
from mdnet.metrics.language import language_metrics

TEXTS = ["Mitosis is frequent.", "Mitosis is rare, in 2.5 mm.", "Nucleoli: low-grade."]


@pytest.fixture(scope="module")
def tokenizer():
    return ReportTokenizer.build(TEXTS, ["mitosis", "nucleoli"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mitosis is FREQUENT.", ["mitosis", "is", "frequent", "."]),
        ("2.5 per 40x (1,000)", ["2.5", "per", "40x", "(", "1,000", ")"]),
        ("2-3 mm at L4-L5", ["2", "-", "3", "mm", "at", "l4-l5"]),
        ("low-grade, patient's 3-vessel", ["low-grade", ",", "patient's", "3-vessel"]),
        ("XXXX-year-old, ___ XXXX.", ["xxxx", "-", "year-old", ",", "___", "xxxx", "."]),
        ("post-XXXX changes", ["post", "-", "xxxx", "changes"]),
        ("50% T2/FLAIR", ["50", "%", "t2", "/", "flair"]),
        ("cafe\u0301 \u0152d\u00e8me", ["caf\u00e9", "\u0153d\u00e8me"]),
        ("\u89c6\u76d82\u7ea7\u3002", ["\u89c6", "\u76d8", "2", "\u7ea7", "\u3002"]),
        ("soft\u00adhyphen\ttab\x00nul", ["softhyphen", "tab", "nul"]),
        ("", []),
        (" \n\u3000", []),
    ],
)
def test_words_are_split_as_documented(text, words):
    assert split_words(text) == words


def test_a_lone_surrogate_does_not_crash(tokenizer):
    assert split_words("a \ud800") == ["a", "?"]
    assert tokenizer.encode("\ud800") == [tokenizer.unknown_id]


@pytest.mark.parametrize(
    "text",
    [
        "Mitosis is frequent (2.5 per mm, 40x); low-grade.",
        "XXXX-year-old male. In 2-3 of 10 fields: a/b.",
        "\u773c\u5e95\u6a58\u7ea2\u8272\uff0c\u6b63\u5e38\u3002",
    ],
)
def test_well_written_text_comes_back_as_it_was(text):
    assert join_words(split_words(text)) == text


def test_sentences_begin_with_a_capital():
    assert join_words(["mitosis", "is", "rare", ".", "(", "a", ")", "b", "."]) == "Mitosis is rare. (A) b."


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_words_of_joined_words_are_the_words(text):
    words = split_words(text)
    assert split_words(join_words(words)) == words


REPORT_CHARACTERS = st.text(alphabet="ab x'-.,;()/%_2 3XéßİΣς眼が<>\u0301", max_size=25)


@settings(max_examples=300, deadline=None)
@given(REPORT_CHARACTERS)
def test_words_of_joined_words_are_the_words_for_difficult_characters(text):
    words = split_words(text)
    assert split_words(join_words(words)) == words


@settings(max_examples=25, deadline=None)
@given(st.lists(REPORT_CHARACTERS, min_size=1, max_size=4))
def test_encoding_decoded_text_gives_the_same_ids(texts):
    tokenizer = ReportTokenizer.build(texts, ["a"])
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.unknown_id not in ids
        assert tokenizer.encode(tokenizer.decode(ids)) == ids


def test_special_tokens_stand_first(tokenizer):
    assert (tokenizer.pad_id, tokenizer.unknown_id, tokenizer.end_id) == (0, 1, 2)
    assert [tokenizer.begin_id(section) for section in ("mitosis", "nucleoli")] == [3, 4]
    assert tokenizer.sections == ("mitosis", "nucleoli")


def test_every_word_has_one_number_and_the_numbers_are_dense(tokenizer):
    words = {word for text in TEXTS for word in split_words(text)}
    assert len(tokenizer) == 5 + len(words)
    assert (
        sorted(number for text in TEXTS for number in set(tokenizer.encode(text)))[-1] == len(tokenizer) - 1
    )


def test_the_vocabulary_does_not_depend_on_the_order_of_texts(tokenizer):
    other = ReportTokenizer.build(reversed(TEXTS), ["mitosis", "nucleoli"])
    assert other.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_text_that_spells_a_special_token_is_text(tokenizer):
    ids = tokenizer.encode("<end> <pad> <begin:mitosis>")
    assert not {tokenizer.end_id, tokenizer.pad_id, 3, 4} & set(ids)


def test_decoding_stops_at_the_end_and_drops_specials(tokenizer):
    rare = tokenizer.encode("mitosis is rare.")
    ids = [
        tokenizer.begin_id("mitosis"),
        *rare,
        tokenizer.unknown_id,
        tokenizer.end_id,
        *rare,
        tokenizer.pad_id,
    ]
    assert tokenizer.decode(ids) == "Mitosis is rare."
    assert tokenizer.words(ids) == ("mitosis", "is", "rare", ".", "<unk>")


def test_decoding_takes_tensors(tokenizer):
    torch = pytest.importorskip("torch")
    assert tokenizer.decode(torch.tensor(tokenizer.encode(TEXTS[0]))) == TEXTS[0]


def test_rare_words_become_unknown():
    tokenizer = ReportTokenizer.build(["a a b"], [], minimum_count=2)
    assert tokenizer.encode("a b") == [3, tokenizer.unknown_id]
    assert "a" in tokenizer
    assert "b" not in tokenizer


def test_unknown_share_counts_words(tokenizer):
    assert tokenizer.unknown_share(["mitosis is strange", "rare"]) == 0.25
    assert tokenizer.unknown_share([]) == 0.0


def test_errors_name_what_is_known(tokenizer):
    with pytest.raises(ConfigurationError, match=r"no section 'polarity'.*mitosis, nucleoli"):
        tokenizer.begin_id("polarity")
    with pytest.raises(ConfigurationError, match="minimum_count is 0"):
        ReportTokenizer.build([], [], minimum_count=0)
    with pytest.raises(ConfigurationError, match="stands twice"):
        ReportTokenizer.build([], ["a", "a"])


def test_saving_and_loading_keeps_every_number(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = ReportTokenizer.load(tmp_path)
    assert len(loaded) == len(tokenizer)
    assert loaded.sections == tokenizer.sections
    for text in [*TEXTS, "<end> unseen words XXXX-2"]:
        assert loaded.encode(text) == tokenizer.encode(text)


def test_a_folder_holds_json_alone_and_the_ecosystem_reads_it(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["pad_token"] == "<pad>"
    again = ReportTokenizer(AutoTokenizer.from_pretrained(tmp_path))
    assert again.encode("Mitosis <end>") == tokenizer.encode("Mitosis <end>")


def test_a_missing_or_damaged_vocabulary_says_so(tmp_path, tokenizer):
    with pytest.raises(WeightsError, match=r"tokenizer\.json: no such file"):
        ReportTokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read"):
        ReportTokenizer.load(tmp_path)


def test_a_foreign_tokenizer_is_refused():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(WeightsError, match="lacks <pad>, <unk>, <end>"):
        ReportTokenizer(fast)


def test_what_is_longer_than_a_model_writes_is_counted_and_said(tokenizer):
    texts = ["Mitosis is rare.", "Mitosis is frequent. Mitosis is rare.", "Nucleoli."]  # 4, 8 and 2 words
    assert warning_of_length(texts, tokenizer, 8) is None
    assert warning_of_length([], tokenizer, 1) is None
    warning = warning_of_length(iter(texts), tokenizer, 3)
    assert "2 of 3 training texts are longer than the 3 tokens" in warning
    assert "the longest has 8" in warning
    assert "model_options: {maximum_words: 8}" in warning
    assert "\n" not in warning


def test_long_reports_are_learnt_whole_and_scored_against_whole_references(tokenizer, tmp_path):
    text = "Mitosis is rare. " * 200
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    study = Study("a", (tmp_path / "a.png",), report={"mitosis": (text,)})
    assert study.references() == [text]
    dataset = StudyDataset(
        [study],
        label_space=LabelSpace(),
        sections=["mitosis"],
        tokenizer=tokenizer,
        preprocessing=Preprocessing(8),
    )
    (words,) = dataset[0].sections
    assert list(words) == [*tokenizer.encode(text), tokenizer.end_id]
    assert len(words) == 801
    half = text[: len(text) // 2]
    assert language_metrics([half], [[text]])["bleu_1"] < 0.5  # the brevity penalty sees all of it
    assert language_metrics([text], [[text]])["bleu_4"] == pytest.approx(1.0)
