"""Beam search and diverse beam search over all studies and sections together.

At each step every live beam offers its likeliest next words. Of all that a group of beams is offered, the
best by log p count, as many as it has beams: those of them that end go to the group's pool, ranked by their
score, and the next best live on in their places. So a group keeps all its live beams until it is over: when
its pool is full, and no live beam has a better score now than the pool's worst [1, `early_stopping=False`].
With a length penalty of 0 nothing better can come after that. At the limit live beams are ranked as they are:
there is always a text.

Plain beam search has one group. Of several groups [2] each searches by itself, one after the other at each
step, and a word costs it `diversity` for each beam of the groups before it that has just taken it (Hamming
diversity). The cost steers that choice only; what is summed up and ranked is log p.

The search waits for the device once in `CHECK_EVERY` steps. Sections that are over then leave the work, if
that makes it a good deal smaller.

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
from mdnet.inference.writing import CHECK_EVERY, Writer, score

__all__ = ["search_beams"]

_WORTH_LEAVING = 0.75  # rows are packed where no more than this share of them is left


class _Beams(NamedTuple):
    """The search in the rows at work: N studies, M sections of each, G groups of W beams, K = G W.

    Attributes:
        total: (N, M, G, W) log p of each live beam; -inf where there is none.
        pool: (N, M, G, W) scores of the best texts that ended, best first; -inf where there are fewer.
        place: (N, M, G, W) where those are: words before the end, times K, plus the beam.
        over: (N, M, G) whether a group's pool is final.
        tokens: (N, M, K, t) what each beam has written; of no word unless repeats are blocked.
    """

    total: Tensor
    pool: Tensor
    place: Tensor
    over: Tensor
    tokens: Tensor


class _Choice(NamedTuple):
    """What a group's beams do next.

    Attributes:
        words: (N, M, W) the words that live beams take.
        parents: (N, M, W) the beams of the group that they were.
        log_p: (N, M, W) log p of the words.
        total: (N, M, W) log p of the beams now.
        ended: (N, M, W) log p of texts that end here, end included; -inf for what does not.
        ended_parents: (N, M, W) the beams that those were.
    """

    words: Tensor
    parents: Tensor
    log_p: Tensor
    total: Tensor
    ended: Tensor
    ended_parents: Tensor


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
    no_words = rows.sections.new_zeros(*shape[:2], config.beams, 0)
    places = torch.zeros(shape, dtype=torch.long, device=writer.device)
    beams = _Beams(
        total, nothing, places, torch.zeros(shape[:3], dtype=torch.bool, device=writer.device), no_words
    )
    pool, place = nothing.flatten(2).clone(), places.flatten(2).clone()  # (B, S, K), of what left the work

    paths = BeamPaths(writer.end_id, writer.pad_id)
    paths.work_on(rows)
    for t in range(limit):
        beams, step = _advance(writer, beams, config, t)
        paths.add(step)
        if t % CHECK_EVERY == CHECK_EVERY - 1 and t + 1 < limit:
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
    unended = score(beams.total, t + 1, config.length_penalty).where(~beams.over[..., None], -torch.inf)
    beam = torch.arange(config.beams, device=writer.device).view(shape[2:])
    found, found_place = _merged(beams.pool, beams.place, unended, (t + 1) * config.beams + beam)
    pool[rows.at], place[rows.at] = found.flatten(2), found_place.flatten(2)
    pool, order = pool.sort(dim=2, descending=True, stable=True)
    place = place.gather(2, order)
    paths.follow(place // config.beams, place % config.beams, pool)
    return paths


def _advance(writer: Writer, beams: _Beams, config: DecodingConfig, t: int) -> tuple[_Beams, Step]:
    """One more word of every live beam; `writer` is left in the state of the new ones."""
    _, sections, groups, width = beams.total.shape
    log_p, attention = writer.advance()  # (N, R, V), (N, R, P)
    log_p = log_p.unflatten(1, (sections, groups * width))
    scores = writer.scores(log_p, beams.tokens, no_repeat_ngram=config.no_repeat_ngram)
    choices: list[_Choice] = []
    taken = None
    for group in range(groups):
        own = slice(group * width, (group + 1) * width)
        cost = None if taken is None else config.diversity * taken[:, :, None]
        choice = _choose(scores[:, :, own], beams.total[:, :, group], writer.end_id, cost=cost)
        choices.append(choice)
        if group + 1 < groups:
            taken = torch.zeros_like(log_p[:, :, 0]) if taken is None else taken
            counts = (choice.total > -torch.inf) & ~beams.over[:, :, group, None]
            taken = taken.scatter_add(2, choice.words, counts.to(taken))
    if groups == 1:
        chosen = map_tensors(choices[0], lambda tensor: tensor[:, :, None])
    else:
        chosen = _Choice(*(torch.stack(members, dim=2) for members in zip(*choices, strict=True)))

    first = width * torch.arange(groups, device=writer.device)[:, None]  # each group's first beam
    ended = score(chosen.ended, t + 1, config.length_penalty).where(~beams.over[..., None], -torch.inf)
    pool, place = _merged(beams.pool, beams.place, ended, t * config.beams + first + chosen.ended_parents)
    best = score(chosen.total.amax(dim=-1), t + 1, config.length_penalty)
    over = beams.over | (pool[..., -1] >= best)  # where no beam lives too

    words, parents = chosen.words.flatten(2), (first + chosen.parents).flatten(2)  # (N, M, K)
    tokens = beams.tokens
    if config.no_repeat_ngram:
        before = tokens.gather(2, parents[..., None].expand(-1, -1, -1, t))
        tokens = torch.cat([before, words[..., None]], dim=-1)
    writer.reorder(parents)
    writer.words = words.flatten(1)
    alternatives = writer.likeliest(log_p, config.alternatives) if config.alternatives else None
    step = Step(
        words,
        parents,
        chosen.log_p.flatten(2),
        log_p[..., writer.end_id].clone(),  # of a step's log p nothing else is kept
        attention.unflatten(1, words.shape[1:]),
        alternatives,
    )
    return _Beams(chosen.total, pool, place, over, tokens), step


def _choose(scores: Tensor, total: Tensor, end_id: int, *, cost: Tensor | None) -> _Choice:
    """The best next words of a group.

    Args:
        scores: (N, M, W, V) log p of next words; -inf for what may not be written.
        total: (N, M, W) log p of the beams.
        end_id: The end token.
        cost: (N, M, 1, V), what a word costs beside.
    """
    width, vocabulary = scores.shape[2:]
    # Of a beam's words, W live on at most, and one may be the end.
    best, words = (scores if cost is None else scores - cost).topk(min(width + 1, vocabulary), dim=-1)
    # One beam is ranked by the word alone: it is greedy decoding, however sums are rounded.
    ranked = best if width == 1 else total[..., None] + best
    ranked, order = ranked.flatten(2).topk(2 * width, dim=-1)  # (N, M, 2 W), of W C
    words, parents = words.flatten(2).gather(-1, order), order // best.shape[-1]
    if cost is None:
        log_p = best.flatten(2).gather(-1, order)
    else:
        log_p = scores.flatten(2).gather(-1, parents * vocabulary + words)
    sums = ranked if cost is None and width > 1 else total.gather(-1, parents) + log_p
    ends = words == end_id
    alive, live = ranked.masked_fill(ends, -torch.inf).topk(width, dim=-1)  # the best that do not end
    return _Choice(
        words.gather(-1, live),
        parents.gather(-1, live),
        log_p.gather(-1, live),
        alive if sums is ranked else sums.gather(-1, live).where(alive > -torch.inf, -torch.inf),
        sums[..., :width].where(ends[..., :width], -torch.inf),
        parents[..., :width],
    )


def _merged(pool: Tensor, place: Tensor, scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """A pool (..., W) with others let in (..., W): the best W of both, and their places."""
    width = pool.shape[-1]
    merged, order = torch.cat([pool, scores], dim=-1).topk(width, dim=-1)
    return merged, torch.cat([place, places.expand_as(place)], dim=-1).gather(-1, order)


def _pack(
    writer: Writer, rows: Rows, beams: _Beams, studies: Tensor, sections: Tensor
) -> tuple[Rows, _Beams]:
    """Goes on with some studies (N',) and, of those, some sections (N', M') alone."""
    at = studies[:, None], sections
    beams = map_tensors(beams, lambda tensor: tensor[at])
    copies = torch.arange(writer.copies, device=writer.device)
    writer.keep(studies, (sections[..., None] * writer.copies + copies).flatten(1))
    return Rows(rows.studies[studies], rows.sections[at]), beams
