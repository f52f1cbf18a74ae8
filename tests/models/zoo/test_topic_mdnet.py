"""Topic MDNet: its formulas, when it stops, and what becomes of the sections behind a stop."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mdnet.data.loading import StudyBatch
from mdnet.data.statements import PhraseReader
from mdnet.data.text import ReportTokenizer
from mdnet.inference.decoding import Decoded, decode
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.likelihood import EncodedImage, report_log_likelihoods
from mdnet.inference.predictor import Predictor
from mdnet.models.mdnet import MDNet
from mdnet.models.objective import loss_counts
from mdnet.models.prepared import Prepared
from mdnet.models.registry import create_model
from mdnet.models.transfer import adapt
from mdnet.models.zoo.topic_mdnet import TopicReportLSTM, behind_the_first_stop
from mdnet.training.health import examine

SMALL: dict[str, Any] = {
    "widths": [4, 6, 8],
    "embedding_size": 5,
    "hidden_size": 7,
    "attention_size": 6,
    "image_size": 32,
    "dropout": 0.0,
}
SECTIONS = ("mitosis", "remarks", "findings", "conclusion")
DECODINGS = {
    "greedy": DecodingConfig(),
    "beam": DecodingConfig(method="beam", beams=3, best=3, alternatives=2),
    "diverse_beam": DecodingConfig(method="diverse_beam", beams=4, groups=2, diversity=0.5),
    "sample": DecodingConfig(method="sample", beams=2, best=2, seed=5, top_k=4, top_p=0.9),
}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.fixture
def model(build_model) -> MDNet:
    return build_model("topic_mdnet", **SMALL)


def prepare(
    model: MDNet, images: Tensor, labels: dict[str, Tensor] | None = None, **options: Any
) -> Prepared:
    output = model(images, **options)
    return model.prepare(output.features, model.guides(output.logits, labels))


def with_gaps(tokens: Tensor) -> Tensor:
    """Told sections of five studies of four: all, all but the last, a gap, the first alone, none."""
    told = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    return tokens * told[..., None]  # 0 is the padding


def naive_lstm(cell: nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    gates = cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def naive_context(report: TopicReportLSTM, query: Tensor, grid: Tensor, evidence: Tensor) -> Tensor:
    """z of one section: attention over C(I) (P, D), and over the evidence-weighted feature behind it."""
    attention = report.attention
    candidates = torch.cat([grid, (evidence.softmax(dim=0) @ grid)[None]])  # (P + 1, D)
    projected = candidates @ attention.feature.weight.T + attention.feature.bias
    scores = (projected + attention.hidden.weight @ query).tanh() @ attention.score.weight[0]
    return scores.softmax(dim=0) @ candidates


@torch.no_grad()
def test_topics_stops_and_words_are_those_of_the_formulas(model, draw_batch):
    images, labels, tokens = draw_batch(2)
    output, prepared = model(images, labels, tokens), prepare(model, images, labels)
    report, config = model.report, model.config
    for study in range(2):
        grid = output.features.grid[study]
        h = c = torch.zeros(7, dtype=torch.float64)
        for section, words in enumerate(tokens[study].tolist()):
            h, c = naive_lstm(report.topic, grid.mean(dim=0), h, c)
            close(prepared.stop[study, section], report.stop.weight[0] @ h + report.stop.bias[0])
            evidence, nothing = prepared.evidence[study, section], torch.zeros(7, dtype=torch.float64)
            word = report.first.weight @ h + report.first.bias  # the topic, where a word stands
            context = naive_context(report, h, grid, evidence)
            hidden, cell = naive_lstm(report.lstm, torch.cat([word, context]), nothing, nothing)
            last, log_p = config.begin_ids[section], torch.zeros((), dtype=torch.float64)
            for target in words:
                if target == config.pad_id:
                    break
                context = naive_context(report, hidden, grid, evidence)
                x = torch.cat([report.embedding.weight[last], context])
                hidden, cell = naive_lstm(report.lstm, x, hidden, cell)
                scores = report.output.weight @ hidden + report.output.bias
                log_p, last = log_p + scores.log_softmax(dim=0)[target], target
            close(output.log_likelihood[study, section], log_p)


@torch.no_grad()
def test_the_stop_is_a_binary_cross_entropy_over_told_sections_true_at_the_last(model, draw_batch):
    images, labels, tokens = draw_batch(5)
    tokens = with_gaps(tokens)
    stop, terms = prepare(model, images, labels).stop, []
    for study in range(5):
        told = [s for s in range(4) if any(tokens[study, s].tolist())]
        for section in told:
            p = 1 / (1 + math.exp(-stop[study, section]))
            terms.append(-math.log(p if section == told[-1] else 1 - p))
    output = model(images, labels, tokens)
    assert len(terms) == 10
    assert output.losses["stop"].item() == pytest.approx(sum(terms) / 10, rel=1e-10)
    close(output.loss, sum(output.losses.values()))


@torch.no_grad()
def test_parts_of_a_step_add_up_to_the_whole(model, draw_batch):
    images, labels, tokens = draw_batch(5)
    tokens = with_gaps(tokens)
    counts = loss_counts(labels, tokens, model.config.space, model.config.pad_id)
    parts = [
        model(images[part], {n: each[part] for n, each in labels.items()}, tokens[part], counts=counts)
        for part in (slice(0, 1), slice(1, 3), slice(3, 5))
    ]
    whole = model(images, labels, tokens).losses
    for name in ("classification", "language", "stop"):
        close(sum(part.losses[name] for part in parts), whole[name])


def test_a_section_that_is_not_told_costs_nothing_wherever_it_stands(model, draw_batch):
    images, labels, tokens = draw_batch(5)
    tokens = with_gaps(tokens)
    prepared = prepare(model, images, labels)
    counts = loss_counts(labels, tokens, model.config.space, model.config.pad_id)
    loss = model.report.auxiliary_losses(prepared, None, tokens, counts)["stop"]
    (gradient,) = torch.autograd.grad(loss, prepared.stop)
    assert torch.equal(gradient != 0, (tokens != 0).any(dim=-1))
    nothing = torch.zeros_like(tokens)
    assert model(images, labels, nothing).losses["stop"].item() == 0.0


def test_the_loss_reaches_every_parameter_and_the_language_not_the_heads(model, draw_batch):
    images, labels, tokens = draw_batch(5)
    output = model.train()(images, labels, with_gaps(tokens))
    heads = list(model.heads.parameters())
    stop = torch.autograd.grad(output.losses["stop"], heads, retain_graph=True, allow_unused=True)
    language = torch.autograd.grad(output.losses["language"], heads, retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in (*stop, *language))
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_the_image_module_gets_beta_eta_of_the_stops_gradient(model, draw_batch):
    batch = draw_batch(3)

    def gradients(beta: float, eta: float) -> list[Tensor]:
        loss = model(*batch, beta=beta, eta=eta).losses["stop"]
        return list(torch.autograd.grad(loss, [model.image.stem.weight, model.report.topic.weight_ih]))

    (image, own), (scaled, same), (none, _) = gradients(1.0, 1.0), gradients(0.3, 0.5), gradients(0.0, 1.0)
    close(scaled, 0.15 * image)
    close(same, own)
    assert image.abs().sum() > 0
    assert none.abs().sum() == 0


def test_where_to_stop_is_learned_from_the_image(model, draw_batch):
    images, labels, tokens = draw_batch(5)
    tokens = with_gaps(tokens)
    counts = loss_counts(None, tokens, model.config.space, model.config.pad_id)
    with torch.no_grad():
        output = model(images)
    optimizer = torch.optim.AdamW(model.report.parameters(), lr=3e-2)
    for _ in range(150):
        prepared = model.prepare(output.features, model.guides(output.logits, labels))
        model.report.auxiliary_losses(prepared, None, tokens, counts)["stop"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert prepared.closed[:4].int().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]]


def test_sections_behind_the_first_stop_are_closed():
    stop = torch.tensor([[-1.0, -1, -1, -1], [2, -1, 3, -1], [-1, 0, 1e-9, -1], [-1, -1, -1, 1]])
    expected = [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert behind_the_first_stop(stop).int().tolist() == expected


@torch.no_grad()
def test_closed_is_of_the_stops_and_follows_the_sections(model, draw_batch):
    images = draw_batch(4).pixel_values
    model.report.stop.bias -= prepare(model, images).stop.quantile(0.7)
    prepared = prepare(model, images)
    assert torch.equal(prepared.closed, behind_the_first_stop(prepared.stop))
    assert 0 < prepared.closed.sum() < 12
    taken = prepared.of_sections(torch.tensor([[2, 2, 0]]).expand(4, -1))
    assert torch.equal(taken.stop, prepared.stop[:, [2, 2, 0]])
    assert torch.equal(taken.closed, prepared.closed[:, [2, 2, 0]])
    assert torch.equal(taken.start.cell, prepared.start.cell[:, [2, 2, 0]])


@pytest.mark.parametrize("method", DECODINGS)
@torch.no_grad()
def test_closed_sections_are_empty_and_the_others_as_if_nothing_stopped(
    model, draw_batch, let_sections_end, method
):
    images = draw_batch(4).pixel_values
    let_sections_end(model, images)
    output, prepared = model(images), prepare(model, images)
    closed = torch.arange(4) > torch.tensor([0, 3, 1, 2])[:, None]

    def written(prepared: Prepared) -> Decoded:
        return decode(model, output.features, prepared, DECODINGS[method], maximum_words=9)

    found = written(prepared._replace(closed=closed))
    free = written(prepared._replace(closed=None))
    assert (found.tokens[closed][:, 0] == model.config.end_id).all()
    assert (found.tokens[closed][:, 1:] == model.config.pad_id).all()
    assert (found.log_probabilities[closed] == 0).all()
    steps = found.tokens.shape[-1]  # it may be through earlier
    assert torch.equal(found.tokens[~closed], free.tokens[..., :steps][~closed])
    close(found.log_probabilities[~closed], free.log_probabilities[..., :steps][~closed])
    assert not (free.tokens[closed][:, 0] == model.config.end_id).all()


@pytest.mark.parametrize("method", DECODINGS)
@torch.no_grad()
def test_a_finding_with_closed_sections_is_told_and_drawn(model, tmp_path, let_sections_end, method):
    random = np.random.default_rng(3)
    images = [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2)]
    model = model.float()
    let_sections_end(model, torch.randn(4, 3, 32, 32))
    model.report.stop.weight.zero_()
    model.report.stop.bias.fill_(1.0)  # behind the first section
    for finding in Predictor(model, decoding=DECODINGS[method])(images):
        first, *others = finding.report.sections.values()
        assert first.text == finding.report.text != ""
        assert finding.report.confidence == first.confidence
        assert finding.report.log_likelihood == first.log_likelihood
        for section in others:
            assert section.text == ""
            assert section.words == ()
            assert section.confidence is None
            assert (section.others, section.alternatives) == ((), ())
            assert finding.attention(section.name).shape == (0, *first.attention.shape[1:])
        told = json.loads(json.dumps(finding.to_dict(), allow_nan=False))
        assert told["sections"] == {first.name: first.text} | dict.fromkeys(SECTIONS[1:], "")
        finding.save_html(tmp_path / "finding.html")
        assert "(empty)" in (tmp_path / "finding.html").read_text(encoding="utf-8")


@torch.no_grad()
def test_a_closed_section_is_not_asked_to_state_its_class(model, space):
    model = model.float()
    model.report.stop.weight.zero_()
    model.report.stop.bias.fill_(1.0)  # behind the first section
    reader = PhraseReader(space, {"mitosis": {"absent": [("no",)]}, "conclusion": {"normal": [("small",)]}})
    decoding = DecodingConfig(method="beam", beams=2, constrained=True)
    finding = Predictor(model, statements=reader, decoding=decoding)(np.zeros((32, 32, 3), dtype=np.uint8))
    agrees = [section.agrees for section in finding.report.sections.values()]
    assert agrees[0] in (True, False)
    assert agrees[1:] == [None, None, None]


@torch.no_grad()
def test_a_given_text_is_scored_whatever_is_closed(model, draw_batch):
    images, _, tokens = draw_batch(2)
    texts = ["mitotic figures are frequent .", "there is oedema .", "this is a high grade tumor ."]
    report = dict(zip(("mitosis", "findings", "conclusion"), texts, strict=True))
    found = []
    for bias in (-100.0, 100.0):
        model.report.stop.bias.fill_(bias)
        output = model(images, tokens=tokens)
        assert prepare(model, images).closed.any() == (bias > 0)
        guides = model.guides(output.logits)
        encoded = [
            EncodedImage(
                output.features.of_study(row), {n: each[row : row + 1] for n, each in guides.items()}
            )
            for row in range(2)
        ]
        found.append((output.log_likelihood, report_log_likelihoods(model, encoded, [report])))
    assert torch.equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


@torch.no_grad()
def test_it_is_saved_and_loaded(model, draw_batch, tmp_path):
    images, labels, tokens = draw_batch(2)
    model = model.float()
    model.save_pretrained(tmp_path)
    loaded = MDNet.from_pretrained(tmp_path)
    assert type(loaded.report) is TopicReportLSTM
    expected, found = model(images.float(), labels, tokens), loaded(images.float(), labels, tokens)
    assert torch.equal(found.log_likelihood, expected.log_likelihood)
    assert torch.equal(found.losses["stop"], expected.losses["stop"])


@torch.no_grad()
def test_it_adapts_to_other_sections_and_words_and_to_its_own_without_a_change(model, draw_batch, tokenizer):
    images, labels, tokens = draw_batch(2)
    kept = {"label_space": model.config.space}
    same, _ = adapt(model, sections=tuple(model.config.sections), tokenizer=tokenizer, **kept)
    close(same(images, labels, tokens).log_likelihood, model(images, labels, tokens).log_likelihood)
    other_tokenizer = ReportTokenizer.build(["no mitotic figure is new ."], ("stroma", "mitosis"))
    other, record = adapt(model, sections=("stroma", "mitosis"), tokenizer=other_tokenizer, **kept)
    assert dict(record.sections)["stroma"] == "new"
    for name, parameter in other.report.named_parameters():
        if name.partition(".")[0] not in ("embedding", "output"):
            assert torch.equal(parameter, model.report.get_parameter(name)), name
    assert torch.equal(prepare(other, images).stop, prepare(model, images).stop[:, :2])
    assert other(images, labels, tokens[:, :2] % len(other_tokenizer)).loss.isfinite()


@torch.no_grad()
def test_a_view_that_is_missing_takes_no_part(build_model, draw_batch):
    several, single = build_model("topic_mdnet", views=2, **SMALL), build_model("topic_mdnet", **SMALL)
    single.load_state_dict(several.state_dict())
    images, labels, tokens = draw_batch(2)
    strip = torch.cat([images, torch.randn_like(images)], dim=3)
    present = torch.tensor([[True, False]] * 2)
    found, expected = several(strip, labels, tokens, present=present), single(images, labels, tokens)
    close(found.log_likelihood, expected.log_likelihood)
    close(found.losses["stop"], expected.losses["stop"])
    both = several(strip, labels, tokens)
    assert (both.losses["stop"] - expected.losses["stop"]).abs() > 1e-6


def test_its_health_is_looked_at_with_all_three_losses(model, draw_batch):
    _, labels, tokens = draw_batch(3)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    batch = StudyBatch(ids=("a", "b", "c"), images=images, labels=labels, tokens=tokens, present=None)
    model = model.float()
    assert set(examine(model, batch).flow.losses) == {"classification", "language", "stop"}
    silent = replace(batch, tokens=torch.zeros_like(tokens))
    assert set(examine(model, silent).flow.losses) == {"classification"}


def test_as_registered_it_is_small_and_looks_at_the_evidence_weighted_feature(space, tokenizer):
    model = create_model("topic_mdnet", label_space=space, sections=tokenizer.sections, tokenizer=tokenizer)
    assert (model.config.attention, model.config.image_size, model.config.grid_size) == ("additive", 128, 16)
    assert sum(parameter.numel() for parameter in model.parameters()) < 700_000
