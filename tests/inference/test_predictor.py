"""`Predictor`: any image in, the same finding out, and numbers that hold together."""

from __future__ import annotations

import logging
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from mdnet.errors import ConfigurationError, ImageError, WeightsError
from mdnet.inference.predictor import Predictor, aspect_finding
from mdnet.inference.sections import sharpness


@pytest.fixture
def make_predictor(build_model, draw_batch, let_sections_end):
    def make(*, batch_size: int = 32, **options) -> Predictor:
        model = build_model(dtype=torch.float32, **options)
        if model.report is not None:
            let_sections_end(model, draw_batch(4, channels=model.config.image_channels).pixel_values.float())
        return Predictor(model, name="small", device="cpu", batch_size=batch_size)

    return make


@pytest.fixture
def draw_images():
    def draw(count: int, size: tuple[int, int] = (32, 32), seed: int = 0) -> list[np.ndarray]:
        random = np.random.default_rng(seed)
        return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]

    return draw


def assert_alike(first, second, tolerance: float = 1e-5) -> None:
    assert first.report.text == second.report.text
    for name, aspect in first.aspects.items():
        assert aspect.labels == second.aspects[name].labels
        assert aspect.logits == pytest.approx(dict(second.aspects[name].logits), rel=tolerance, abs=tolerance)
        for block, values in first.aspect_evidence[name].blocks.items():
            other = second.aspect_evidence[name].blocks[block]
            np.testing.assert_allclose(values, other, rtol=tolerance, atol=tolerance)
    for name, section in first.report.sections.items():
        other = second.report.sections[name]
        assert section.words == other.words
        np.testing.assert_allclose(section.attention, other.attention, atol=tolerance)
        np.testing.assert_allclose(section.log_probabilities, other.log_probabilities, atol=10 * tolerance)


def test_a_path_a_picture_and_an_array_give_the_same_finding(make_predictor, draw_images, tmp_path):
    predictor, array = make_predictor(), draw_images(1, (40, 50))[0]
    path = tmp_path / "tile.png"
    Image.fromarray(array).save(path)
    finding = predictor(array)
    for image in (path, str(path), Image.fromarray(array), [array], (array,)):
        other = predictor(image)
        if isinstance(image, (list, tuple)):
            assert isinstance(other, list)
            (other,) = other
        assert_alike(finding, other, tolerance=0)
    assert predictor(path).source == str(path)
    assert finding.model == "small"
    assert finding.image.shape == (40, 50, 3)
    assert predictor([]) == []


def test_a_list_gives_what_its_images_give_one_by_one(make_predictor, draw_images):
    images = draw_images(3) + draw_images(2, (61, 45), seed=1)
    predictor = make_predictor(batch_size=2)
    together = predictor(images)
    assert [finding.source for finding in together] == [f"image {number}" for number in range(5)]
    for image, finding in zip(images, together, strict=True):
        assert_alike(predictor(image), finding)


def test_a_stream_takes_no_more_images_than_a_batch_at_a_time(make_predictor, draw_images):
    taken = []

    def images():
        for number, image in enumerate(draw_images(10)):
            taken.append(number)
            yield image

    stream = make_predictor(batch_size=3).stream(images())
    next(stream)
    assert taken == [0, 1, 2]
    assert len(list(stream)) == 9


@pytest.mark.parametrize("attention", ["sharpened", "mdnet", "additive"])
def test_every_word_has_a_map_that_sums_to_one(make_predictor, draw_images, attention):
    predictor = make_predictor(attention=attention)
    findings = predictor(draw_images(3))
    written = 0
    for finding, name in product(findings, predictor.model.config.sections):
        section = finding.report.sections[name]
        maps = finding.attention(name)
        assert maps.shape == (len(section.words), 4, 4)
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), 1.0, rtol=1e-12)
        assert (maps >= 0).all()
        assert len(section.words) == len(section.log_probabilities) == len(section.sharpness)
        assert (section.log_probabilities < 0).all()
        assert ((section.sharpness >= -1e-9) & (section.sharpness <= 1)).all()
        written += len(section.words)
    assert written > 10
    assert list(finding.report.sections) == ["mitosis", "remarks", "findings", "conclusion"]
    assert finding.report.sections["remarks"].aspect == "conclusion"
    assert finding.report.sections["remarks"].guided_by == finding.diagnosis.label


@torch.no_grad()
def test_words_look_where_the_evidence_of_the_finding_s_own_labels_is(make_predictor, draw_images):
    predictor = make_predictor()
    model, image = predictor.model, draw_images(1, seed=3)[0]
    finding = predictor(image)
    labels = {}
    for aspect in model.config.space.aspects:
        said = finding.aspects[aspect.name].labels
        answer = [int(c in said) for c in aspect.classes] if aspect.multi_label else aspect.index(said[0])
        labels[aspect.name] = torch.tensor([answer])
    for number, section in enumerate(finding.report.sections.values()):
        words = [model.tokenizer.fast.convert_tokens_to_ids(word) for word in section.words]
        tokens = torch.full((1, 4, len(words) + 1), model.config.end_id)
        tokens[0, number, :-1] = torch.tensor(words, dtype=torch.long)
        forced = model(model.preprocessing(image)[None], labels, tokens)
        expected = forced.attention[0, number, :-1].reshape(-1, 4, 4).numpy()
        np.testing.assert_allclose(section.attention, expected, atol=1e-5)


