"""Does a query's score include the end token? What ranks fresh phantom studies better, by kinds of query.

    python benchmarks/retrieval_end_token.py --studies 1000

Every query is of one aspect and a class, and relevant are the studies of that class; or of two aspects. The
studies are ranked in sets of 100. Whole sentences are those of the phantom's writers; half ones are their
first halves, in words; phrases are "CLASS ASPECT" and "ASPECT CLASS", as people type them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from recording import record

from mdnet.data.phantom import make_phantom
from mdnet.data.readers import read_studies
from mdnet.inference.likelihood import Texts, text_log_likelihoods
from mdnet.inference.predictor import Predictor
from mdnet.metrics.retrieval import retrieval_metrics

SET, PAIRS = 100, 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=78)
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.from_pretrained(options.weights, device="cpu")
    model = predictor.model
    aspects = [a for a in model.config.space.aspects if a.name in model.config.sections]
    with tempfile.TemporaryDirectory() as folder:
        data = make_phantom(Path(folder) / "data", options.studies, seed=options.seed, progress=False)
        studies = [s for s in read_studies(data).studies if all(a.name in s.labels for a in aspects)]
        sentences = sorted(
            {(a.name, s.labels[a.name], t) for s in studies for a in aspects for t in s.report[a.name]}
        )
        classes = [(a.name, c) for a in aspects for c in a.classes]
        ids = {
            "whole sentences": [(a, c, model.tokenizer.encode(t)) for a, c, t in sentences],
            "half sentences": [
                (a, c, words[: max(2, len(words) // 2)])
                for a, c, t in sentences
                for words in [model.tokenizer.encode(t)]
            ],
            "class, aspect": [(a, c, model.tokenizer.encode(f"{c} {a}")) for a, c in classes],
            "aspect, class": [(a, c, model.tokenizer.encode(f"{a} {c}")) for a, c in classes],
        }
        rows = []
        for kind, queries in ids.items():
            for end in (False, True):
                words = [[*w, model.config.end_id] if end else w for _, _, w in queries]
                sections = [model.config.sections.index(a) for a, _, _ in queries]
                scores = score(predictor, studies, Texts.of_words(model, words, sections))
                truth = np.array([[s.labels[a] == c for s in studies] for a, c, _ in queries])
                rows.append(
                    {"queries": kind, "end token": "with" if end else "without"}
                    | {f"{name}, one": value for name, value in quality(scores, truth).items()}
                    | {
                        f"{name}, two": value
                        for name, value in quality(*paired(scores, truth, queries)).items()
                    }
                )
    record(
        "retrieval_end_token",
        rows,
        title=f"log p(query | image) with and without the end token, {len(studies)} studies in sets of {SET}",
        reading="Recall of a relevant study, mean reciprocal rank of the first; one aspect or two a query.",
    )


@torch.inference_mode()
def score(predictor: Predictor, studies, texts: Texts) -> np.ndarray:
    """(texts, studies)."""
    model, found = predictor.model, []
    for start in range(0, len(studies), 16):
        features = model.encode(
            predictor.strips([predictor.decoded(s) for s in studies[start : start + 16]])[0]
        )
        logits, _ = model.heads(features)
        found.append(text_log_likelihoods(model, features, model.guides(logits), texts))
    return torch.cat(found).T.numpy()


def paired(scores: np.ndarray, truth: np.ndarray, queries) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of queries of different aspects, drawn at random."""
    random = np.random.default_rng(0)
    pairs = random.integers(len(queries), size=(4 * PAIRS, 2))
    pairs = np.array([(i, j) for i, j in pairs if queries[i][0] != queries[j][0]])[:PAIRS]
    return scores[pairs].sum(axis=1), truth[pairs].all(axis=1)


def quality(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Means over the sets."""
    found = []
    for start in range(0, truth.shape[1] - SET + 1, SET):
        here = slice(start, start + SET)
        asked = truth[:, here].any(axis=1)
        found.append(retrieval_metrics(scores[asked, here], truth[asked, here]))
    names = {"recall@1": "recall_at_1", "recall@5": "recall_at_5", "MRR": "mean_reciprocal_rank"}
    return {name: float(np.mean([each[key] for each in found])) for name, key in names.items()}


if __name__ == "__main__":
    main()
