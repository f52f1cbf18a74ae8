"""Where words looked, and on what evidence: formula 5 read back, word by word, section by section.

What a word looked at is `z_t = a_t C(I)^T`, so a class's weights meet it in a sum over positions,
`w . z_t = sum_p a_t(p) w . C(I)_p`: what the word's attention rested on, exactly (`word_evidence`). It is so
whether evidence guides the attention or not.

A section's map is the mean of its words' maps, weighted by how visual each word is: by how much
log p(word) falls if the word is given no image feature (z_t = 0), times the sharpness of its map.
"The" that opens a finding already decides it and weighs much; a full stop weighs nothing [1]. Either
factor alone was measured and lies lower (docs/results.md).

References:
    1. Lu et al., "Knowing When to Look: Adaptive Attention via a Visual Sentinel for Image
       Captioning", CVPR 2017, arXiv 1612.01887 (words differ in how visual they are).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdnet.errors import ConfigurationError
from mdnet.explain.by_design import block_index
from mdnet.explain.registry import Maps, register_method
from mdnet.explain.targets import ClassTarget, ReportTarget, Scorer, SectionTarget, TextTarget, WordTarget
from mdnet.inference.sections import sharpness
from mdnet.models.image_module import ImageFeatures
from mdnet.models.mdnet import MDNet

__all__ = [
    "Reading",
    "attention",
    "read_text",
    "report_attention",
    "section_attention",
    "word_evidence",
]


@dataclass(frozen=True)
class Reading:
    """How the report LSTM looked at images while it was given a text.

    Attributes:
        features: C(I).
        guiding: (B, S, D) the class weights of each section's class, which guided its attention where the
            language module is guided.
        attention: (B, S, T, P), one map a word.
        visual: (B, S, T) how visual each word is, at least 0; 0 where there is no word.
    """

    features: ImageFeatures
    guiding: Tensor
    attention: Tensor
    visual: Tensor


@torch.inference_mode()
def read_text(model: MDNet, pixel_values: Tensor, target: TextTarget) -> Reading:
    """Gives the target's words to the model one by one, as in training, and notes where it looks."""
    report, config = model.report, model.config
    tokens = target.tokens(model, len(pixel_values), pixel_values.device)  # (B, S, T)
    assert report is not None  # or there would be no section to name
    output = model(pixel_values)
    features = output.features
    guides = model.guides(output.logits)
    prepared = model.prepare(features, guides)
    state, nothing = report.initial_state(prepared), torch.zeros_like(features.grid)
    word = torch.tensor(config.begin_ids, device=tokens.device).expand(len(tokens), -1)
    attention, visual = [], []
    for t in range(tokens.shape[-1]):
        embedded = report.embedding(word)
        blind_state, _ = report.step(embedded, state, nothing, prepared)
        blind = report.output(report.readout(blind_state)).log_softmax(dim=-1)  # (B, S, V)
        state, weights = report.step(embedded, state, features.grid, prepared)
        word = tokens[:, :, t]
        log_p = report.output(report.readout(state)).log_softmax(dim=-1)
        visual.append((log_p - blind).gather(-1, word[..., None]).squeeze(-1).clamp_min(0.0))
        attention.append(weights)
    maps = torch.stack(attention, dim=2)  # (B, S, T, P)
    peaked = sharpness(maps.flatten(0, 2).double().cpu().numpy())
    weight = torch.stack(visual, dim=2) * torch.from_numpy(peaked).to(maps).view(tokens.shape)
    return Reading(
        features,
        model.guiding_weights(features, guides),
        maps,
        weight.masked_fill(tokens == config.pad_id, 0.0),
    )


@register_method("attention", unit="share of attention", targets=(WordTarget,), by_design=True)
@torch.inference_mode()
def attention(scorer: Scorer, pixel_values: Tensor) -> Tensor:
    """Where the word looked: the attention with which the report LSTM read C(I), formula 5."""
    reading, section = _of_word(scorer, pixel_values)
    return _on_grid(reading.attention[:, section, -1], reading.features)


