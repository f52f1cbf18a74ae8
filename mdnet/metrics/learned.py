"""Metrics that are models themselves: BERTScore, RadGraph-F1, CheXbert-F1. Each is optional.

- `bert_score` needs `pip install 'mdnet[bertscore]'` and a language model, in a folder or in the Hugging
  Face cache, such as `hf download roberta-large` (355 million parameters, 1.4 GB).
- `radgraph_f1` needs an environment of its own, with `pip install radgraph 'transformers<5'`, and the
  package's model (a BERT of 110 million parameters, 0.4 GB or more).
- `chexbert_f1` needs an environment of its own, with `pip install f1chexbert 'transformers<5'`, a
  huggingface_hub that knows `force_filename`, a scikit-learn whose `_check_targets` gives three values,
  and the package's model (a BERT of 110 million parameters, 0.4 GB or more).

Nothing is downloaded from here. The newest radgraph (0.1.18) and f1chexbert (0.0.2) call functions that
transformers 5 no longer has, so they cannot run beside mdnet: the Python of another environment runs them.
Their interface was read in these versions; neither was run with its model here. Both read chest X-ray
reports in English only.

A study with several references has the best of them, measure by measure, as bert-score does it; CheXbert-F1
counts every reference as a study of its own. In the others an empty text scores 0.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import textwrap
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdnet.errors import ConfigurationError, MissingExtraError, WeightsError
from mdnet.metrics.corpus import check_texts

__all__ = ["bert_score", "chexbert_f1", "radgraph_f1"]

_log = logging.getLogger(__name__)

Pairs = list[tuple[str, str]]


def bert_score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    model: str | PathLike[str],
    layer: int | None = None,
    device: str = "cpu",
) -> dict[str, float]:
    """BERTScore: Zhang et al., "BERTScore: Evaluating Text Generation with BERT", ICLR 2020.

    Precision is the mean over the hypothesis's tokens of the greatest cosine with a token of the
    reference, recall the same the other way round; without idf weights and without rescaling.

    Args:
        hypotheses: One report a study.
        references: One or more reports a study. A text longer than the model can read is cut by the
            package; a warning says how many were.
        model: Folder of a transformers model, or a Hugging Face name that is in the local cache.
        layer: Whose output is compared; by default the one that the package recommends for the model.
        device: Where to compute.

    Returns:
        bertscore_precision, bertscore_recall and bertscore_f1, means over the studies.

    Raises:
        MissingExtraError: bert-score is not installed.
        WeightsError: The model is not on this machine.
        ConfigurationError: The package knows no layer for this model, and none was given.
        DataError: As in `mdnet.metrics.language.language_scores`.
    """
    check_texts(hypotheses, references)
    import mdnet.torchvision_compat  # noqa: F401

    try:
        from bert_score import BERTScorer
        from bert_score.utils import model2layers
    except ImportError as error:
        raise MissingExtraError(error.name or "bert_score", "bertscore") from error

    layer = model2layers.get(str(model)) if layer is None else layer
    if layer is None:
        raise ConfigurationError(f"no layer is known for {str(model)!r}: give layer=...")
    scorer = BERTScorer(model_type=str(_folder_of(model)), num_layers=layer, device=device)
    tokenizer, limit = scorer._tokenizer, scorer._model.config.max_position_embeddings
    if tokenizer.model_max_length > limit:  # not set; the package would fail on it
        tokenizer.model_max_length = limit - 2  # RoBERTa's first position is number 2

    def score(pairs: Pairs) -> NDArray[np.float64]:
        texts = {text for pair in pairs for text in pair}
        cut = sum(len(tokenizer.encode(text)) > tokenizer.model_max_length for text in texts)
        if cut:
            _log.warning("BERTScore: %d of %d texts are longer than the model reads", cut, len(texts))
        left, right = (list(column) for column in zip(*pairs, strict=True))
        return np.stack([values.double().numpy() for values in scorer.score(left, right)], axis=1)

    means = _best_of_references(hypotheses, references, score, width=3)
    names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
    return dict(zip(names, means.tolist(), strict=True))


def radgraph_f1(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, python: str | PathLike[str]
) -> dict[str, float]:
    """RadGraph-F1, with the model RadGraph-XL: Delbrouck et al., Findings of ACL 2024.

    F1 of the clinical entities of a chest X-ray report; Jain et al., "RadGraph", NeurIPS Datasets and
    Benchmarks 2021.

    Args:
        hypotheses: One report a study.
        references: One or more reports a study.
        python: Interpreter of the environment that has radgraph.

    Returns:
        Means over the studies: radgraph_simple (entities), radgraph_partial (and whether they have a
        relation), radgraph_complete (and with what).

    Raises:
        ConfigurationError: That environment cannot run it; the message says why.
        DataError: As in `mdnet.metrics.language.language_scores`.
    """
    check_texts(hypotheses, references)
    means = _best_of_references(
        hypotheses,
        references,
        lambda pairs: np.array(_run_apart(python, _RADGRAPH, pairs), np.float64).T,
        width=3,
    )
    names = ("radgraph_simple", "radgraph_partial", "radgraph_complete")
    return dict(zip(names, means.tolist(), strict=True))


def chexbert_f1(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, python: str | PathLike[str]
) -> dict[str, float]:
    """CheXbert-F1: Smit et al., "CheXbert", EMNLP 2020.

    F1 of the 14 observations that a labeller reads in report and reference, uncertain ones as present,
    and of the five most used.

    Args:
        hypotheses: One report a study.
        references: One or more reports a study.
        python: Interpreter of the environment that has f1chexbert.

    Returns:
        chexbert_micro_f1, chexbert_macro_f1, chexbert_micro_f1_5, chexbert_macro_f1_5.

    Raises:
        ConfigurationError: That environment cannot run it; the message says why.
        DataError: As in `mdnet.metrics.language.language_scores`.
    """
    check_texts(hypotheses, references)
    pairs = [(text, one) for text, texts in zip(hypotheses, references, strict=True) for one in texts]
    names = ("chexbert_micro_f1", "chexbert_macro_f1", "chexbert_micro_f1_5", "chexbert_macro_f1_5")
    return dict(zip(names, map(float, _run_apart(python, _CHEXBERT, pairs)), strict=True))


def _best_of_references(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    score: Callable[[Pairs], NDArray[np.float64]],
    *,
    width: int,
) -> NDArray[np.float64]:
    """Mean over studies of each measure's best over the references, (width,); an empty text scores 0."""
    pairs = [(text, one) for text, texts in zip(hypotheses, references, strict=True) for one in texts]
    written = [index for index, pair in enumerate(pairs) if all(text.strip() for text in pair)]
    values = np.zeros((len(pairs), width))
    if written:
        values[written] = score([pairs[index] for index in written])
    starts = np.cumsum([0, *map(len, references)])[:-1]
    means: NDArray[np.float64] = np.maximum.reduceat(values, starts, axis=0).mean(axis=0)
    return means


