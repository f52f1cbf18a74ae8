"""Does symptom text find the images that it is true of? On fresh synthetic studies, beside chance.

    python benchmarks/retrieval_quality.py --studies 300

A query states a class of each of two aspects, all pairs that occur; an image is relevant if it has both.
Each is worded in three ways: as one of the writers that the model learned from words it, as short symptom
text ("frequent mitosis, lost polarity"), and held out: in known words that no writer puts so. Beside that,
image to image (relevant: the same conclusion) and image to report (relevant: a report of the same labels).
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from recording import record

from mdnet.data.phantom import LABEL_SPACE, WRITERS, make_phantom, stated_class
from mdnet.data.readers import read_studies
from mdnet.data.study import Study
from mdnet.inference.predictor import Predictor
from mdnet.inference.retrieval.exact import score_exactly
from mdnet.inference.retrieval.parsing import parse_query
from mdnet.inference.retrieval.phrasing import phrase_query, score_parts
from mdnet.inference.retrieval.query import Query, QueryPart
from mdnet.inference.retrieval.store import FeatureStore
from mdnet.inference.retrieval.two_stage import similar_images
from mdnet.metrics.retrieval import retrieval_metrics

CONCLUSION = "conclusion"
HELD_OUT = {
    "pleomorphism": {
        "mild": "small variation in nuclear size",
        "moderate": "nuclear outlines vary moderately",
        "severe": "bizarre giant nuclei of marked pleomorphism",
    },
    "crowding": {
        "absent": "nuclei stand apart, no crowding",
        "moderate": "moderately crowded nuclei that rarely touch",
        "severe": "packed nuclei, many overlaps, severely crowded",
    },
    "polarity": {
        "preserved": "polarity is well preserved",
        "partially lost": "polarity is partly disordered",
        "lost": "loss of polarity is complete",
    },
    "mitosis": {
        "absent": "there is no mitosis",
        "rare": "one or two mitoses",
        "frequent": "numerous mitotic figures",
    },
    "nucleoli": {"inconspicuous": "hardly visible nucleoli", "prominent": "nuclei with large bold nucleoli"},
    CONCLUSION: {
        "normal": "normal urothelium without a lesion",
        "low grade": "a tumor of low grade",
        "high grade": "carcinoma of high grade",
        "insufficient information": "insufficient for grading",
    },
}

Scores = npt.NDArray[np.float64]
Statement = tuple[str, str]


class NoPhrases:
    """Reads nothing, as there is nothing to read by beside data without phrases."""

    def read(self, report: Mapping[str, str]) -> dict[str, frozenset[str] | None]:
        return {}

    def due(self, labels: Mapping[str, str | tuple[str, ...]]) -> Mapping[str, str | tuple[str, ...]]:
        return labels


def wordings(pairs: Sequence[tuple[Statement, Statement]], seed: int) -> Mapping[str, list[list[str]]]:
    """Wording to the parts of each query."""
    chosen = random.Random(seed)
    writers = [chosen.choice(WRITERS) for _ in pairs]
    return {
        "as a writer has it": [
            [chosen.choice(writer[aspect][label]) for aspect, label in pair]
            for writer, pair in zip(writers, pairs, strict=True)
        ],
        "short": [[f"{label} {aspect}" for aspect, label in pair] for pair in pairs],
        "short, the other way round": [[f"{aspect} {label}" for aspect, label in pair] for pair in pairs],
        "held out": [[HELD_OUT[aspect][label] for aspect, label in pair] for pair in pairs],
    }


def pairs_of(studies: Sequence[Study]) -> Iterator[tuple[tuple[Statement, Statement], npt.NDArray[np.bool_]]]:
    """Pairs of classes of two aspects that some study has, and which studies do."""
    for one, other in itertools.combinations(LABEL_SPACE.aspects, 2):
        for pair in itertools.product(
            [(one.name, label) for label in one.classes], [(other.name, label) for label in other.classes]
        ):
            relevant = np.array([all(study.labels.get(a) == c for a, c in pair) for study in studies])
            if relevant.any():
                yield pair, relevant


def row(query: str, scored: str, scores: Scores, relevant: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """A row of the table, from scores (queries, ranked) and what is relevant to each query."""
    metrics = retrieval_metrics(scores, relevant)
    first = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    names = {
        "recall@1": "recall_at_1",
        "recall@5": "recall_at_5",
        "mean reciprocal rank": "mean_reciprocal_rank",
    }
    measured: dict[str, Any] = {"query": query, "scored by": scored, "queries": len(scores)}
    for column, name in names.items():
        measured |= {column: metrics[name], f"{column}, chance": metrics["chance"][name]}
    share = float(np.take_along_axis(relevant, first, axis=1).mean())
    return measured | {"relevant in the first 5": share, "in the first 5, chance": float(relevant.mean())}


def rows_of_text(predictor: Predictor, store: FeatureStore, studies: Sequence[Study], seed: int) -> list[Any]:
    """Rows of text to image."""
    model = predictor.model
    pairs, truth = zip(*pairs_of(studies), strict=True)
    relevant = np.stack(truth)
    found = []
    for wording, queries in wordings(pairs, seed).items():
        parsed = [
            Query(tuple(p for part in parts for p in parse_query(part, model).parts)) for parts in queries
        ]
        found.append(row(wording, "its words", score_exactly(model, store, parsed), relevant))
        texts = {text for own in queries for text in own}
        for scored, statements in (
            ("the model's sentences", None),
            ("the same, classes read by name only", NoPhrases()),
        ):
            of_text, unread = {}, []
            for text in sorted(texts):
                parts = phrase_query(model, store, parse_query(text, model), statements=statements)
                of_text[text] = score_parts(model, store, parts).sum(axis=0)
                unread += [text] if any(part.statement is None for part in parts) else []
            print(f"{wording}, {scored}: {len(unread)} of {len(texts)} parts state no class")
            scores = np.stack([sum(of_text[text] for text in own) for own in queries])
            found.append(row(wording, scored, scores, relevant))
    posteriors = {
        name: logits.double().log_softmax(dim=1).cpu().numpy()
        for name, logits in store.logits(slice(None)).items()
    }
    scores = np.stack(
        [sum(posteriors[a][:, LABEL_SPACE[a].index(label)] for a, label in pair) for pair in pairs]
    )
    return [*found, row("the two classes themselves", "the heads, for comparison", scores, relevant)]


def row_of_images(store: FeatureStore, studies: Sequence[Study]) -> dict[str, Any]:
    """The row of image to image; an image is not compared with itself."""
    conclusions = np.array([study.labels[CONCLUSION] for study in studies])
    scores, same = [], []
    for number in range(len(store)):
        hits = similar_images(store, number, top=len(store))
        scores.append([hit.score for hit in hits])
        same.append(conclusions[[hit.row for hit in hits]] == conclusions[number])
    return row("image to image, the same conclusion", "likeness of C(I)", np.array(scores), np.array(same))


def row_of_reports(predictor: Predictor, store: FeatureStore, studies: Sequence[Study]) -> dict[str, Any]:
    """The row of image to report: each study's first, that of its own among them."""
    reports = [
        Query(tuple(QueryPart(texts[0], (section,)) for section, texts in study.report.items()))
        for study in studies
    ]
    scores = score_exactly(predictor.model, store, reports).T  # (images, reports)
    same = np.array([[one.labels == other.labels for other in studies] for one in studies])
    return row("image to report, the same labels", "log p(report)", scores, same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="mdnet_tiny/phantom")
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=60604, help="of the studies; no weights have seen it")
    arguments = parser.parse_args()
    known = {
        text
        for writer in WRITERS
        for classes in writer.values()
        for texts in classes.values()
        for text in texts
    }
    for aspect, texts in HELD_OUT.items():
        assert all(stated_class(aspect, text) in (label, None) for label, text in texts.items())
        assert known.isdisjoint(texts.values())
    predictor = Predictor.from_pretrained(arguments.weights, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        data = make_phantom(Path(folder) / "data", arguments.studies, seed=arguments.seed, workers=1)
        studies = read_studies(data).studies
        store = FeatureStore.build(Path(folder) / "features", predictor, studies, broken=[])
        rows = [
            *rows_of_text(predictor, store, studies, arguments.seed),
            row_of_images(store, studies),
            row_of_reports(predictor, store, studies),
        ]
    record(
        "retrieval_quality",
        rows,
        title=f"Retrieval on {arguments.studies} fresh synthetic studies, {arguments.weights}",
        reading="A query states a class of each of two aspects; an image is relevant if it has both. Scored "
        "by its words: log p of them as they stand. By the model's sentences: the probability that the model "
        "states the classes, in sentences of its own (docs/retrieval.md). Held-out wordings have words that "
        "no writer puts so; by which phrases they are read was known to who wrote them.",
    )


if __name__ == "__main__":
    main()
