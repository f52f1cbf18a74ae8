"""Beam search equals greedy decoding, exhaustive search, and a naive search from the definition."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mdnet.data.text import ReportTokenizer
from mdnet.inference.decoding import Decoded, decode, decode_greedily
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.models.configuration import ATTENTION_NAMES
from mdnet.models.mdnet import MDNet

LIMIT = 12
METHODS: list[dict[str, Any]] = [
    {"method": "beam", "beams": 3, "length_penalty": 0.0},
    {"method": "beam", "beams": 4, "length_penalty": 1.3, "no_repeat_ngram": 2},
    {"method": "diverse_beam", "beams": 4, "groups": 2, "diversity": 3.0},
    {"method": "diverse_beam", "beams": 3, "groups": 3, "diversity": 0.7, "no_repeat_ngram": 1},
]


@pytest.fixture
def make_writer(build_model, draw_batch, let_sections_end):
    """A model whose sections end here and there."""

    def make(*, eagerness: float = 0.0, **options: Any) -> MDNet:
        model = build_model(**options)
        views = model.config.views
        images = draw_batch(4, size=(32, 32 * views)).pixel_values.to(model.dtype)
        let_sections_end(model, images)
        with torch.no_grad():
            model.report.output.bias[model.config.end_id] += eagerness
        return model

    return make


def prepared_of(model: MDNet, images: torch.Tensor, present: torch.Tensor | None = None) -> tuple[Any, Any]:
    output = model(images, present=present)
    return output.features, model.prepare(output.features, model.guides(output.logits))


def search(model: MDNet, images: torch.Tensor, *, limit: int = LIMIT, **options: Any) -> Decoded:
    return decode(model, *prepared_of(model, images), DecodingConfig(**options), maximum_words=limit)


def next_log_p(model: MDNet, features: Any, prepared: Any, study: int, section: int) -> Any:
    """Log p of the next word after a text, by reading it all again; what is never written has -inf."""
    config = model.config
    never = [config.pad_id, model.tokenizer.unknown_id, *config.begin_ids]
    own = type(prepared)(*(None if each is None else each[study : study + 1] for each in prepared))
    own = own.of_sections(torch.tensor([[section]]))
    seen: dict[tuple[int, ...], list[float]] = {}

    def read(words: tuple[int, ...]) -> list[float]:
        if words not in seen:
            tokens = torch.tensor([[[config.begin_ids[section], *words]]])
            logits = model.report(tokens, features.grid[study : study + 1], own).logits[0, 0, -1]
            log_p = logits.log_softmax(dim=-1)
            log_p[never] = -torch.inf
            seen[words] = log_p.tolist()
        return seen[words]

    return read


def naive_search(
    read: Any, end: int, config: DecodingConfig, limit: int = LIMIT
) -> list[tuple[float, tuple[int, ...]]]:
    """The texts of a section with their scores, best first: the definition in plain loops."""
    width = config.beams // config.groups
    live: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())] for _ in range(config.groups)]
    pools: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(config.groups)]
    over = [False] * config.groups
    for length in range(1, limit + 1):
        taken: list[int] = []
        for group in range(config.groups):
            offers = []
            for total, words in live[group]:
                size = config.no_repeat_ngram
                runs = [words[i : i + size] for i in range(len(words) - size + 1)] if size else []
                for word, log_p in enumerate(read(words)):
                    if log_p > -torch.inf and (*words, word)[-size:] not in runs:
                        rank = total + log_p - config.diversity * taken.count(word)
                        offers.append((rank, total + log_p, (*words, word)))
            offers.sort(key=lambda offer: -offer[0])
            if not over[group]:
                ended = [(total, words) for _, total, words in offers[:width] if words[-1] == end]
                pools[group] += [(total / length**config.length_penalty, words) for total, words in ended]
                pools[group] = sorted(pools[group], reverse=True)[:width]
            live[group] = [(total, words) for _, total, words in offers if words[-1] != end][:width]
            taken += [] if over[group] else [words[-1] for _, words in live[group]]
            best = max((total for total, _ in live[group]), default=-torch.inf)
            full = len(pools[group]) == width
            over[group] |= not live[group] or (
                full and pools[group][-1][0] >= best / length**config.length_penalty
            )
    for group in range(config.groups):
        if not over[group]:
            pools[group] += [(total / limit**config.length_penalty, words) for total, words in live[group]]
            pools[group] = sorted(pools[group], reverse=True)[:width]
    return sorted((text for pool in pools for text in pool), reverse=True)


def texts_of(model: MDNet, decoded: Decoded, study: int, section: int) -> list[tuple[int, ...]]:
    """The words of all texts of a section, without padding."""
    rows = [decoded.tokens[study, section], *decoded.others.tokens[study, section]]
    return [tuple(word for word in row.tolist() if word != model.config.pad_id) for row in rows]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
@torch.no_grad()
def test_one_beam_is_greedy_decoding_to_the_bit(make_writer, draw_batch, attention, dtype):
    model, images = make_writer(attention=attention, dtype=dtype), draw_batch(3).pixel_values.to(dtype)
    features, prepared = prepared_of(model, images)
    greedy = decode_greedily(model, features, prepared, maximum_words=LIMIT)
    for penalty in (0.0, 1.0, 2.5):
        beam = search(model, images, method="beam", length_penalty=penalty)
        assert torch.equal(beam.tokens, greedy.tokens)
        assert torch.equal(beam.log_probabilities, greedy.log_probabilities)
        written = greedy.tokens != model.config.pad_id
        assert torch.equal(beam.attention[written], greedy.attention[written])
    assert (greedy.tokens == model.config.end_id).any()


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
@torch.no_grad()
def test_a_wide_beam_finds_what_exhaustive_search_finds(build_model, draw_batch, length_penalty):
    tokenizer = ReportTokenizer.build(["north east south"], ["first", "second"])
    model = build_model(sections=("first", "second"), tokenizer=tokenizer)
    limit, words = 4, [tokenizer.id_of(word) for word in ("north", "east", "south")]
    texts = [
        (*text, tokenizer.end_id) for length in range(limit) for text in product(words, repeat=length)
    ] + list(product(words, repeat=limit))
    images = draw_batch(2).pixel_values
    decoded = search(
        model,
        images,
        limit=limit,
        method="beam",
        beams=len(texts) + 3,
        best=len(texts) + 3,
        length_penalty=length_penalty,
    )
    features, prepared = prepared_of(model, images)
    for study, section in product(range(2), range(2)):
        read = next_log_p(model, features, prepared, study, section)
        scores = {
            text: sum(read(text[:t])[word] for t, word in enumerate(text)) / len(text) ** length_penalty
            for text in texts
        }
        expected = sorted(texts, key=lambda text: -scores[text])
        assert texts_of(model, decoded, study, section)[: len(texts)] == expected
        found = decoded.others.scores[study, section].tolist()
        assert found[: len(texts) - 1] == pytest.approx([scores[text] for text in expected[1:]])
        assert set(found[len(texts) - 1 :]) == {-torch.inf}  # there are no more texts than these


@pytest.mark.parametrize("options", METHODS)
@pytest.mark.parametrize(
    ("attention", "limit"), [("sharpened", LIMIT), ("additive", LIMIT), ("sharpened", 1), ("sharpened", 9)]
)
@torch.no_grad()
def test_texts_equal_those_of_a_naive_search(make_writer, draw_batch, options, attention, limit):
    model, images = make_writer(attention=attention), draw_batch(3).pixel_values
    decoded = search(model, images, limit=limit, best=options["beams"], **options)
    features, prepared = prepared_of(model, images)
    for study, section in product(range(3), range(4)):
        read = next_log_p(model, features, prepared, study, section)
        expected = naive_search(read, model.config.end_id, DecodingConfig(**options), limit)
        count = len(expected)
        assert texts_of(model, decoded, study, section)[:count] == [words for _, words in expected]
        scores = decoded.others.scores[study, section, : count - 1].tolist()
        assert scores == pytest.approx([score for score, _ in expected[1:]])


@pytest.mark.parametrize("options", METHODS)
@torch.no_grad()
def test_probabilities_attention_and_alternatives_are_those_of_teacher_forcing(
    make_writer, draw_batch, options
):
    model, images = make_writer(), draw_batch(3).pixel_values
    decoded = search(model, images, alternatives=3, **options)
    forced = model(images, None, decoded.tokens)
    torch.testing.assert_close(decoded.log_probabilities.sum(dim=2), forced.log_likelihood)
    written = decoded.tokens != model.config.pad_id
    torch.testing.assert_close(decoded.attention[written], forced.attention[written])
    assert not decoded.attention[~written].any()
    log_p = forced.report_logits.log_softmax(dim=-1)
    log_p[..., [model.config.pad_id, model.tokenizer.unknown_id, *model.config.begin_ids]] = -torch.inf
    likeliest = log_p.topk(3)
    assert torch.equal(decoded.alternatives.tokens[written], likeliest.indices[written])
    torch.testing.assert_close(decoded.alternatives.log_probabilities[written], likeliest.values[written])


@torch.no_grad()
def test_a_study_is_searched_alike_alone_and_among_others(make_writer, draw_batch):
    model, images = make_writer(), draw_batch(4).pixel_values
    options = {"method": "beam", "beams": 3, "best": 3}
    together = search(model, images, limit=30, **options)
    for study in range(4):
        alone = search(model, images[study : study + 1], limit=30, **options)
        length = alone.tokens.shape[2]
        assert torch.equal(alone.tokens[0], together.tokens[study, :, :length])
        assert not together.tokens[study, :, length:].any()
        torch.testing.assert_close(alone.others.scores[0], together.others.scores[study])
        torch.testing.assert_close(alone.attention[0], together.attention[study, :, :length])


@torch.no_grad()
def test_sections_that_are_over_leave_the_work_and_nothing_changes(make_writer, draw_batch, monkeypatch):
    model, images = make_writer(views=2), draw_batch(6, size=(32, 64)).pixel_values
    present = torch.tensor([[True, True], [True, False]] * 3)
    inputs = prepared_of(model, images, present)
    config = DecodingConfig(method="beam", beams=3, best=3, alternatives=2, length_penalty=0.0)
    monkeypatch.setattr("mdnet.inference.beam_search.CHECK_EVERY", 2)
    step, rows = model.report.step, []

    def counting(words: torch.Tensor, *arguments: Any) -> Any:
        rows.append(words.shape[0] * words.shape[1])
        return step(words, *arguments)

    monkeypatch.setattr(model.report, "step", counting)
    found = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr("mdnet.inference.beam_search._WORTH_LEAVING", share)
        rows.clear()
        found[share] = decode(model, *inputs, config, maximum_words=40)
        assert rows[0] == 6 * 4 * 3
        assert len(set(rows)) == 1 if share == 0.0 else len(set(rows)) > 2
        assert rows == sorted(rows, reverse=True)
    whole, packed = found[0.0], found[1.0]
    assert torch.equal(whole.tokens, packed.tokens)
    assert torch.equal(whole.others.tokens, packed.others.tokens)
    assert torch.equal(whole.alternatives.tokens, packed.alternatives.tokens)
    for name in ("log_probabilities", "attention"):
        torch.testing.assert_close(getattr(whole, name), getattr(packed, name))


@pytest.mark.parametrize("options", [{}, {"method": "sample", "beams": 2}, *METHODS])
@torch.no_grad()
def test_a_batch_of_no_study_is_written(make_writer, draw_batch, options):
    best = options.get("beams", 1)
    decoded = search(make_writer(), draw_batch(1).pixel_values[:0], best=best, alternatives=2, **options)
    assert decoded.tokens.shape[:2] == (0, 4)


@pytest.mark.parametrize("end", [0.0, 1.0, 2.0])
@torch.no_grad()
def test_of_words_that_are_equally_likely_one_beam_takes_what_greedy_decoding_takes(
    make_writer, draw_batch, end
):
    model, images = make_writer(dtype=torch.float32), draw_batch(3).pixel_values.float()
    output = model.report.output
    output.weight.zero_()
    output.bias.copy_(torch.arange(len(output.bias)) % 2)  # half of them are the likeliest
    output.bias[model.config.end_id] = end
    greedy = search(model, images)
    beam = search(model, images, method="beam")
    assert torch.equal(beam.tokens, greedy.tokens)
    assert (greedy.tokens[..., 0] == model.config.end_id).all() == (end > 0)  # the first of equal ones


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("options", METHODS)
@torch.no_grad()
def test_log_p_is_summed_in_float32_where_the_model_computes_in_less(
    make_writer, draw_batch, options, autocast
):
    model = make_writer(eagerness=-100.0, dtype=torch.float32).to(
        torch.float32 if autocast else torch.bfloat16
    )
    images = draw_batch(2).pixel_values.to(model.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        decoded = search(model, images, limit=40, best=options["beams"], **options)
    others = decoded.others
    length = (others.tokens != model.config.pad_id).sum(dim=-1).double()
    expected = others.log_probabilities.double().sum(dim=-1) / length ** options.get("length_penalty", 1.0)
    found = others.scores.isfinite()  # where repeats are blocked, there may be fewer texts
    assert found.any()
    torch.testing.assert_close(others.scores[found].double(), expected[found], rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("options", [{}, {"method": "sample", "beams": 2, "seed": 1}, *METHODS])
@torch.no_grad()
def test_a_study_whose_features_are_no_numbers_leaves_the_others_alone(make_writer, draw_batch, options):
    model, images = make_writer(), draw_batch(3).pixel_values
    whole = search(model, images, **options)
    images[2] = torch.nan
    broken = search(model, images, **options)
    length = min(whole.tokens.shape[2], broken.tokens.shape[2])
    assert torch.equal(broken.tokens[:2, :, :length], whole.tokens[:2, :, :length])
    assert (broken.tokens < model.config.vocabulary_size).all()
    assert broken.log_probabilities[2].isnan().any()


@torch.no_grad()
def test_a_text_that_never_ends_is_ranked_too(make_writer, draw_batch):
    model = make_writer(eagerness=-100.0)
    decoded = search(model, draw_batch(2).pixel_values, limit=11, method="beam", beams=3, best=3)
    for tokens in (decoded.tokens, decoded.others.tokens):
        assert tokens.shape[-1] == 11
        assert (tokens > model.config.end_id).all()
    assert decoded.others.scores.isfinite().all()


@torch.no_grad()
def test_a_group_keeps_clear_of_words_that_another_took(make_writer, draw_batch):
    model, images = make_writer(), draw_batch(3).pixel_values
    one = search(model, images, method="beam", beams=2, best=2)
    alike = search(model, images, method="diverse_beam", beams=4, groups=2, diversity=0.0, best=4)
    assert torch.equal(alike.tokens, one.tokens)
    assert torch.equal(alike.others.tokens[:, :, 0], one.tokens)  # each group finds the same
    apart = search(model, images, method="diverse_beam", beams=2, groups=2, diversity=1000.0, best=2)
    first, second = apart.tokens[..., 0], apart.others.tokens[:, :, 0, 0]
    ends = model.config.end_id
    assert ((first != second) | (first == ends) | (second == ends)).all()


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.count += name in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"method": "sample", "beams": 2, "top_p": 0.9}, *METHODS])
@torch.no_grad()
def test_the_host_waits_for_the_device_once_in_eight_steps(make_writer, draw_batch, options):
    model = make_writer(eagerness=-100.0)
    inputs = prepared_of(model, draw_batch(2).pixel_values)
    counts = {}
    for limit in (8, 40):
        with Waits() as waits:
            decode(model, *inputs, DecodingConfig(**options), maximum_words=limit)
        counts[limit] = waits.count
    assert counts[40] - counts[8] <= 2 * 4  # a look is two at most: whether all is over, and what is left
