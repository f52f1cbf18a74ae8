"""Teacher forcing is a sum of single steps; neither the batch nor padding changes it."""

from __future__ import annotations

import pytest
import torch

from mdnet.models.configuration import ATTENTION_NAMES


def naive_log_likelihood(model, images, labels, tokens, study: int, section: int) -> torch.Tensor:
    """log p(section | image) of one section of one study, a step at a time, the LSTM's gates written out."""
    report, config = model.report, model.config
    features = model.encode(images[study : study + 1])
    logits, _ = model.heads(features.blocks)
    guides = model.guides(logits, {name: label[study : study + 1] for name, label in labels.items()})
    prepared = model.prepare(features, guides)
    prepared = prepared._replace(evidence=prepared.evidence[:, section : section + 1])
    grid, cell_of = features.grid[0], report.lstm
    h = c = torch.zeros(config.hidden_size, dtype=torch.float64)
    word, total = config.begin_ids[section], torch.zeros((), dtype=torch.float64)
    for target in tokens[study, section].tolist():
        if target == config.pad_id:
            break
        z = report.attention(h[None, None], prepared)[0, 0] @ grid
        x = torch.cat([report.embedding.weight[word], z])
        gates = cell_of.weight_ih @ x + cell_of.bias_ih + cell_of.weight_hh @ h + cell_of.bias_hh
        i, f, g, o = gates.split(config.hidden_size)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        scores = report.output.weight @ h + report.output.bias
        total = total + scores[target] - scores.exp().sum().log()
        word = target
    return total


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@torch.no_grad()
def test_log_likelihood_is_the_sum_over_single_steps(build_model, draw_batch, attention):
    model = build_model(attention=attention)
    batch = draw_batch(2)
    found = model(*batch).log_likelihood
    for study in range(2):
        for section in range(4):
            expected = naive_log_likelihood(model, *batch, study, section)
            torch.testing.assert_close(found[study, section], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@torch.no_grad()
def test_a_batch_of_one_equals_a_batch_of_many(build_model, draw_batch, attention):
    model = build_model(attention=attention)
    images, labels, tokens = draw_batch(4)
    together = model(images, labels, tokens)
    for study in range(4):
        one = slice(study, study + 1)
        alone = model(images[one], {name: label[one] for name, label in labels.items()}, tokens[one])
        for name in ("report_logits", "attention", "log_likelihood"):
            torch.testing.assert_close(alone[name], together[name][one], rtol=1e-10, atol=1e-10, msg=name)
        for name, logits in alone.logits.items():
            torch.testing.assert_close(logits, together.logits[name][one], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_padding_changes_neither_loss_nor_gradient(build_model, draw_batch, attention):
    images, labels, tokens = draw_batch(3)
    longer = torch.cat([tokens, torch.zeros_like(tokens)], dim=2)
    gradients = []
    for words in (tokens, longer):
        model = build_model(attention=attention).train()
        output = model(images, labels, words)
        output.loss.backward()
        gradients.append([output.loss.detach(), output.log_likelihood.detach()])
        gradients[-1] += [p.grad for p in model.parameters() if p.grad is not None]
    for short, padded in zip(*gradients, strict=True):
        torch.testing.assert_close(short, padded, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_the_begin_token_alone_tells_the_lstm_which_section_it_writes(build_model, draw_batch):
    model = build_model(section_aspects={"remarks": "conclusion", "conclusion": "conclusion"})
    images, labels, tokens = draw_batch(2)
    tokens[:, 3] = tokens[:, 1]  # the same words and the same evidence in "remarks" and "conclusion"
    first = model(images, labels, tokens).log_likelihood
    assert (first[:, 1] - first[:, 3]).abs().min() > 1e-3
    begin = model.config.begin_ids
    model.report.embedding.weight[begin[1]] = model.report.embedding.weight[begin[3]]
    second = model(images, labels, tokens).log_likelihood
    torch.testing.assert_close(second[:, 1], second[:, 3], rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_attention_of_every_word_sums_to_one(build_model, draw_batch):
    attention = build_model()(*draw_batch(2)).attention
    assert attention.shape == (2, 4, 6, 16)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 4, 6, dtype=torch.float64))
