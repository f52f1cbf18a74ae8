"""METEOR 1.5 as published tables have it: the Java program that pycocoevalcap carries.

Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language",
WMT 2014, with pycocoevalcap's options (English, normalised). The program answers each line on its standard
input with one on its standard output:

    SCORE ||| a reference ||| another ||| the hypothesis    ->  statistics of one study
    EVAL ||| statistics ||| statistics ...                  ->  a score a study, then the corpus score

One line is out at a time and its standard error goes to a file, so that no pipe can fill up and block;
a program that dies or falls silent is an error with its last lines, and never stays behind. A locale with
decimal commas, which stops pycocoevalcap's own call, is overruled.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mdnet.errors import ConfigurationError, MDNetError, MissingExtraError
from mdnet.metrics.corpus import Corpus

__all__ = ["MeteorProgramError", "meteor_java"]

_PATIENCE = 300.0  # seconds for one answer; the first waits until the paraphrases are read
_MEMORY = "-Xmx2G"
_LAST_LINES = 5


class MeteorProgramError(MDNetError):
    """The Java program stopped, fell silent, or gave no number."""


def meteor_java(corpus: Corpus) -> tuple[float, NDArray[np.float64]]:
    """Score a corpus and each of its studies.

    Line breaks and "|||" inside a text count as spaces; an empty text is scored, not left out.

    Returns:
        METEOR of the corpus, which is not the mean of the studies', and of every study, (studies,).

    Raises:
        MissingExtraError: pycocoevalcap is not installed.
        ConfigurationError: There is no Java.
        MeteorProgramError: The program failed.
    """
    lines = _score_lines(corpus)
    with _Program.started(_command()) as program:
        known: dict[str, str] = {}
        for line in lines:
            if line not in known:
                known[line] = program.ask(line)
        program.write("EVAL" + "".join(f" ||| {known[line]}" for line in lines))
        numbers = [program.read() for _ in range(len(lines) + 1)]
        try:
            *studies, total = map(float, numbers)
        except ValueError:
            raise program.failure(f"gave no number: {numbers[-1]!r}") from None
    return total, np.array(studies)


def _score_lines(corpus: Corpus) -> list[str]:
    """A SCORE line for every study."""
    texts = [
        " ".join(
            " ".join(corpus.words[token] for token in corpus.sentence_tokens(index))
            .replace("|||", " ")
            .split()
        )
        for index in range(len(corpus.lengths))
    ]
    lines = []
    for study, hypothesis in enumerate(corpus.hypotheses):
        rows = slice(corpus.reference_starts[study], corpus.reference_starts[study + 1])
        parts = [texts[reference] for reference in corpus.references[rows]]
        lines.append(" ||| ".join(("SCORE", *parts, texts[hypothesis])))
    return lines


def _command() -> list[str]:
    """The call of the program."""
    package = find_spec("pycocoevalcap")
    if package is None:
        raise MissingExtraError("pycocoevalcap", "meteor")
    java = shutil.which("java")
    if java is None:
        raise ConfigurationError(
            "meteor='java', but there is no `java` on the PATH: install a Java runtime (Debian: "
            "`apt-get install default-jre-headless`) or choose meteor='nltk'"
        )
    folder = next(iter(package.submodule_search_locations or ()))
    jar = Path(folder) / "meteor" / "meteor-1.5.jar"
    english = ["-Duser.language=en", "-Duser.country=US"]  # its numbers are read in the locale's form
    return [java, *english, _MEMORY, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]


class _Program:
    """A running program that answers lines with lines."""

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self._process = process
        self._complaints = complaints

    @classmethod
    @contextmanager
    def started(cls, command: list[str]) -> Iterator[_Program]:
        """Starts a program, and ends it whatever happens."""
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints
            )
            try:
                yield cls(process, complaints)
            finally:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):  # what was not yet written has no reader any more
                        assert pipe is not None
                        pipe.close()

    def ask(self, line: str) -> str:
        """The answer to a line."""
        self.write(line)
        return self.read()

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode(errors="replace"))
            self._process.stdin.flush()
        except OSError:
            raise self.failure("stopped") from None

    def read(self) -> str:
        """The next line; an error where there is none."""
        assert self._process.stdout is not None
        alarm = Timer(_PATIENCE, self._process.kill)
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if not line.endswith(b"\n"):
            raise self.failure(f"stopped, or was ended after {_PATIENCE:.0f} s of silence")
        return line.decode(errors="replace").strip()

    def failure(self, what: str) -> MeteorProgramError:
        """The error for a program that did not do its work, with the last lines of its complaints."""
        try:
            code = self._process.wait(timeout=1)  # its own exit code, where it is about to end by itself
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._complaints.seek(0)
        last = self._complaints.read().decode(errors="replace").split("\n")[-_LAST_LINES - 1 :]
        said = " / ".join(line.strip() for line in last if line.strip()) or "nothing"
        return MeteorProgramError(f"METEOR's Java program {what} (exit code {code}); it said: {said}")
