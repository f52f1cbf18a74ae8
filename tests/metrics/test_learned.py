"""BERTScore against its formula on a small random BERT; the others against packages made by hand."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import mdnet.torchvision_compat  # noqa: F401

import numpy as np
import pytest
import torch

from mdnet.errors import ConfigurationError, DataError, MissingExtraError, WeightsError
from mdnet.metrics.learned import bert_score, chexbert_f1, radgraph_f1

WORDS = ["the", "nuclei", "are", "clear", "no", "crowding", "mild", "größe"]
HYPOTHESES = ["the nuclei are clear", "no crowding", "mild größe", ""]
REFERENCES = [["nuclei clear", "the nuclei are crowding"], ["mild crowding"], ["größe", "", "the"], ["no"]]

# Each scores a pair by the share of the reference's words that the hypothesis has.
RADGRAPH = """
CACHE_DIR = {cache!r}
class F1RadGraph:
    def __init__(self, reward_level, model_type):
        assert (reward_level, model_type) == ("all", "radgraph-xl")
        print("Using device: cpu")
    def __call__(self, refs, hyps):
        share = [len(set(r.split()) & set(h.split())) / len(r.split()) for r, h in zip(refs, hyps)]
        return 0, (share, [s / 2 for s in share], [s / 4 for s in share]), [], []
"""
CHEXBERT = """
import os
CACHE_DIR = {cache!r}
class F1CheXbert:
    def __call__(self, hyps, refs):
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        same = sum(h == r for h, r in zip(hyps, refs)) / len(refs)
        report = {{"micro avg": {{"f1-score": same}}, "macro avg": {{"f1-score": same / 2}}}}
        return 0, [], report, {{name: {{"f1-score": 1 - v["f1-score"]}} for name, v in report.items()}}
"""


@pytest.fixture(scope="module")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = folder / "words.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=1.0,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(vocabulary), strip_accents=False).save_pretrained(folder)
    return folder


def naive(hypothesis: str, reference: str, folder: Path, layer: int) -> np.ndarray:
    """Precision, recall and F1: section 3 of the paper, one cosine at a time."""
    from transformers import BertModel

    model = BertModel.from_pretrained(folder).double().eval()

    def vectors(text: str) -> np.ndarray:
        ids = [2, *(5 + WORDS.index(word) for word in text.split()), 3]  # [CLS] words [SEP]
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        return states[layer][0].numpy()

    left, right = vectors(hypothesis), vectors(reference)
    cosine = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in right] for a in left])
    # [CLS] and [SEP] may be matched, but have no weight of their own.
    precision, recall = cosine.max(axis=1)[1:-1].mean(), cosine.max(axis=0)[1:-1].mean()
    return np.array([precision, recall, 2 * precision * recall / (precision + recall)])


@pytest.mark.parametrize("layer", [1, 3])
def test_bert_score_follows_the_paper(small_bert: Path, layer: int) -> None:
    pytest.importorskip("bert_score")
    scores = bert_score(HYPOTHESES, REFERENCES, model=small_bert, layer=layer)
    best = [
        np.max([naive(text, one, small_bert, layer) for one in texts if one], axis=0)
        for text, texts in zip(HYPOTHESES[:3], REFERENCES[:3], strict=True)
    ]
    expected = np.sum(best, axis=0) / 4  # the empty hypothesis scores 0
    assert list(scores) == ["bertscore_precision", "bertscore_recall", "bertscore_f1"]
    assert list(scores.values()) == pytest.approx(expected, abs=1e-5)


def test_bert_score_of_equal_texts_is_one_and_of_nothing_zero(small_bert: Path) -> None:
    pytest.importorskip("bert_score")
    assert bert_score(["no crowding"], [["no crowding"]], model=small_bert, layer=2) == pytest.approx(
        dict.fromkeys(("bertscore_precision", "bertscore_recall", "bertscore_f1"), 1.0)
    )
    assert set(bert_score(["", " "], [["no"], [""]], model=small_bert, layer=2).values()) == {0.0}


def test_texts_that_the_model_cuts_are_told(small_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("bert_score")
    with caplog.at_level(logging.WARNING, logger="mdnet"):
        bert_score(["no " * 60], [["no"]], model=small_bert, layer=1)
    assert "1 of 2 texts are longer" in caplog.text


def test_what_bert_score_lacks_is_named(monkeypatch: pytest.MonkeyPatch, small_bert: Path) -> None:
    pytest.importorskip("bert_score")
    with pytest.raises(
        WeightsError, match=r"'nobody/no-model' is no folder .* run `hf download nobody/no-model`"
    ):
        bert_score(["a"], [["a"]], model="nobody/no-model", layer=1)
    with pytest.raises(ConfigurationError, match=r"no layer is known .*: give layer="):
        bert_score(["a"], [["a"]], model=small_bert)
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(
        MissingExtraError, match=r"bert_score is not installed: pip install 'mdnet\[bertscore\]'"
    ):
        bert_score(["a"], [["a"]], model=small_bert)


def install(folder: Path, name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a package on the path of the interpreters started from here."""
    (folder / name).mkdir()
    scorer = "F1RadGraph" if name == "radgraph" else "F1CheXbert"
    (folder / name / "__init__.py").write_text(f"from .{name} import {scorer}\n")
    (folder / name / f"{name}.py").write_text(source.format(cache=str(folder / "cache")))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_radgraph_takes_the_best_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "radgraph", RADGRAPH, monkeypatch)
    (tmp_path / "cache" / "radgraph-xl").mkdir(parents=True)
    # Shares: 2 of 2 words; 1 of 2; 1 of 1; nothing.
    mean = (1 + 1 / 2 + 1 + 0) / 4
    assert radgraph_f1(HYPOTHESES, REFERENCES, python=sys.executable) == pytest.approx(
        {"radgraph_simple": mean, "radgraph_partial": mean / 2, "radgraph_complete": mean / 4}
    )


def test_chexbert_counts_every_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "f1chexbert", CHEXBERT, monkeypatch)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "chexbert.pth").touch()
    scores = chexbert_f1(["é", "b"], [["é", "c", "d"], ["b"]], python=sys.executable)
    assert scores == pytest.approx(
        {
            "chexbert_micro_f1": 2 / 4,
            "chexbert_macro_f1": 1 / 4,
            "chexbert_micro_f1_5": 2 / 4,
            "chexbert_macro_f1_5": 3 / 4,
        }
    )


@pytest.mark.parametrize(("metric", "package"), [(radgraph_f1, "radgraph"), (chexbert_f1, "f1chexbert")])
def test_what_the_other_environment_lacks_is_named(
    metric, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=f"No module named '{package}'; what it needs: pydoc"):
        metric(["a"], [["a"]], python=sys.executable)
    install(tmp_path, package, RADGRAPH if package == "radgraph" else CHEXBERT, monkeypatch)
    with pytest.raises(ConfigurationError, match=r"its model is not at .*cache"):
        metric(["a"], [["a"]], python=sys.executable)
    with pytest.raises(ConfigurationError, match=r"no-python cannot be run \(No such file"):
        metric(["a"], [["a"]], python=tmp_path / "no-python")


def test_texts_that_do_not_fit_are_refused_before_anything_is_loaded() -> None:
    for metric in (
        lambda *texts: bert_score(*texts, model="none"),
        lambda *texts: radgraph_f1(*texts, python="none"),
        lambda *texts: chexbert_f1(*texts, python="none"),
    ):
        with pytest.raises(DataError, match="1 hypotheses and 0 lists of references"):
            metric(["a"], [])
