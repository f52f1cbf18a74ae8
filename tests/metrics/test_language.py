"""Text metrics against pycocoevalcap, against formulas written plainly, and against numbers by hand."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from mdnet.errors import ConfigurationError, DataError
from mdnet.metrics.language import LanguageScores, constant_report, language_metrics, language_scores

REAL_DATA = Path(os.environ.get("MDNET_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
KEYS = [
    "bleu_1",
    "bleu_2",
    "bleu_3",
    "bleu_4",
    "meteor",
    "rouge_l",
    "cider",
    "cider_d",
    "cider_plain",
]

Texts = tuple[list[str], list[list[str]]]


def random_texts(seed: int, studies: int = 40, lengths: tuple[int, ...] = (0, 1, 2, 3, 9, 40, 300)) -> Texts:
    """Texts of few words, so that they overlap; some empty, of one word, very long, non-ASCII."""
    generator = random.Random(seed)
    words = [f"w{index}" for index in range(12)] + ["é", "größe", "漢字", "🙂"]

    def text() -> str:
        return " ".join(generator.choices(words, k=generator.choice(lengths)))

    return [text() for _ in range(studies)], [
        [text() for _ in range(generator.randint(1, 5))] for _ in range(studies)
    ]


def assert_equals_pycocoevalcap(texts: Texts) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses, references = texts
    results = {index: [text] for index, text in enumerate(hypotheses)}
    truths = dict(enumerate(references))
    ours = language_scores(hypotheses, references, tokenized=True)
    bleu, bleu_by_study = Bleu(4).compute_score(truths, results, verbose=0)
    for order in range(4):
        name = f"bleu_{order + 1}"
        assert ours.corpus[name] == pytest.approx(bleu[order], abs=1e-9)
        np.testing.assert_allclose(ours.studies[name], bleu_by_study[order], rtol=0, atol=1e-9)
    for name, scorer in (("rouge_l", Rouge()), ("cider", Cider())):
        corpus, by_study = scorer.compute_score(truths, results)
        assert ours.corpus[name] == pytest.approx(corpus, abs=1e-9)
        np.testing.assert_allclose(ours.studies[name], by_study, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_random_texts_score_as_in_pycocoevalcap(seed: int) -> None:
    assert_equals_pycocoevalcap(random_texts(seed))


def test_one_study_scores_as_in_pycocoevalcap() -> None:
    assert_equals_pycocoevalcap((["a b c"], [["a b d", "c"]]))


def test_texts_of_no_word_anywhere_score_as_in_pycocoevalcap() -> None:
    assert_equals_pycocoevalcap((["", "a"], [[""], ["", "b"]]))


def test_real_reports_score_as_in_pycocoevalcap() -> None:
    path = REAL_DATA / "bladder_report_text" / "references.json"
    if not path.exists():
        pytest.skip(f"real bladder reports are not at {path}")
    captions = [study["caption"] for study in json.loads(path.read_text())]
    assert_equals_pycocoevalcap(([texts[0] for texts in captions], [texts[1:] for texts in captions]))


def test_scores_have_the_agreed_keys_and_are_plain_floats() -> None:
    scores = language_metrics(["Clear lungs."], [["The lungs are clear."]])
    assert sorted(scores) == sorted(KEYS)
    assert all(type(value) is float for value in scores.values())


def test_every_meteor_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["clear lungs"], [["lucid lungs"]]
    others = sorted(set(KEYS) - {"meteor"})
    assert sorted(language_metrics(*texts, meteor=None)) == others
    monkeypatch.setattr("mdnet.metrics.language.wordnet_synonyms", lambda: lambda word: {"lucid"})
    with_wordnet = language_metrics(*texts, meteor="wordnet")
    assert sorted(with_wordnet) == sorted([*others, "meteor_wordnet"])
    assert with_wordnet["meteor_wordnet"] > language_metrics(*texts)["meteor"]
    with pytest.raises(
        ConfigurationError, match="meteor 'Java' is unknown: choose one of nltk, wordnet, java"
    ):
        language_metrics(*texts, meteor="Java")  # type: ignore[arg-type]


def test_case_and_punctuation_do_not_count() -> None:
    references = [["the lungs are clear and the heart is normal"], ["no effusion is seen on either side"]]
    hypotheses = ["The lungs are clear, and the heart is NORMAL.", "No effusion is seen (on) either side!"]
    scores = language_metrics([hypotheses[0], references[1][0]], references)
    assert scores["bleu_4"] == pytest.approx(1, abs=1e-8)
    assert scores["rouge_l"] == pytest.approx(1)
    assert scores["cider"] == pytest.approx(10)
    brackets = language_metrics(hypotheses, references)
    assert brackets["bleu_4"] < 1  # brackets are tokens, as in pycocoevalcap


def test_references_are_never_cut() -> None:
    long = " ".join(f"w{index}" for index in range(5000))
    assert language_metrics([long], [[long]], tokenized=True)["bleu_4"] == pytest.approx(1)
    assert language_metrics([long[: len(long) // 2]], [[long]], tokenized=True)["bleu_4"] < 0.5


def test_order_of_studies_does_not_matter() -> None:
    hypotheses, references = random_texts(1)
    order = random.Random(2).sample(range(len(hypotheses)), len(hypotheses))
    straight = language_scores(hypotheses, references, tokenized=True)
    mixed = language_scores(
        [hypotheses[index] for index in order], [references[index] for index in order], tokenized=True
    )
    for name in KEYS:
        assert mixed.corpus[name] == pytest.approx(straight.corpus[name], abs=1e-12)
        np.testing.assert_allclose(mixed.studies[name], straight.studies[name][order], rtol=0, atol=1e-12)


def test_mean_metrics_are_the_mean_of_their_studies() -> None:
    scores: LanguageScores = language_scores(*random_texts(3), tokenized=True)
    for name in ("meteor", "rouge_l", "cider", "cider_d", "cider_plain"):
        assert scores.corpus[name] == pytest.approx(scores.studies[name].mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a", "b"], [["a"]], "2 hypotheses and 1 lists of references"),
        ([], [], "no study"),
        (["a"], [[]], r"references\[0\]: no reference"),
        (["a"], ["a"], r"references\[0\]: one text where a list is due"),
        ("a", [["a"]], "one text where a list is due"),
    ],
)
def test_texts_that_do_not_fit_are_refused_in_words(
    hypotheses: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        language_metrics(hypotheses, references)


@pytest.mark.parametrize("metric", ["bleu_1", "bleu_4", "meteor", "rouge_l", "cider"])
def test_constant_report_is_the_best_of_all_tried_one_by_one(metric: str) -> None:
    candidates, _ = random_texts(5, 15, (0, 3, 9, 40))
    _, references = random_texts(6, 20, (2, 9, 40))
    scores = [
        language_metrics([text] * len(references), references, tokenized=True)[metric] for text in candidates
    ]
    best = constant_report(candidates, references, metric=metric, tokenized=True)
    assert best == candidates[int(np.argmax(scores))]


def test_constant_report_tries_the_most_frequent_first() -> None:
    assert constant_report(["a b", "c d", "c d"], [["a b"]], metric="bleu_1", limit=1) == "c d"
    assert constant_report(["a b", "c d", "c d"], [["a b"]], metric="bleu_1") == "a b"


def test_constant_report_refuses_an_unknown_metric_and_no_candidate() -> None:
    with pytest.raises(ConfigurationError, match="'spice' is unknown: choose one of bleu_1"):
        constant_report(["a"], [["a"]], metric="spice")
    with pytest.raises(ConfigurationError, match="no candidate"):
        constant_report([], [["a"]])
