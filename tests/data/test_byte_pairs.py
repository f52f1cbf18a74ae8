"""Vocabularies of pieces of words: every text can be written with them and comes back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdnet.data.byte_pairs import whole_words
from mdnet.data.text import UNKNOWN, ReportTokenizer, join_words, split_words
from mdnet.errors import ConfigurationError
from mdnet.explain.targets import SectionTarget, WordTarget
from mdnet.inference.likelihood import EncodedImage, report_log_likelihoods
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet

TEXTS = [
    "Mitosis is frequent, in 2.5 mm.",
    "Mitosis is rare; nucleoli are low-grade.",
    "XXXX-year-old male, ___ 3 of 10.",
    "眼底橘红色，正常。",
]
SECTIONS = ["mitosis", "nucleoli"]


def build(texts=TEXTS, vocabulary_size=430, **options):
    return ReportTokenizer.build(texts, SECTIONS, kind="bpe", vocabulary_size=vocabulary_size, **options)


@pytest.fixture(scope="module")
def byte_pairs():
    return build()


DIFFICULT = st.text(alphabet="ab x'-.,;()/%_2 3XéßİΣς眼が<>#\u0301☃\u2581", max_size=25)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=30), DIFFICULT))
def test_any_text_comes_back_and_nothing_is_unknown(byte_pairs, text):
    ids = byte_pairs.encode(text)
    assert byte_pairs.decode(ids) == join_words(split_words(text))
    special = {
        byte_pairs.pad_id,
        byte_pairs.unknown_id,
        byte_pairs.end_id,
        *map(byte_pairs.begin_id, SECTIONS),
    }
    assert not special & set(ids)
    assert [byte_pairs.id_of(piece) for piece in byte_pairs.words(ids)] == ids


@settings(max_examples=25, deadline=None)
@given(st.lists(DIFFICULT, min_size=1, max_size=4))
def test_any_training_texts_make_a_vocabulary_that_writes_them_without_bytes(texts):
    tokenizer = build(texts, 2000)
    for text in texts:
        ids = tokenizer.encode(text)
        assert not any(piece.startswith("<0x") for piece in tokenizer.words(ids))
        assert list(whole_words(tokenizer.words(ids))) == split_words(text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Mitosis in XXXX", ("mitosis", "in", "xxxx")),
        ("2.5 mitosism", ("2.5", "mitosis", "##m")),
        ("tin", ("t", "##i", "##n")),
        ("☃", ("<0xE2>", "<0x98>", "<0x83>")),
    ],
)
def test_pieces_that_continue_a_word_are_marked(text, pieces):
    tokenizer = build(["Mitosis in 2.5 XXXX"] * 2)
    assert tokenizer.words(tokenizer.encode(text)) == pieces


def test_special_tokens_stand_first_and_the_size_is_kept(byte_pairs):
    assert (byte_pairs.pad_id, byte_pairs.unknown_id, byte_pairs.end_id) == (0, 1, 2)
    assert [byte_pairs.begin_id(section) for section in SECTIONS] == [3, 4]
    assert byte_pairs.sections == tuple(SECTIONS)
    assert len(build(vocabulary_size=360)) == 360
    assert len(build(vocabulary_size=8000)) == len(byte_pairs) < 430  # there is no more to merge
    assert len(build(minimum_count=2)) < len(byte_pairs)


def test_a_vocabulary_follows_from_the_texts_alone():
    vocabularies = [
        build(texts).fast.backend_tokenizer.to_str() for texts in (TEXTS, TEXTS[::-1], iter(TEXTS))
    ]
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]


def test_text_that_spells_a_token_is_text(byte_pairs):
    text = "<end> <0xE2> ##s <begin:mitosis>"
    ids = byte_pairs.encode(text)
    assert byte_pairs.end_id not in ids
    assert byte_pairs.decode(ids) == join_words(split_words(text))


def test_pieces_in_any_order_make_some_text(byte_pairs):
    rng = np.random.default_rng(0)
    for _ in range(200):  # an untrained model writes such
        assert isinstance(byte_pairs.decode(rng.integers(0, len(byte_pairs), 12)), str)
    assert join_words(["##osis", "is", "mit", "##osis", "<0xE2>", "."]) == "Osis is mitosis \ufffd."


def test_saving_and_loading_keeps_every_number(byte_pairs, tmp_path):
    from transformers import AutoTokenizer

    byte_pairs.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    for loaded in (ReportTokenizer.load(tmp_path), ReportTokenizer(AutoTokenizer.from_pretrained(tmp_path))):
        assert len(loaded) == len(byte_pairs)
        assert loaded.sections == byte_pairs.sections
        for text in [*TEXTS, "<end> unseen ☃ words XXXX-2 眼"]:
            assert loaded.encode(text) == byte_pairs.encode(text)


def test_errors_name_what_is_allowed():
    with pytest.raises(ConfigurationError, match=r"vocabulary_size is 300: .* give more, or take words"):
        build(vocabulary_size=300)
    with pytest.raises(ConfigurationError, match="tokenizer 'characters' is none of words, bpe"):
        ReportTokenizer.build(TEXTS, SECTIONS, kind="characters")


def test_a_model_of_pieces_writes_is_saved_and_explained(build_model, tmp_path):
    texts = [*TEXTS, "mitotic figures are frequent", "no nodule is seen"]
    names = ("mitosis", "remarks", "findings", "conclusion")
    tokenizer = ReportTokenizer.build(texts, names, kind="bpe", vocabulary_size=440)
    model = build_model(tokenizer=tokenizer, dtype=torch.float32)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    predictor = Predictor(model, device="cpu")
    finding = predictor(image)
    for section in finding.report.sections.values():
        assert len(section.words) == len(section.attention) > 0
        assert section.text == join_words(section.words)
        assert UNKNOWN not in section.words

    target = WordTarget.of(finding, "mitosis", 4)
    log_p = target.score(model, predictor.pixel_values([image]))
    assert log_p.item() == pytest.approx(finding.report.sections["mitosis"].log_probabilities[4], rel=1e-4)
    assert str(SectionTarget.of(finding, "mitosis")) == f"mitosis: {finding.report.sections['mitosis'].text}"

    _, features = next(predictor.stream_with_features([image]))
    logits = model(predictor.pixel_values([image])).logits
    encoded = EncodedImage(features, model.guides(logits))
    assert np.isfinite(report_log_likelihoods(model, [encoded], [{"mitosis": "never seen: ☃ ß 鏡"}])).all()

    model.save_pretrained(tmp_path)
    again = Predictor(MDNet.from_pretrained(tmp_path), device="cpu")(image)
    assert again.report.sections["mitosis"].words == finding.report.sections["mitosis"].words
