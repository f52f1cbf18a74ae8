"""Batches of findings: what the predictor gives, whoever reads the images, and draws by batch."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mdnet.data.study import Study
from mdnet.errors import ImageError, MissingExtraError
from mdnet.inference.bulk import answering
from mdnet.inference.bulk.answering import answer, seeded
from mdnet.inference.bulk.inputs import list_inputs
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.reading import ReadStudy, StudyReader


@pytest.fixture
def studies(folder):
    return list_inputs([str(folder)]).studies


def told(batches) -> list[list[str]]:
    return [[json.dumps(finding.to_dict()) for _, finding in batch.findings] for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_holds_the_findings_of_its_readable_studies(predict, studies, workers):
    predictor = predict(DecodingConfig())
    batches = list(answer(predictor, studies, [1, 3], workers=workers))
    assert [batch.number for batch in batches] == [1, 3]
    assert [len(batch) for batch in batches] == [3, 2]
    (broken,) = batches[0].unreadable
    assert Path(broken.where).name == "04.png"
    assert broken.problem.startswith("not an image")
    ids = [[identifier for identifier, _ in batch.findings] for batch in batches]
    assert ids == [[studies[3].id, studies[5].id], [studies[9].id, studies[10].id]]
    expected = [predictor([studies[a].images[0], studies[b].images[0]]) for a, b in ((3, 5), (9, 10))]
    assert told(batches) == [[json.dumps(finding.to_dict()) for finding in each] for each in expected]


def test_findings_without_maps_tell_the_same(predict, studies):
    predictor = predict(DecodingConfig(method="beam", beams=3, best=2, alternatives=2))
    with_maps, without = (
        next(iter(answer(predictor, studies, [0], maps=maps, abstain_below=0.4))) for maps in (True, False)
    )
    assert told([with_maps]) == told([without])
    for (_, whole), (_, light) in zip(with_maps.findings, without.findings, strict=True):
        assert any(whole.attention(section).size for section in whole.report.sections)
        assert whole.evidence("mitosis").shape == whole.image.shape[:2]
        assert not any(light.attention(section).size for section in light.report.sections)
        assert light.image.size == 0
        assert light.aspect_evidence == {}
        assert light.verdict == whole.verdict


def test_a_study_that_was_read_gives_the_finding_of_its_file(predict, studies):
    predictor = predict(DecodingConfig())
    path = studies[0].images[0]
    read = predictor.reader().read(path, 0)
    assert isinstance(read, ReadStudy)
    (first,), (second,) = (list(predictor.stream([each])) for each in (path, read))
    assert first.to_dict() == second.to_dict()
    np.testing.assert_array_equal(first.evidence("mitosis"), second.evidence("mitosis"))
    assert predictor.reader(keep_pictures=False).read(path, 0).pictures == ()


def test_a_warning_of_an_image_that_was_read_elsewhere_is_told_here(predict, tmp_path, draw_image, caplog):
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    with caplog.at_level(logging.WARNING):
        list(answer(predict(DecodingConfig()), [Study("a", (tmp_path / "black.png",))], [0], workers=1))
    assert f"{tmp_path / 'black.png'}: every pixel is 0" in caplog.text


def test_a_study_of_views_one_of_which_is_broken_names_it(predict, folder):
    views = (folder / "00.png", folder / "04.png")
    predictor = predict(DecodingConfig())
    reading = answering._Reading([Study("s", views)], StudyReader(predictor.preprocessing, 2))
    ((identifier, fault),) = reading[[0]]
    assert identifier == "s"
    assert fault.where == f"{views[0]} + {views[1]}"
    assert fault.problem.startswith(f"{views[1]}: not an image")


def test_what_is_wrong_with_more_than_one_image_ends_the_run(predict, studies, monkeypatch):
    def missing(self, study, number):
        raise MissingExtraError("nibabel", "nifti")

    monkeypatch.setattr(StudyReader, "read", missing)
    with pytest.raises(MissingExtraError):
        list(answer(predict(DecodingConfig()), studies, [0]))
    assert not issubclass(MissingExtraError, ImageError)


def test_every_batch_draws_by_itself(predict, studies):
    decoding = DecodingConfig(method="sample", temperature=3.0, seed=4)
    assert seeded(decoding, 0) is decoding
    seeds = [
        seeded(replace(decoding, seed=seed), batch).seed for seed in (-1, 0, 1) for batch in range(1, 50)
    ]
    assert len(set(seeds)) == len(seeds)
    assert seeded(DecodingConfig(), 3) == DecodingConfig()
    predictor = predict(decoding)
    forwards, backwards = (
        {b.number: b for b in answer(predictor, studies, order)} for order in ([0, 1, 2], [2, 0])
    )
    for number in (0, 2):
        assert told([forwards[number]]) == told([backwards[number]])
    same = [Study(str(number), studies[0].images) for number in range(6)]
    first, second = told(answer(predictor, same, [0, 1]))
    assert not set(first) & set(second)