def test_a_section_of_no_words_has_no_maps(make_predictor, draw_images, tokenizer):
    predictor = make_predictor()
    with torch.no_grad():
        predictor.model.report.output.bias[tokenizer.end_id] = 1000.0
    finding = predictor(draw_images(1)[0])
    assert finding.report.text == ""
    assert finding.attention("mitosis").shape == (0, 4, 4)


@pytest.mark.parametrize("size", [(32, 32), (61, 45), (3, 70), (1, 1), (128, 128)])
def test_evidence_over_the_image_and_the_bias_give_the_logit(make_predictor, draw_images, size):
    finding = make_predictor()(draw_images(1, size)[0])
    for name, aspect in finding.aspects.items():
        scale = max(abs(logit) for logit in aspect.logits.values())
        for label, logit in aspect.logits.items():
            evidence = finding.evidence(name, label)
            assert evidence.shape == size
            assert evidence.total == pytest.approx(logit, rel=1e-4, abs=1e-5 * scale)
            assert float(evidence.sum()) + evidence.bias == pytest.approx(evidence.total)
            native = sum(float(block.sum()) for block in evidence.blocks)
            assert native + evidence.bias == pytest.approx(logit, rel=1e-4, abs=1e-5 * scale)
            for against, other in aspect.logits.items():
                total = finding.evidence(name, label, against=against).total
                assert total == pytest.approx(logit - other, rel=1e-4, abs=2e-5 * scale)
    assert [block.shape for block in finding.evidence("mitosis").blocks] == [(16, 16), (8, 8), (4, 4)]


def test_labels_are_the_likeliest_class_or_all_above_a_half(make_predictor, draw_images):
    for finding in make_predictor()(draw_images(6)):
        for name, aspect in finding.aspects.items():
            probabilities = aspect.probabilities
            if name == "findings":
                assert aspect.labels == tuple(label for label, p in probabilities.items() if p >= 0.5)
                logits = np.array(list(aspect.logits.values()))
                np.testing.assert_allclose(list(probabilities.values()), 1 / (1 + np.exp(-logits)))
            else:
                assert sum(probabilities.values()) == pytest.approx(1.0)
                assert aspect.label == max(probabilities, key=probabilities.__getitem__)
        assert finding.diagnosis is finding.aspects["conclusion"]


def test_label_and_guide_agree_at_a_logit_of_exactly_zero(build_model, space):
    logits = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    found = aspect_finding(space["findings"], logits)
    assert found.labels == ("oedema", "nodule")
    guides = build_model().heads.predicted({"findings": logits[None]}, space["findings"])
    assert guides.tolist() == [[1, 0, 1]]


def test_sharpness_is_zero_for_a_flat_map_and_one_for_a_single_position():
    maps = np.array([[0.25] * 4, [0, 1, 0, 0], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(sharpness(maps), [0.0, 1.0, 0.5])
    np.testing.assert_array_equal(sharpness(np.ones((2, 1))), [1.0, 1.0])


def test_grayscale_models_take_colour_images(make_predictor, draw_images):
    assert make_predictor(image_channels=1)(draw_images(1)[0]).diagnosis.label


def test_a_model_without_labels_or_sections_says_so(make_predictor, draw_images):
    image = draw_images(1)[0]
    finding = make_predictor(label_space=None)(image)
    assert finding.report.sections["remarks"].aspect is None
    with pytest.raises(ConfigurationError, match="the model small has no diagnosis"):
        _ = finding.diagnosis
    finding = make_predictor(sections=(), tokenizer=None)(image)
    assert finding.report.text == ""
    assert finding.diagnosis.label


def test_what_is_missing_from_the_folder_is_named(build_model, tmp_path):
    build_model(dtype=torch.float32).save_pretrained(tmp_path / "model")
    for name, message in (
        ("tokenizer.json", "save it with its tokenizer"),
        ("preprocessor_config.json", "save it with its preprocessing"),
    ):
        kept = (tmp_path / "model" / name).read_bytes()
        (tmp_path / "model" / name).unlink()
        with pytest.raises(WeightsError, match=f"no {name}; {message}"):
            Predictor.from_pretrained(tmp_path)
        (tmp_path / "model" / name).write_bytes(kept)
    assert Predictor.from_pretrained(tmp_path).name == str(tmp_path)


def test_an_image_with_nothing_to_see_is_warned_of(make_predictor, draw_images, caplog):
    with caplog.at_level(logging.WARNING):
        make_predictor()([draw_images(1)[0], np.full((32, 32, 3), 7, np.uint8)])
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("image 1: every pixel is 7")


def test_a_broken_image_is_named(make_predictor, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        make_predictor()(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "nope"}, "device nope: not on this machine"),
        ({"batch_size": 0}, "batch size 0: give 1 or more"),
    ],
)
def test_a_device_or_batch_that_cannot_be_is_named(build_model, options, message):
    with pytest.raises(ConfigurationError, match=message):
        Predictor(build_model(), **options)


def test_the_model_is_put_into_evaluation_mode_and_left_without_gradients(build_model, draw_images):
    model = build_model(dtype=torch.float32, dropout=0.5).train()
    predictor = Predictor(model, device="cpu")
    image = draw_images(1)[0]
    assert not model.training
    assert_alike(predictor(image), predictor(image), tolerance=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.image.activations[0][0].num_batches_tracked == 0
