"""The page of an evaluation: another system's file has one too, and temperature scaling its before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from answers import SPACE, make_study
from PIL import Image

from mdnet.data.study import Study, StudySet
from mdnet.evaluation.predictions import evaluate_predictions
from mdnet.evaluation.record import StudyRecord
from mdnet.evaluation.run import evaluate_file
from mdnet.evaluation.scores import temperature_scaling
from mdnet.metrics.calibration import calibration_error

CONCLUSION = SPACE["conclusion"]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_probabilities_before_scaling_are_those_of_the_plain_logits(temperature: float) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (60, 2))
    truth = random.integers(0, 2, 60)
    records = [
        StudyRecord(
            make_study(str(row), labels={"conclusion": CONCLUSION.classes[truth[row]]}),
            {"conclusion": (CONCLUSION.classes[int(logits[row].argmax())],)},
            {"conclusion": softmax(logits[row] / temperature).tolist()},
        )
        for row in range(60)
    ]
    plain = np.array([softmax(row) for row in logits])
    found = temperature_scaling(CONCLUSION, records, temperature)
    assert found["temperature"] == temperature
    expected = calibration_error(plain.max(axis=1), plain.argmax(axis=1) == truth)
    assert found["before"]["ece"] == pytest.approx(expected, abs=1e-9)
    likelihood = -np.log(plain[np.arange(60), truth]).mean()
    assert found["before"]["negative_log_likelihood"] == pytest.approx(likelihood, abs=1e-9)


def test_without_probabilities_there_is_no_before() -> None:
    record = StudyRecord(make_study("a", labels={"conclusion": "tumor"}), {"conclusion": ("tumor",)}, {})
    assert temperature_scaling(CONCLUSION, [record], 2.0) == {}


@pytest.fixture
def answered(tmp_path: Path) -> tuple[Path, StudySet]:
    """Four studies with images, and a file that names classes without probabilities, two of them wrong."""
    studies = []
    for place in range(4):
        image = tmp_path / f"s{place}.png"
        Image.new("RGB", (16, 12), (40 * place, 0, 0)).save(image)
        labels = {"conclusion": "tumor", "findings": ("oedema",)}
        studies.append(
            Study(f"s{place}", (image,), "test", labels=labels, report={"all": (f"text {place}",)})
        )
    file = tmp_path / "answers.jsonl"
    lines = [
        {
            "id": f"s{place}",
            "report": f"text {place} <b>",
            "labels": {"conclusion": "normal" if place < 2 else "tumor", "findings": ["oedema"]},
        }
        for place in range(4)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file, StudySet(tmp_path, "studies", tuple(studies), SPACE, ("all",))


def test_studies_of_a_file_are_shown_with_their_images_and_no_invented_probability(
    answered: tuple[Path, StudySet],
) -> None:
    file, data = answered
    shown = evaluate_predictions(file, data.studies, data, show=4).shown
    assert [each.worst for each in shown] == [True, True, False, False]
    assert {each.study.id for each in shown[:2]} == {"s0", "s1"}
    finding = shown[0].finding
    assert finding.image.shape == (12, 16, 3)
    assert finding.aspects["conclusion"].label == "normal"
    assert not finding.aspects["conclusion"].probabilities
    assert finding.report.text == "text 0 <b>"
    assert shown[0].text_scores["rouge_l"] > 0
    assert evaluate_predictions(file, data.studies, data).shown == []  # no image is read unless asked


def test_a_file_gets_a_page_where_one_is_asked_for(
    answered: tuple[Path, StudySet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, data = answered
    monkeypatch.setattr("mdnet.evaluation.run.read_studies", lambda path, format, options: data)
    monkeypatch.setattr("mdnet.evaluation.run.data_hash", lambda studies: "0")
    out = tmp_path / "out" / "other"
    metrics = evaluate_file(file, tmp_path, out=out).metrics
    assert json.loads((out / "metrics.json").read_text()) == metrics
    page = (out / "index.html").read_text()
    assert page.count('<details class="study"') == 4
    assert "text 0 &lt;b&gt;" in page
    assert "Worst studies" in page
    assert 'id="calibration"' not in page  # the file names classes, no probabilities
    before = sorted(tmp_path.rglob("*"))
    evaluate_file(file, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
