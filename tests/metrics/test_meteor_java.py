"""Java's METEOR against pycocoevalcap's own call, and what becomes of programs that fail."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mdnet.errors import ConfigurationError, MissingExtraError
from mdnet.metrics import meteor_java as module
from mdnet.metrics.corpus import Corpus
from mdnet.metrics.language import language_scores
from mdnet.metrics.meteor_java import MeteorProgramError, meteor_java

# Answers a SCORE line with its number of texts, and EVAL with its number of studies, each and in sum.
COUNTER = """
import sys
for line in sys.stdin:
    parts = line.rstrip("\\n").split(" ||| ")
    if parts[0] == "SCORE":
        print(len(parts) - 1, flush=True)
    else:
        print("\\n".join([*parts[1:], str(sum(map(float, parts[1:])))]), flush=True)
"""


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str) -> list[subprocess.Popen[bytes]]:
    """Puts a Python program in the place of the Java one; gives the processes that are started."""
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    start = subprocess.Popen
    monkeypatch.setattr(module, "_command", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr(module.subprocess, "Popen", popen)
    return started


@pytest.mark.slow  # two Java machines read 60 MB of paraphrases each
@pytest.mark.skipif(shutil.which("java") is None, reason="no java on the PATH")
def test_random_texts_score_as_in_pycocoevalcap(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.meteor.meteor import Meteor

    # A locale of ASCII must change neither their texts nor ours.
    monkeypatch.setenv("LC_ALL", "C")
    generator = random.Random(0)
    words = ["the", "nuclei", "nucleus", "crowded", "crowding", "clear", "clearly", "é", "größe", "漢字", "."]

    def text(lengths: tuple[int, ...]) -> str:
        return " ".join(generator.choices(words, k=generator.choice(lengths)))

    hypotheses = [text((0, 1, 4, 12, 300)) for _ in range(25)]
    references = [[text((0, 1, 5, 12, 60)) for _ in range(generator.randint(1, 5))] for _ in range(25)]
    theirs = Meteor()
    pipes = (theirs.meteor_p.stdout, theirs.meteor_p.stderr)
    expected, expected_by_study = theirs.compute_score(
        dict(enumerate(references)), {index: [one] for index, one in enumerate(hypotheses)}
    )
    del theirs
    for pipe in pipes:
        pipe.close()
    scores = language_scores(hypotheses, references, tokenized=True, meteor="java")
    assert scores.corpus["meteor_java"] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(scores.studies["meteor_java"], expected_by_study, rtol=0, atol=1e-9)
    assert "meteor" not in scores.corpus


def test_every_study_is_asked_for_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, COUNTER)
    total, studies = meteor_java(Corpus.from_texts(["a", "", "a"], [["b"], ["b", "c", ""], ["b"]]))
    assert studies == pytest.approx([2, 4, 2])
    assert total == pytest.approx(8)


def test_separators_and_line_breaks_in_a_text_are_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, COUNTER)
    corpus = Corpus.from_texts(["a ||| b\nc\r\u2028d"], [["x|||y"]], tokenize=lambda text: [text])
    assert meteor_java(corpus)[1] == pytest.approx([2])


def test_a_program_that_dies_is_an_error_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    started = run_instead(monkeypatch, "import sys; input(); sys.exit('Exception in größe\\nheap space')")
    with pytest.raises(MeteorProgramError, match=r"exit code 1.*Exception in größe / heap space"):
        meteor_java(Corpus.from_texts(["a", "b"], [["a"], ["b"]]))
    assert started[0].returncode == 1


def test_a_program_that_is_not_there_any_more_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, "import os; os.close(0); print('gone', file=__import__('sys').stderr)")
    hypotheses = [f"{index} " * 20000 for index in range(3)]  # more than a pipe holds
    with pytest.raises(MeteorProgramError, match="gone"):
        meteor_java(Corpus.from_texts(hypotheses, [["a"]] * 3))


def test_a_program_that_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.3)
    started = run_instead(monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(MeteorProgramError, match="silence"):
        meteor_java(Corpus.from_texts(["a"], [["a"]]))
    assert started[0].returncode is not None


def test_a_program_that_complains_at_length_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    run_instead(monkeypatch, "import sys; sys.stderr.write('warning\\n' * 50000)\n" + COUNTER)
    assert meteor_java(Corpus.from_texts(["a"], [["a"]]))[0] == pytest.approx(2)


def test_an_answer_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    started = run_instead(monkeypatch, "while True: input(); print('what?\\n' * 5, flush=True)")
    with pytest.raises(MeteorProgramError, match=r"gave no number: 'what\?'"):
        meteor_java(Corpus.from_texts(["a"], [["a"]]))
    assert started[0].returncode is not None


def test_an_interruption_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = run_instead(monkeypatch, COUNTER)
    monkeypatch.setattr(
        module._Program, "ask", lambda program, line: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        meteor_java(Corpus.from_texts(["a"], [["a"]]))
    assert started[0].returncode is not None


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.from_texts(["a"], [["a"]])
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=r"pycocoevalcap is not installed: pip install 'mdnet\[meteor\]'"
    ):
        meteor_java(corpus)
    monkeypatch.undo()
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match="no `java` on the PATH: install a Java runtime"):
        meteor_java(corpus)
