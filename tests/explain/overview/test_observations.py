"""One pass over the images: what is kept of each study is what the model computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.data.study import Study
from mdnet.explain.by_design import batch_evidence
from mdnet.explain.overview.embedding import space_vectors
from mdnet.explain.overview.observations import observe

LABELS = {"mitosis": "rare", "findings": ("nodule",), "conclusion": "normal"}


@pytest.fixture(scope="module")
def studies(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("overview")
    paths = [folder / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return [Study(path.stem, (path,), labels=LABELS) for path in paths]


@pytest.fixture(scope="module")
def observations(small, studies):
    return observe(small, studies, thumbnail_side=16, progress=False)


def test_a_contrast_is_the_difference_of_two_logits_of_the_study(small, pictures, observations):
    evidence = batch_evidence(small.model, small.pixel_values(pictures))
    seen = set()
    for row, observation in enumerate(observations):
        for contrast in observation.contrasts:
            space = small.model.config.space[contrast.aspect]
            logits = evidence.logits[contrast.aspect][row]
            due = logits[space.index(contrast.label)]
            if contrast.against is not None:
                due = due - logits[space.index(contrast.against)]
            assert contrast.signed.sum() + contrast.bias == pytest.approx(float(due), abs=1e-6)
            maps = evidence.contrast(contrast.aspect, contrast.label, against=contrast.against).values()
            expected = [float(each[row].abs().sum()) for each in maps]
            np.testing.assert_allclose(contrast.absolute, expected, rtol=1e-5)
            seen.add((contrast.aspect, contrast.label, contrast.against))
    assert ("mitosis", "rare", "absent") in seen  # the truth, whether or not it was predicted
    assert ("findings", "nodule", None) in seen


def test_the_reference_stands_against_the_likeliest_other_class(small, pictures, observations):
    for finding, observation in zip(small.stream(pictures), observations, strict=True):
        (contrast,) = [c for c in observation.contrasts if (c.aspect, c.label) == ("conclusion", "normal")]
        others = {k: v for k, v in finding.aspects["conclusion"].logits.items() if k != "normal"}
        assert contrast.against == max(others, key=others.__getitem__)


def test_section_states_are_the_mean_input_of_the_output_layer(small, pictures, observations):
    model, config = small.model, small.model.config
    caught = []
    handle = model.report.output.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        for finding, observation in zip(small.stream(pictures), observations, strict=True):
            values = small.pixel_values([finding.image])
            for place, name in enumerate(config.sections):
                ids = [model.tokenizer.id_of(word) for word in finding.report.sections[name].words]
                if not ids:
                    assert not observation.states[place].any()
                    continue
                tokens = torch.full((1, len(config.sections), len(ids)), config.pad_id)
                tokens[0, place] = torch.tensor(ids)
                caught.clear()
                with torch.no_grad():
                    model(values, tokens=tokens)
                expected = caught[0][0, place].mean(dim=0)  # (H,)
                np.testing.assert_allclose(observation.states[place], expected.numpy(), atol=1e-6)
    finally:
        handle.remove()


def test_pictures_and_spaces_have_their_shapes(small, observations, pictures):
    each = observations[0]
    assert each.pixels.shape == (16, 16, 3)
    blocks = pictures[0].astype(float).reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(each.pixels - blocks).max() <= 1  # 2 x 2 pixels a cell
    assert each.thumbnail.shape == (16, 16, 3)
    spaces = space_vectors(observations)
    assert list(spaces) == ["pixels", "features", "sections"]
    with torch.no_grad():
        pooled = small.model.encode(small.pixel_values(pictures)).grid.mean(dim=1)
    standard = (pooled - pooled.mean(dim=0)) / pooled.std(dim=0, correction=0).clamp_min(1e-12)
    np.testing.assert_allclose(spaces["features"], standard.numpy(), atol=1e-3)


def test_a_model_without_a_report_has_no_sections(make_predictor, studies):
    predictor = make_predictor(sections=(), tokenizer=None)
    found = observe(predictor, studies, progress=False)
    assert found[0].states is None
    assert "sections" not in space_vectors(found)