def _folder_of(model: str | PathLike[str]) -> Path:
    """The folder of a model that is on this machine."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(model), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise WeightsError(
            f"{str(model)!r} is no folder and not in the Hugging Face cache: run `hf download {model}` where "
            "there is a network, or name a folder"
        ) from error


# Run by another interpreter: `hypotheses` and `references` are lists of texts, `answer` goes back as JSON.
_FRAME = """
import contextlib, json, os, sys

def require(path):
    if not os.path.exists(path):
        sys.exit(f"its model is not at {path}: run the package once where there is a network")

hypotheses, references = json.load(sys.stdin)
with contextlib.redirect_stdout(sys.stderr):
"""
_RADGRAPH = """
from radgraph import F1RadGraph
from radgraph.radgraph import CACHE_DIR
require(os.path.join(CACHE_DIR, "radgraph-xl"))
scorer = F1RadGraph(reward_level="all", model_type="radgraph-xl")
answer = [list(map(float, level)) for level in scorer(refs=references, hyps=hypotheses)[1]]
"""
_CHEXBERT = """
from f1chexbert import F1CheXbert
from f1chexbert.f1chexbert import CACHE_DIR
require(os.path.join(CACHE_DIR, "chexbert.pth"))
reports = F1CheXbert()(hyps=hypotheses, refs=references)[2:]
answer = [report[mean]["f1-score"] for report in reports for mean in ("micro avg", "macro avg")]
"""


def _run_apart(python: str | PathLike[str], program: str, pairs: Pairs) -> Any:
    """The answer of a program in another environment, which is kept off the network."""
    script = _FRAME + textwrap.indent(program, "    ") + "print(json.dumps(answer))\n"
    texts = json.dumps([list(column) for column in zip(*pairs, strict=True)])
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        done = subprocess.run(
            [os.fspath(python), "-c", script],
            input=texts,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **offline},
            check=False,
        )
    except OSError as error:
        raise ConfigurationError(
            f"{python} cannot be run ({error.strerror}): give the Python of its environment"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConfigurationError(f"{python}: {last}; what it needs: pydoc mdnet.metrics.learned")
    return json.loads(done.stdout.splitlines()[-1])
