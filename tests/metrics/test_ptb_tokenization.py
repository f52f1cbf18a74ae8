"""Tokens as the Java PTBTokenizer makes them: a table of its answers, and real reports where Java is."""

from __future__ import annotations

import json
import os
import shutil
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdnet.metrics.ptb_tokenization import tokenize

REAL_DATA = Path(os.environ.get("MDNET_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", ""),
        (" . ,\n-- ", ""),
        ("The Lungs are clear.", "the lungs are clear"),
        ("clear.Heart is normal. 3.The", "clear.heart is normal 3 the"),
        ("a,b a;b and/or a/b/c/d", "a b a b and/or a/b/c / d"),
        ("well-known 5-mm T12-L1 mid--lung post- -based", "well-known 5-mm t12-l1 mid lung post based"),
        ("mid–lung T2—weighted 3–4", "mid lung t2 weighted 3 4"),
        ("(AP) [x] {y}", "-lrb- ap -rrb- -lsb- x -rsb- -lcb- y -rcb-"),
        ("2.5cm 8mm 12:30 1,000.5 .5 -5 3x4 1/2 1-1/2", "2.5 cm 8mm 12:30 1,000.5 .5 -5 3x4 1/2 1-1/2"),
        ("50% 37°C 2×3 ±2 2.5-3 +5", "50 % 37 ° c 2 × 3 ± 2 2.5-3 +5"),
        ("can't cannot won't patient's they're", "ca n't can not wo n't patient 's they 're"),
        ("it’s patients' o'clock \"x\" 'x' “x”", "it 's patients o'clock x x x"),
        ("Dr. Lee vs. CT. at 5 p.m. The i.v. etc. No.", "dr. lee vs. ct. at 5 p.m. the i.v. etc. no"),
        ("No. 5 fig. 3 Fig. A no. Five", "no. 5 fig. 3 fig a no five"),
        ("E. Coli, R. MCA, a mass. There", "e. coli r. mca a mass there"),
        ("wait ... what? !", "wait what"),
        ("A & B &lt;x &amp; y", "a & b < x & y"),
        ("L'Hermitte's D'Orsi x1.severe", "l'hermitte 's d'orsi x1.severe"),
        ("XXXX-year-old XXXX/XXXX x1.", "xxxx-year-old xxxx/xxxx x1"),
        ("see http://www.a.com/b?c=d. <br> >5", "see http://www.a.com/b?c=d <br> > 5"),
        ("naïve Ångström 漢字 русский", "naïve ångström 漢字 русский"),
    ],
)
def test_java_gives_these_tokens(text: str, tokens: str) -> None:
    assert tokenize(text) == tokens.split()


@given(st.text(max_size=60))
def test_any_text_has_tokens_without_white_space(text: str) -> None:
    assert all(token and not any(character.isspace() for character in token) for token in tokenize(text))


@given(st.text(string.ascii_lowercase + " ", max_size=60))
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert tokenize(text.replace("cannot", "")) == text.replace("cannot", "").split()


def real_texts() -> list[str]:
    folder = REAL_DATA
    texts: list[str] = []
    if (path := folder / "bladder_report_text" / "references.json").exists():
        texts += [text for study in json.loads(path.read_text()) for text in study["caption"]]
    if (path := folder / "iu_xray" / "annotation.json").exists():
        texts += [study["report"] for split in json.loads(path.read_text()).values() for study in split]
    return [" ".join(text.split()) for text in texts]


def test_real_reports_have_the_tokens_of_java() -> None:
    texts = real_texts()
    if not texts:
        pytest.skip(f"real reports are not at {REAL_DATA}")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed")
    tokenizer = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer").PTBTokenizer()
    theirs = tokenizer.tokenize({index: [{"caption": text}] for index, text in enumerate(texts)})
    equal = sum(theirs[index][0].split() == tokenize(text) for index, text in enumerate(texts))
    assert equal / len(texts) >= 0.999
