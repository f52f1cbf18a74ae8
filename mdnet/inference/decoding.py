"""From C(I) to words: all studies, all sections and all their hypotheses together.

Greedy decoding and sampling write a word of every row at each step and differ in how they choose it. Beams
are in `mdnet.inference.beam_search`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.inference.beam_search import search_beams
from mdnet.inference.decoded import Alternatives, Decoded, Hypotheses, Search, map_tensors
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.sampling import draw, draw_uniform, truncate
from mdnet.inference.writing import CHECK_EVERY, Writer, likeliest, score
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet
from mdnet.models.prepared import Prepared

__all__ = ["Agreement", "Decoded", "decode", "decode_greedily"]

# (B, S, N, T) word ids of all hypotheses to (B, S, N): whether each states what its section should.
Agreement = Callable[[Tensor], Tensor]


@torch.inference_mode()
def decode(
    model: MDNet,
    features: ImageFeatures,
    prepared: Prepared,
    config: DecodingConfig | None = None,
    *,
    maximum_words: int | None = None,
    agreement: Agreement | None = None,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Writes every section of every study.

    Words that stand for none (padding, unknown, begin tokens) are never written. Probabilities are the
    model's own, whatever the method makes of them to choose a word.

    Args:
        model: In evaluation mode.
        features: C(I) of B studies.
        prepared: `model.prepare(features, ...)`.
        config: How words are chosen; greedily unless given.
        maximum_words: The model's own limit unless given.
        agreement: Whether texts state what they should; needed where the decoding is constrained.
        generator: Of draws, on the CPU. One that is handed on from batch to batch draws for a study what it
            would in one large batch. Unless given, one of `config.seed`.

    Raises:
        ConfigurationError: The decoding is constrained, and there is no `agreement`.
    """
    config = config or DecodingConfig()
    limit = maximum_words or model.config.maximum_words
    if config.constrained and agreement is None:
        raise ConfigurationError("constrained decoding has to read what texts state: give an agreement")
    writer = Writer(model, features, prepared, words=limit, copies=config.beams)
    search: Search
    if config.method in ("beam", "diverse_beam"):
        search = search_beams(writer, config, limit=limit)
    else:
        if generator is None and config.seed is not None:
            generator = torch.Generator().manual_seed(config.seed)
        search = _write(writer, config, limit=limit, generator=generator)
    return _decoded(search, config, agreement if config.constrained else None)


def decode_greedily(
    model: MDNet, features: ImageFeatures, prepared: Prepared, *, maximum_words: int | None = None
) -> Decoded:
    """The likeliest next word until the end token, or `maximum_words`; arguments as those of `decode`."""
    return decode(model, features, prepared, maximum_words=maximum_words)


def _decoded(search: Search, config: DecodingConfig, agreement: Agreement | None) -> Decoded:
    """The best hypotheses, or the best that agree; where none does, the best."""
    found = search.hypotheses
    chosen = torch.zeros(found.scores.shape[:2], dtype=torch.long, device=found.scores.device)  # (B, S)
    agrees = None
    if agreement is not None:
        agreeing = agreement(found.tokens) & found.scores.isfinite()
        chosen, agrees = agreeing.int().argmax(dim=2), agreeing.any(dim=2)  # the first, which is the best
    attention, alternatives = search.looked_up(chosen)
    others = None
    if config.best > 1:
        places = torch.arange(config.best - 1, device=chosen.device).expand(*chosen.shape, -1)
        others = _taken(found, places + (places >= chosen[..., None]).long())  # all but the chosen
    written = _taken(found, chosen[..., None])
    return Decoded(
        written.tokens[:, :, 0], written.log_probabilities[:, :, 0], attention, alternatives, others, agrees
    )


def _taken(hypotheses: Hypotheses, places: Tensor) -> Hypotheses:
    """The hypotheses at places (B, S, N)."""
    return map_tensors(
        hypotheses,
        lambda tensor: tensor.gather(
            2, places if tensor.ndim == 3 else places[..., None].expand(-1, -1, -1, tensor.shape[-1])
        ),
    )


class _Written(NamedTuple):
    """Texts written a word at a time.

    Attributes:
        hypotheses: The texts, the best first.
        order: (B, S, N) which row of its section each is.
        attention: (B, S N, T, P), row by row.
        alternatives: Likewise, (B, S N, T, A).
    """

    hypotheses: Hypotheses
    order: Tensor
    attention: Tensor
    alternatives: Alternatives | None

    def looked_up(self, chosen: Tensor) -> tuple[Tensor, Alternatives | None]:
        sections, copies = self.order.shape[1:]
        if copies == 1:
            return self.attention, self.alternatives
        study = torch.arange(len(chosen), device=chosen.device)[:, None]
        first = copies * torch.arange(sections, device=chosen.device)
        rows = first + self.order.gather(2, chosen[..., None]).squeeze(2)  # (B, S)
        return self.attention[study, rows], map_tensors(self.alternatives, lambda tensor: tensor[study, rows])


def _write(
    writer: Writer, config: DecodingConfig, *, limit: int, generator: torch.Generator | None
) -> _Written:
    """Greedy decoding, or sampling: each row gets its next word from its own probabilities."""
    studies, rows = writer.words.shape
    tokens = torch.full((studies, rows, limit), writer.pad_id, device=writer.device)
    uniform = draw_uniform(tokens.shape, generator, writer.device) if config.method == "sample" else None
    finished = torch.zeros(studies, rows, dtype=torch.bool, device=writer.device)
    log_probabilities: list[Tensor] = []
    attention: list[Tensor] = []
    alternatives: list[Alternatives] = []
    for t in range(limit):
        log_p, weights = writer.advance()  # (B, R, V), (B, R, P)
        attention.append(weights)
        if config.alternatives:
            alternatives.append(likeliest(log_p, config.alternatives))
        log_p = writer.without_repeats(log_p, tokens[:, :, :t], no_repeat_ngram=config.no_repeat_ngram)
        if uniform is None:
            word_log_p, word = log_p.max(dim=-1)
        else:
            word = draw(truncate(log_p, config), uniform[:, :, t])
            word_log_p = log_p.gather(-1, word[..., None]).squeeze(-1)
        log_probabilities.append(word_log_p)
        writer.words = tokens[:, :, t] = word.masked_fill_(finished, writer.pad_id)
        finished |= word == writer.end_id
        if t % CHECK_EVERY == CHECK_EVERY - 1 and bool(finished.all()):
            break
    tokens = tokens[:, :, : t + 1].unflatten(1, (-1, config.beams))  # (B, S, N, T)
    written = tokens != writer.pad_id
    log_p = torch.stack(log_probabilities, dim=2).view_as(tokens).where(written, 0.0)
    scores = score(log_p.sum(dim=-1), written.sum(dim=-1), config.length_penalty)
    scores, order = scores.sort(dim=2, descending=True, stable=True)
    return _Written(
        _taken(Hypotheses(tokens, log_p, scores), order)._replace(scores=scores),
        order,
        torch.stack(attention, dim=2),
        Alternatives(*(torch.stack(each, dim=2) for each in zip(*alternatives, strict=True)))
        if alternatives
        else None,
    )
