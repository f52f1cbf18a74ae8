"""Beam search and diverse beam search over all studies and sections together.

At each step every live beam offers its next words. Of all that a group of beams is offered, the best by log p
count, as many as it has beams: those of them that end go to the group's pool, ranked by their score, and the
best that do not end live on. So a group keeps all its live beams until it is over: when its pool is full, and
no live beam has a better score now than the pool's worst [1, `early_stopping=False`]. With no length penalty
nothing better can come after that. At the limit live beams are ranked as they are: there is always a text.
Where an end and a word are equally likely, the end is the better one, as in greedy decoding.

Plain beam search has one group. Of several groups [2] each searches by itself, one after the other at each
step, and a word costs it `diversity` for each beam of the groups before it that has just taken it (Hamming
diversity). The cost steers that choice only; what is summed up and ranked is log p.

Live beams do not depend on the pool, so what ends is let in later: of `CHECK_EVERY` steps at once. Of several
groups at each step, as those that are over cost the others nothing. The search waits for the device once in
`CHECK_EVERY` steps. Sections that are over then leave the work, if that makes it a good deal smaller.

References:
    1. transformers, `GenerationMixin._beam_search`, https://github.com/huggingface/transformers
    2. Vijayakumar et al., "Diverse Beam Search", arXiv 1610.02424.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdnet.inference.beam_paths import BeamPaths, Rows, Step
from mdnet.inference.decoded import map_tensors
from mdnet.inference.decoding_config import DecodingConfig
from mdnet.inference.writing import CHECK_EVERY, Writer, likeliest, score

__all__ = ["search_beams"]

_WORTH_LEAVING = 0.75  # rows are packed where no more than this share of them is left


class _Beams(NamedTuple):
    """The search in the rows at work: N studies, M sections of each, G groups of W beams, K = G W.

    Attributes:
        total: (N, M, G, W) log p of each live beam; -inf where there is none.
        pool: (N, M, G, W) scores of the best texts that ended, best first; -inf where there are fewer.
        place: (N, M, G, W) where those are: words before the end, times K, plus the beam.
        over: (N, M, G) whether a group's pool is final.
        tokens: (N, M, G, W, t) what each beam has written; of no word unless repeats are blocked.
    """

    total: Tensor
    pool: Tensor
    place: Tensor
    over: Tensor
    tokens: Tensor


class _Offers(NamedTuple):
    """What a step offers, (N, M, G, W) each.

    Attributes:
        total: Log p of the beams before it.
        end: Log p of an end.
        chosen: What the words that live on were chosen by; an end counts if it is among the best of both.
        live: Log p of the beams after it.
    """

    total: Tensor
    end: Tensor
    chosen: Tensor
    live: Tensor


def search_beams(writer: Writer, config: DecodingConfig, *, limit: int) -> BeamPaths:
    """Searches; `writer` has `config.beams` rows a section, which it uses up."""
    shape = (writer.studies, writer.sections, config.groups, config.beams // config.groups)
    rows = Rows(
        torch.arange(writer.studies, device=writer.device),
        torch.arange(writer.sections, device=writer.device).expand(writer.studies, -1),
    )
    nothing = torch.full(shape, -torch.inf, dtype=writer.dtype, device=writer.device)
    total = nothing.clone()
    total[..., 0] = 0.0  # at first all beams of a group are one
    places = torch.zeros(shape, dtype=torch.long, device=writer.device)
    beams = _Beams(
        total=total,
        pool=nothing,
        place=places,
        over=torch.zeros(shape[:3], dtype=torch.bool, device=writer.device),
        tokens=places.new_zeros(*shape, 0),
    )
    pool, place = nothing.flatten(2).clone(), places.flatten(2).clone()  # (B, S, K), of what left the work

    paths = BeamPaths(writer.end_id, writer.pad_id)
    paths.work_on(rows)
    offers: list[_Offers] = []
    for t in range(limit):
        beams, step, offered = _advance(writer, beams, config)
        paths.add(step)
        offers.append(offered)
        look = t % CHECK_EVERY == CHECK_EVERY - 1 or t + 1 == limit
        if look or config.groups > 1:
            beams = _let_in(beams, offers, config, steps=t + 1)
            offers.clear()
        if look and t + 1 < limit:
            live = ~beams.over.all(dim=2).cpu()  # (N, M)
            left = max(live.sum(dim=1).tolist(), default=0)
            if not left:
                break
            studies = live.any(dim=1).nonzero().squeeze(1)
            if config.beams > 1 and len(studies) * left <= _WORTH_LEAVING * live.numel():
                over = (~live[studies]).byte()
                sections = over.sort(dim=1, stable=True).indices[:, :left]  # those that are not over first
                pool[rows.at], place[rows.at] = beams.pool.flatten(2), beams.place.flatten(2)
                rows, beams = _pack(
                    writer, rows, beams, studies.to(writer.device), sections.to(writer.device)
                )
                paths.work_on(rows)

    # What never ended is ranked with the rest.
    length = torch.full((), t + 1, device=writer.device)
    unended = score(beams.total, length, config.length_penalty).where(~beams.over[..., None], -torch.inf)
    beam = torch.arange(config.beams, device=writer.device).view(shape[2:])
    found, order = torch.cat([beams.pool, unended], dim=-1).topk(shape[3], dim=-1)
    places = torch.cat([beams.place, ((t + 1) * config.beams + beam).expand_as(beams.place)], dim=-1)
    pool[rows.at], place[rows.at] = found.flatten(2), places.gather(-1, order).flatten(2)
    pool, order = pool.sort(dim=2, descending=True, stable=True)
    place = place.gather(2, order)
    paths.follow(place // config.beams, place % config.beams, pool)
    return paths


def _advance(writer: Writer, beams: _Beams, config: DecodingConfig) -> tuple[_Beams, Step, _Offers]:
    """One more word of every live beam; `writer` is left in the state of the new ones."""
    width = beams.total.shape[3]
    log_p, attention = writer.advance()  # (N, R, V), (N, R, P)
    log_p = log_p.unflatten(1, beams.total.shape[1:])  # (N, M, G, W, V)
    alternatives = likeliest(log_p.flatten(2, 3), config.alternatives) if config.alternatives else None
    end = log_p[..., writer.end_id].clone()  # of a step's log p nothing else is kept
    log_p = writer.without_repeats(log_p, beams.tokens, no_repeat_ngram=config.no_repeat_ngram)
    # One beam is ranked by the word alone: it is greedy decoding, however sums are rounded.
    ranked = log_p if width == 1 else log_p + beams.total[..., None]
    ranked[..., writer.end_id] = -torch.inf
    chosen, at = _choose(ranked, beams.over, config)  # (N, M, G, W): word v of beam w is at w V + v
    words, parents = at % writer.vocabulary_size, at // writer.vocabulary_size
    word_log_p = log_p.flatten(3).gather(-1, at)
    if width > 1 and config.groups == 1:
        live = chosen
    else:
        live = (beams.total.gather(-1, parents) + word_log_p).where(chosen > -torch.inf, -torch.inf)

    tokens = beams.tokens
    if config.no_repeat_ngram:
        before = tokens.gather(3, parents[..., None].expand(-1, -1, -1, -1, tokens.shape[-1]))
        tokens = torch.cat([before, words[..., None]], dim=-1)
    if config.groups > 1:
        parents = parents + width * torch.arange(config.groups, device=writer.device)[:, None]
    words, parents = words.flatten(2), parents.flatten(2)  # (N, M, K)
    writer.reorder(parents)
    writer.words = words.flatten(1)
    step = Step(
        words,
        parents,
        word_log_p.flatten(2),
        end.flatten(2),
        attention.unflatten(1, words.shape[1:]),
        alternatives,
    )
    return beams._replace(total=live, tokens=tokens), step, _Offers(beams.total, end, chosen, live)


def _choose(ranked: Tensor, over: Tensor, config: DecodingConfig) -> tuple[Tensor, Tensor]:
    """The best next words of each group.

    Args:
        ranked: (N, M, G, W, V) what a word is worth; -inf for what may not be written.
        over: (N, M, G) groups that cost the others nothing.
        config: How many groups there are, and what they cost each other.

    Returns:
        What the best W are worth, and where they stand, (N, M, G, W): word v of beam w is at w V + v.
    """
    width, vocabulary = ranked.shape[3:]
    best: list[tuple[Tensor, Tensor]] = []
    taken = None
    for group, own in enumerate(ranked.split(1, dim=2)):
        if taken is not None:
            own = own - config.diversity * taken[..., None, :]
        own = own.flatten(3)  # (N, M, 1, W V)
        # `max` gives the first of equal ones, as greedy decoding does; of `topk` that is not said.
        best.append(tuple(own.max(dim=-1, keepdim=True)) if width == 1 else tuple(own.topk(width, dim=-1)))
        if group + 1 < config.groups:
            chosen, at = best[-1]
            taken = torch.zeros_like(ranked[:, :, :1, 0]) if taken is None else taken  # (N, M, 1, V)
            counts = (chosen > -torch.inf) & ~over[:, :, group, None, None]
            taken = taken.scatter_add(3, at % vocabulary, counts.to(taken))
    if config.groups == 1:
        return best[0]
    return torch.cat([chosen for chosen, _ in best], dim=2), torch.cat([at for _, at in best], dim=2)


def _let_in(beams: _Beams, offers: list[_Offers], config: DecodingConfig, *, steps: int) -> _Beams:
    """The beams with what ended in the last steps in their pools, and with the groups that are over now.

    Args:
        beams: After those steps, with the pools from before them.
        offers: Of those steps.
        config: How texts are ranked.
        steps: All that there have been.
    """
    width = beams.pool.shape[3]
    total, end, chosen, live = (torch.stack(each, dim=3) for each in zip(*offers, strict=True))
    # (N, M, G, T', W) each
    length = torch.arange(steps - len(offers) + 1, steps + 1, device=end.device)  # the end counted
    sums = total + end
    worth = torch.cat([end if width == 1 else sums, chosen], dim=-1)
    beam = worth.sort(dim=-1, descending=True, stable=True).indices[..., :width]  # >= W: that is no end
    ended = score(sums, length[:, None], config.length_penalty).gather(-1, beam.clamp(max=width - 1))
    ended = ended.where(beam < width, -torch.inf)
    first = width * torch.arange(config.groups, device=end.device)[:, None, None]  # beam of each group
    place = (length[:, None] - 1) * config.beams + first + beam

    # The pool as it is after each step: of what was offered up to then.
    every = torch.cat([beams.pool, ended.flatten(3)], dim=-1)  # (N, M, G, W + T' W)
    step = torch.arange(every.shape[-1], device=end.device) // width  # 0: the pool
    later = step > torch.arange(1, len(offers) + 1, device=end.device)[:, None]
    pools, order = every[..., None, :].masked_fill(later, -torch.inf).topk(width, dim=-1)
    best = score(live.amax(dim=-1), length, config.length_penalty)
    ends = pools[..., -1] >= best  # (N, M, G, T'); where no beam lives too
    over = ends.any(dim=-1)
    last = ends.byte().argmax(dim=-1).where(over, len(offers) - 1)  # the first that is final, or the last
    last = last[..., None, None].expand(-1, -1, -1, 1, width)
    pool, order = pools.gather(3, last).squeeze(3), order.gather(3, last).squeeze(3)
    places = torch.cat([beams.place, place.flatten(3)], dim=-1).gather(-1, order)
    stays = beams.over[..., None]
    return beams._replace(
        pool=beams.pool.where(stays, pool), place=beams.place.where(stays, places), over=beams.over | over
    )


def _pack(
    writer: Writer, rows: Rows, beams: _Beams, studies: Tensor, sections: Tensor
) -> tuple[Rows, _Beams]:
    """Goes on with some studies (N',) and, of those, some sections (N', M') alone."""
    at = studies[:, None], sections
    beams = map_tensors(beams, lambda tensor: tensor[at])
    copies = torch.arange(writer.copies, device=writer.device)
    writer.keep(studies, (sections[..., None] * writer.copies + copies).flatten(1))
    return Rows(rows.studies[studies], rows.sections[at]), beams
