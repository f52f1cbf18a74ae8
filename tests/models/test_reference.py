"""The single-file reference and the library give the same numbers, gradients and words."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from mdnet.data.study import LabelSpace
from mdnet.inference.decoding import decode_greedily
from mdnet.models import reference
from mdnet.models.mdnet import MDNet


def same_reference(model: MDNet) -> reference.ReferenceMDNet:
    """The reference of a model's shape, with its weights."""
    config, space = model.config, model.config.space
    twin = reference.ReferenceMDNet(
        reference.ImageModule(
            config.image_channels,
            config.stem_stride,
            stages=list(zip(config.widths, config.depths, config.strides, strict=True)),
        ),
        reference.Heads([(len(a.classes), a.reference_index) for a in space.aspects], config.widths),
        reference.ReportLSTM(
            config.vocabulary_size, config.embedding_size, sum(config.widths), config.hidden_size
        ),
        [
            (token, space.names.index(config.section_aspects[section]))
            for token, section in zip(config.begin_ids, config.sections, strict=True)
        ],
    ).to(model.dtype)
    twin.load_state_dict(model.state_dict())
    return twin.train(model.training)


@pytest.fixture
def pair(build_model, space):
    single_label = LabelSpace(tuple(a for a in space.aspects if not a.multi_label), space.diagnosis)
    model = build_model(label_space=single_label, widths=[4, 6, 8], depths=[2, 1, 3])
    return model, same_reference(model)


def test_reference_stays_readable_at_one_sitting_and_needs_nothing_of_the_library():
    source = Path(reference.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 250
    imported = [node.names[0].name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import)]
    imported += [str(node.module) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in imported} == {"__future__", "torch"}


@pytest.mark.parametrize("size", [(32, 32), (45, 30)])
def test_logits_shares_and_evidence_are_those_of_the_library(pair, draw_batch, size):
    model, twin = pair
    images = draw_batch(size=size).pixel_values
    output, blocks = model(images), twin.image(images)
    evidence = model.evidence(output.features)
    torch.testing.assert_close(reference.to_grid(blocks), output.features.grid, rtol=1e-10, atol=1e-10)
    for head, name in zip(twin.heads.heads, model.config.space.names, strict=True):
        torch.testing.assert_close(head(blocks), output.logits[name], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(head.shares(blocks), output.block_logits[name], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(head.evidence(blocks), evidence[name], rtol=1e-10, atol=1e-10)


def test_attention_and_log_likelihood_are_those_of_the_library(pair, draw_batch):
    model, twin = pair
    images, labels, tokens = draw_batch()
    output = model(images, labels, tokens)
    grid = reference.to_grid(twin.image(images))
    classes = [labels[name] for name in model.config.space.names]
    log_p, attention = twin.read(tokens, grid, twin.guide(grid, classes))
    torch.testing.assert_close(attention, output.attention, rtol=1e-10, atol=1e-10)
    expected = (log_p * (tokens != reference.PAD)).sum(dim=2)
    torch.testing.assert_close(expected, output.log_likelihood, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("beta", "eta"), [(0.3, 1.0), (0.7, 2.5)])
def test_joint_objective_has_the_value_and_gradients_of_the_library(pair, draw_batch, beta, eta):
    model, twin = (module.train() for module in pair)
    images, labels, tokens = draw_batch(4)
    labels["mitosis"][1] = reference.MISSING
    tokens[2, 1] = reference.PAD
    loss = model(images, labels, tokens, beta=beta, eta=eta).loss
    table = torch.stack([labels[name] for name in model.config.space.names], dim=1)
    expected = reference.joint_loss(twin, images, table, tokens, beta, eta)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    loss.backward()
    expected.backward()
    theirs = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-10, atol=1e-10, msg=name)


def test_words_are_those_of_the_library(pair, draw_batch, tokenizer, let_sections_end):
    model, twin = pair
    images = draw_batch(5).pixel_values
    let_sections_end(model, images)
    twin.load_state_dict(model.state_dict())
    output = model(images)
    prepared = model.prepare(output.features, model.guides(output.logits))
    decoded = decode_greedily(model, output.features, prepared, maximum_words=15)
    theirs = [[list(tokenizer.words(row)) for row in study] for study in decoded.tokens.tolist()]
    ours = [[list(tokenizer.words(row)) for row in study] for study in reference.write(twin, images, 15)]
    assert ours == theirs
    assert len({len(row) for study in ours for row in study}) > 2
