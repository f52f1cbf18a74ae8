"""Teacher forcing is a sum of single steps; neither the batch nor padding changes it.

Scheduled sampling is teacher forcing on the words that were read.
"""

from __future__ import annotations

import pytest
import torch

from mdnet.models.configuration import ATTENTION_NAMES


def naive_log_likelihood(model, images, labels, tokens, study: int, section: int) -> torch.Tensor:
    """log p(section | image) of one section of one study, a step at a time, the LSTM's gates written out."""
    report, config = model.report, model.config
    features = model.encode(images[study : study + 1])
    logits, _ = model.heads(features)
    guides = model.guides(logits, {name: label[study : study + 1] for name, label in labels.items()})
    prepared = model.prepare(features, guides)
    prepared = prepared.of_sections(torch.tensor([[section]]))
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


@pytest.fixture
def read_with_sampling(draw_batch):
    """Runs the language module with sampling; gives its output, the words it read, and the true ones."""

    def read(model, sampling: float, *, tokens=None, seed: int = 0):
        images, labels, drawn = draw_batch(3, words=12)
        tokens = drawn if tokens is None else tokens
        features = model.encode(images)
        prepared = model.prepare(features, model.guides(model.heads(features)[0], labels))
        begin = torch.tensor(model.config.begin_ids)[None, :, None].expand(3, -1, 1)
        inputs = torch.cat([begin, tokens[:, :, :-1]], dim=2)
        words = []
        hook = model.report.embedding.register_forward_pre_hook(lambda module, given: words.append(given[0]))
        torch.manual_seed(seed)
        output = model.report(inputs, features.grid, prepared, sampling=sampling)
        hook.remove()
        seen = words[0] if len(words) == 1 else torch.stack(words, dim=2)
        return output, seen, inputs

    return read


@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_a_sampled_pass_is_the_plain_pass_over_the_words_that_were_read(
    build_model, read_with_sampling, attention
):
    model = build_model(attention=attention).train()
    sampled, seen, truth = read_with_sampling(model, 0.5)
    assert 0.3 < (seen != truth)[:, :, 1:].double().mean() < 0.6  # a drawn word may be the true one
    sampled.logits.square().sum().backward()
    gradients = [p.grad.clone() for p in model.report.parameters()]
    model.zero_grad()
    tail = torch.zeros_like(seen[:, :, :1])
    plain, again, _ = read_with_sampling(model, 0.0, tokens=torch.cat([seen[:, :, 1:], tail], dim=2))
    assert torch.equal(again, seen)
    torch.testing.assert_close(sampled.logits, plain.logits, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sampled.attention, plain.attention, rtol=1e-10, atol=1e-10)
    plain.logits.square().sum().backward()
    for ours, parameter in zip(gradients, model.report.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-8, atol=1e-8)


def test_words_are_replaced_at_the_given_rate_and_the_begin_token_never(build_model, read_with_sampling):
    model = build_model().train()
    seen, total = 0, 0
    with torch.no_grad():
        model.report.output.bias[5] = 1e4  # always drawn, and no true word
        for seed in range(20):
            _, words, truth = read_with_sampling(model, 0.25, seed=seed, tokens=torch.full((3, 4, 12), 9))
            assert torch.equal(words[:, :, 0], truth[:, :, 0])
            replaced = words[:, :, 1:] != truth[:, :, 1:]
            assert (words[:, :, 1:][replaced] == 5).all()
            seen, total = seen + int(replaced.sum()), total + replaced.numel()
    assert abs(seen / total - 0.25) < 4 * (0.25 * 0.75 / total) ** 0.5


def test_a_word_is_drawn_from_the_model_s_own_distribution(build_model, read_with_sampling):
    model = build_model().train()
    with torch.no_grad():
        model.report.output.weight.zero_()  # the same distribution for every word
        drawn = torch.cat(
            [read_with_sampling(model, 1.0, seed=seed)[1][:, :, 1:].flatten() for seed in range(40)]
        )
    p = model.report.output.bias.softmax(dim=0)
    found = torch.bincount(drawn, minlength=len(p)) / len(drawn)
    assert ((found - p).abs() < 5 * (p * (1 - p) / len(drawn)).sqrt() + 1e-3).all()
    assert p.max() - p.min() > 0.02  # or any distribution would pass


def test_without_sampling_nothing_is_drawn_and_no_bit_changes(build_model, read_with_sampling):
    model = build_model()
    for training, sampling in ((True, 0.0), (False, 0.9)):
        model.report.train(training)
        output, seen, truth = read_with_sampling(model, sampling)
        assert torch.equal(seen, truth)
        after = torch.rand(1)
        torch.manual_seed(0)
        assert torch.equal(after, torch.rand(1))
        model.report.eval()
        assert torch.equal(output.logits, read_with_sampling(model, 0.0)[0].logits)


def test_sampling_is_seeded(build_model, draw_batch):
    model = build_model(dropout=0.2).train()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(model(*draw_batch(3), sampling=0.5).losses["language"].detach()))
    assert losses[0] == losses[1] != losses[2]


def test_words_drawn_behind_a_section_s_end_cost_nothing(build_model, draw_batch):
    model = build_model().train()
    with torch.no_grad():
        model.report.output.bias[5] = 1e4  # always drawn, so that a longer batch draws the same
    images, labels, tokens = draw_batch(3)
    tokens[0, 1] = 0  # a section that is not there
    losses = []
    for words in (tokens, torch.cat([tokens, torch.zeros_like(tokens)], dim=2)):
        output = model(images, labels, words, sampling=1.0)
        losses.append(torch.stack([output.losses["language"], output.log_likelihood.sum()]).detach())
        assert output.log_likelihood[0, 1] == 0
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