@register_method("word_evidence", unit="logit", targets=(WordTarget,), by_design=True)
@torch.inference_mode()
def word_evidence(
    scorer: Scorer,
    pixel_values: Tensor,
    *,
    aspect: str | None = None,
    label: str | None = None,
    against: str | None = None,
    block: str | None = None,
) -> Maps:
    """What the word's attention rested on: attention times a class's evidence, position by position.

    The map sums to `w . z_t`, the class's logit at what the word looked at, without bias.

    Args:
        scorer: Of a word.
        pixel_values: (B, channels, H, W).
        aspect: Aspect of the class; the one that guides the section unless named.
        label: Class; unless named, the contrast of the section's class, that is of the predicted one.
        against: A second class, whose evidence is taken off.
        block: Draw this block's part alone; the others' then stand beside the map.

    Raises:
        ConfigurationError: No such name, or no class named where none guides the section.
    """
    reading, section = _of_word(scorer, pixel_values)
    model, grid = scorer.model, reading.features.grid
    name = aspect or model.config.section_aspects[model.config.sections[section]]
    if label is None and (aspect is not None or against is not None or name is None):
        raise ConfigurationError("word_evidence: name the class too: label, of an aspect")
    weights = reading.guiding[:, section]  # (B, D)
    if label is not None:
        chosen = ClassTarget(name, label, against).weights(model)[1]
        assert model.heads is not None
        assert name is not None
        weights = (chosen.to(grid) @ model.heads[name].weight).expand(len(grid), -1)
    drawn = weights
    if block is not None:
        parts = list(weights.split(model.config.block_widths, dim=1))
        index = block_index(model, block)
        drawn = torch.cat([w if i == index else torch.zeros_like(w) for i, w in enumerate(parts)], dim=1)
    looked = reading.attention[:, section, -1]  # a_t (B, P)
    context = torch.einsum("bp,bpd->bd", looked, grid)  # z_t
    maps = looked * torch.einsum("bpd,bd->bp", grid, drawn)
    return Maps(
        _on_grid(maps, reading.features),
        offset=((weights - drawn) * context).sum(dim=1),
        score=(weights * context).sum(dim=1),
    )


@register_method("section_attention", unit="share of attention", targets=(SectionTarget,), by_design=True)
@torch.inference_mode()
def section_attention(scorer: Scorer, pixel_values: Tensor) -> Tensor:
    """Where the section looked: its words' attention, weighted by how visual each word is; sums to 1."""
    return _rolled(scorer, pixel_values)


@register_method("report_attention", unit="share of attention", targets=(ReportTarget,), by_design=True)
@torch.inference_mode()
def report_attention(scorer: Scorer, pixel_values: Tensor) -> Tensor:
    """Where the report looked: the attention of all its words, weighted by how visual each is; sums to 1."""
    return _rolled(scorer, pixel_values)


def _rolled(scorer: Scorer, pixel_values: Tensor) -> Tensor:
    """All words' maps in one, (B, rows, columns); where no word is visual, each weighs the same."""
    target, model = scorer.target, scorer.model
    assert isinstance(target, TextTarget)
    reading = read_text(model, pixel_values, target)
    tokens = target.tokens(model, len(pixel_values), pixel_values.device)
    words = (tokens != model.config.pad_id).to(reading.visual)
    nothing = reading.visual.sum(dim=(1, 2), keepdim=True) == 0
    weights = torch.where(nothing, words, reading.visual)
    weights = weights / weights.sum(dim=(1, 2), keepdim=True)
    return _on_grid(torch.einsum("bst,bstp->bp", weights, reading.attention), reading.features)


def _of_word(scorer: Scorer, pixel_values: Tensor) -> tuple[Reading, int]:
    """The reading of a word's section, and the section's position."""
    target, model = scorer.target, scorer.model
    assert isinstance(target, WordTarget)
    return read_text(model, pixel_values, target), model.config.sections.index(target.section)


def _on_grid(maps: Tensor, features: ImageFeatures) -> Tensor:
    """(B, P) to (B, rows, columns)."""
    return maps.unflatten(-1, (features.rows, features.columns))
